"""Two evaluations of the same images -> their difference, and whether it is more than chance.

    python -m experiments.compare runs/a runs/b
    python -m experiments.compare runs/a runs/a/eval_val_os8.json      one run, two ways

It resamples the images, the same ones for both (a paired bootstrap), and prints the difference of
mIoU and of each class, with 95 % intervals, and the images that moved most. Evaluations under
different protocols are refused, unless --mix_protocols says that this is the question.
"""

import argparse
import pathlib
import sys
from typing import Any

import numpy as np

from data.terminal import table
from evaluation.counts import Counts
from evaluation.metrics import interval, iou_per_class, mean_iou, mean_over_classes, resampled_ious
from evaluation.results import read_evaluation

MOVED = 10  # Images listed.


def check_protocols(first: dict[str, Any], second: dict[str, Any], *, mix: bool = False) -> str:
    """Two evaluations -> what differs in their protocols, a line each.

    Raises ValueError where anything does, unless mix allows it, and where the classes do.
    """
    if list(first["iou_per_class"]) != list(second["iou_per_class"]):
        raise ValueError("They are of different classes, and cannot be compared.")
    ours, theirs = first["protocol"], second["protocol"]
    differ = [k for k in sorted(ours | theirs) if ours.get(k) != theirs.get(k) and k != "hash"]
    lines = "\n".join(f"  {k}: {ours.get(k)}, {theirs.get(k)}" for k in differ)
    if differ and not mix:
        raise ValueError(
            f"They were scored under different protocols:\n{lines}\n"
            "--mix_protocols compares them all the same."
        )
    return f"Under different protocols:\n{lines}\n" if differ else ""


def differences(ours: Counts, theirs: Counts) -> tuple[np.ndarray, np.ndarray]:
    """Two counts of the same images -> [C + 1] theirs less ours in IoU, and [C + 1, 2] intervals.

    mIoU comes last. The intervals hold 95 % of the differences over resampled images, the same ones
    for both. NaN for a class that one of them has not seen. Raises ValueError where the images are
    not the same.
    """
    if ours.ids != theirs.ids or ours.labels_sha256 != theirs.labels_sha256:
        raise ValueError("They are not of the same images and labels.")

    def with_mean(ious):
        return np.append(ious, mean_over_classes(ious)[..., None], axis=-1)

    pair = [counts.confusions for counts in (ours, theirs)]
    whole = [with_mean(iou_per_class(confusions.sum(0))) for confusions in pair]
    drawn = [with_mean(resampled_ious(confusions)) for confusions in pair]
    intervals = np.array([interval(values) for values in (drawn[1] - drawn[0]).T])
    return whole[1] - whole[0], intervals


def compare(ours: Counts, theirs: Counts, class_names: list[str]) -> str:
    """Two counts of the same images -> what there is to say of their difference, in percent."""
    change, bounds = differences(ours, theirs)
    low, high = bounds[-1]
    verdict = "more than chance" if low > 0 or high < 0 else "cannot be told from chance"
    iou = [iou_per_class(counts.confusions.sum(0)) for counts in (ours, theirs)]
    classes = [
        [name, percent(a), percent(b), signed(d), bounds_said(pair)]
        for name, a, b, d, pair in zip(class_names, *iou, change[:-1], bounds[:-1], strict=True)
    ]
    each = [np.array([mean_iou(c) for c in counts.confusions]) for counts in (ours, theirs)]
    moved = each[1] - each[0]
    most = np.argsort(-np.abs(np.nan_to_num(moved)), kind="stable")[:MOVED]
    images = [
        [ours.ids[i], percent(each[0][i]), percent(each[1][i]), signed(moved[i])] for i in most
    ]
    header = ["first", "second", "difference"]
    return "\n".join(
        [
            table([["class", *header, "95 % interval"], *classes]),
            "",
            table([["images that moved most", *header], *images]),
            "",
            f"mIoU: {signed(change[-1])}, 95 % interval {bounds_said(bounds[-1])}: {verdict}",
        ]
    )


def percent(value: float) -> str:
    """A fraction -> percent; `-` for NaN."""
    return "-" if np.isnan(value) else f"{100 * value:.2f}"


def signed(value: float) -> str:
    """A difference of fractions -> percent with its sign; `-` for NaN."""
    return "-" if np.isnan(value) else f"{100 * value:+.2f}"


def bounds_said(pair: np.ndarray) -> str:
    """Bounds of differences -> `-0.31 to +1.20`, in percent; `-` for NaN."""
    return "-" if np.isnan(pair).any() else " to ".join(map(signed, pair))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("first", type=pathlib.Path, help="a run's folder, or an eval....json")
    parser.add_argument("second", type=pathlib.Path)
    parser.add_argument("--mix_protocols", action="store_true")
    arguments = parser.parse_args()
    try:
        evaluations = [read_evaluation(path) for path in (arguments.first, arguments.second)]
        (ours, our_counts), (theirs, their_counts) = evaluations
        print(check_protocols(ours, theirs, mix=arguments.mix_protocols), end="")
        for name, result in (("first ", ours), ("second", theirs)):
            what = f"{result['config']['name']}, step {result['step']}"
            print(f"{name}: mIoU {percent(result['miou'])}, {what}")
        print()
        print(compare(our_counts, their_counts, list(ours["iou_per_class"])))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
