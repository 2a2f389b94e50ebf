"""Two evaluations of the same images -> their difference, and whether it is significant.

    python -m experiments.compare runs/a runs/b
    python -m experiments.compare runs/a runs/a/eval_val_os8.json --mix_protocols

It resamples the images, the same ones for both (a paired bootstrap), and prints the differences of
mIoU and of the classes' IoU with 95% intervals, and the images that changed most. These intervals
are over images alone: two training runs differ by their seeds, too, which experiments.report counts
in. Evaluations under different protocols, such as one run at two output strides, need
--mix_protocols.
"""

import argparse
import pathlib
from typing import Any

from data.terminal import (
    errors_in_a_line,
    interval_text,
    make_parser,
    percent,
    signed_percent,
    table,
)


def define_command_line() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = make_parser("experiments.compare", __doc__)
    parser.add_argument("first", type=pathlib.Path, help="run folder, or a JSON from eval.py")
    parser.add_argument(
        "second", type=pathlib.Path, help="likewise; differences are second - first"
    )
    parser.add_argument(
        "--mix_protocols", action="store_true", help="compare evaluations of different protocols"
    )
    return parser


if __name__ == "__main__":
    define_command_line().parse_args()  # Before the imports below, which take a second.

import numpy as np

from evaluation.counts import Counts
from evaluation.metrics import interval, iou_per_class, mean_iou, mean_over_classes, resampled_ious
from evaluation.results import read_evaluation

NUM_SHOWN = 10  # Images listed.


def check_protocols(first: dict[str, Any], second: dict[str, Any], *, mix: bool = False) -> str:
    """Two evaluations -> the differences between their protocols, a line each.

    Raises ValueError if the classes differ, or if anything does and mix does not allow it.
    """
    if list(first["iou_per_class"]) != list(second["iou_per_class"]):
        raise ValueError("The evaluations have different classes and cannot be compared.")
    ours, theirs = first["protocol"], second["protocol"]
    differ = [k for k in sorted(ours | theirs) if ours.get(k) != theirs.get(k) and k != "hash"]
    lines = "\n".join(f"  {k}: {ours.get(k)}, {theirs.get(k)}" for k in differ)
    if differ and not mix:
        raise ValueError(
            f"The evaluations have different protocols:\n{lines}\n"
            "--mix_protocols compares them anyway."
        )
    return f"Different protocols:\n{lines}\n" if differ else ""


def differences(ours: Counts, theirs: Counts) -> tuple[np.ndarray, np.ndarray]:
    """Two counts of the same images -> [C + 1] their IoU minus ours, and [C + 1, 2] intervals.

    mIoU comes last. The intervals cover 95% of the differences over resampled images, the same ones
    for both. NaN for a class without an IoU. Raises ValueError if the images are not the same.
    """
    if ours.ids != theirs.ids or ours.labels_sha256 != theirs.labels_sha256:
        raise ValueError("The evaluations are not of the same images and labels.")

    def with_mean(ious):
        return np.append(ious, mean_over_classes(ious)[..., None], axis=-1)

    pair = [counts.confusions for counts in (ours, theirs)]
    whole = [with_mean(iou_per_class(confusions.sum(0))) for confusions in pair]
    drawn = [with_mean(resampled_ious(confusions)) for confusions in pair]
    intervals = np.array([interval(values) for values in (drawn[1] - drawn[0]).T])
    return whole[1] - whole[0], intervals


def compare(ours: Counts, theirs: Counts, class_names: list[str]) -> str:
    """Two counts of the same images, and the classes -> a text on their difference, in percent."""
    change, bounds = differences(ours, theirs)
    low, high = bounds[-1]
    verdict = "significant" if low > 0 or high < 0 else "inconclusive"
    iou = [iou_per_class(counts.confusions.sum(0)) for counts in (ours, theirs)]
    classes = [
        [name, percent(a), percent(b), signed_percent(d), interval_text(pair, signed=True)]
        for name, a, b, d, pair in zip(class_names, *iou, change[:-1], bounds[:-1], strict=True)
    ]
    each = [np.array([mean_iou(c) for c in counts.confusions]) for counts in (ours, theirs)]
    changes = each[1] - each[0]
    largest = np.argsort(-np.abs(np.nan_to_num(changes)), kind="stable")[:NUM_SHOWN]
    images = [
        [ours.ids[i], percent(each[0][i]), percent(each[1][i]), signed_percent(changes[i])]
        for i in largest
    ]
    header = ["first", "second", "difference"]
    return "\n".join(
        [
            table([["class", *header, "95% interval"], *classes]),
            "",
            table([["images that changed most", *header], *images]),
            "",
            f"mIoU: {signed_percent(change[-1])}, 95% interval over images "
            f"{interval_text(bounds[-1], signed=True)}: {verdict}",
        ]
    )


def main() -> None:
    arguments = define_command_line().parse_args()
    with errors_in_a_line():
        evaluations = [read_evaluation(path) for path in (arguments.first, arguments.second)]
        (ours, our_counts), (theirs, their_counts) = evaluations
        print(check_protocols(ours, theirs, mix=arguments.mix_protocols), end="")
        for name, path, result in (
            ("first ", arguments.first, ours),
            ("second", arguments.second, theirs),
        ):
            print(f"{name}: mIoU {percent(result['miou'])}, {path}, step {result['step']}")
        print()
        print(compare(our_counts, their_counts, list(ours["iou_per_class"])))


if __name__ == "__main__":
    main()
