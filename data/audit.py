"""Checks a data set for errors before it is used for training.

    python -m data.audit voc2012
    python -m data.audit voc2012 --manual_dir=/has/VOCdevkit    also compares SBD's labels to VOC's

It reads every image and label of the shards, prints a table, and writes audit.json and audit.html
beside the shards. The page shows samples of each class, where swapped names are seen, and the worst
cases. The exit code is 1 if it found a problem that invalidates a training run or a score. Training
runs record the hash of audit.json.
"""

import argparse
import concurrent.futures
import io
import itertools
import pathlib
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from data.terminal import counted, errors_in_a_line, make_parser, parse_early, percent, track


def define_command_line() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = make_parser("data.audit", __doc__)
    parser.add_argument("dataset", help="as in `python -m data.build`")
    parser.add_argument("--manual_dir", metavar="FOLDER", type=pathlib.Path, help="VOC's originals")
    parser.add_argument("--data_dir", metavar="FOLDER", help="TFDS data directory")
    return parser


if __name__ == "__main__":
    parse_early(define_command_line())  # Before TensorFlow is imported.

import imagehash
import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from data.audit_page import write_audit_page
from data.build import open_dataset
from data.classes import IGNORE_LABEL, ids_sha256
from data.files import write_json
from data.pipeline import READ_CONFIG, SKIP_DECODING
from data.sbd_agreement import MIN_AGREEMENT, compare_sbd_to_voc

HASH_BITS = 64
HASHED_SIZE = (32, 32)  # Of imagehash.phash, which looks at the image as gray and no larger.
MIN_DETAIL = 4  # Levels of 255; ours. Hashes of images with less are alike by chance.
MAX_HASH_DISTANCE = 4  # Bits; ours. Up to here, images look the same to a person.
EXAMPLES_PER_CHUNK = 256  # In memory at a time.
NUM_SAMPLES = 3  # Images of each class on the page.
HASHES_PER_CHUNK = 4096  # Rows of the distance matrix in memory at a time.


def audit(
    builder: tfds.core.DatasetBuilder, manual_dir: pathlib.Path | None = None
) -> dict[str, Any]:
    """A data set -> the content of audit.json: statistics, images in two splits, and problems.

    Args:
      builder: the data set, with its shards built.
      manual_dir: VOC's originals, to compare SBD's labels to VOC's; None to skip that.

    Returns:
      {dataset, splits: {split: statistics}, shared: {pair of splits: {ids, near}},
      sbd_against_voc, problems}, where near lists images that look the same.
    """
    against = compare_sbd_to_voc(manual_dir) if manual_dir else None
    splits, ids, hashes = {}, {}, {}
    for split in builder.info.splits:
        examples = list(inspect_split(builder, split))
        ids[split] = {example["id"] for example in examples}
        hashes[split] = {
            example["id"]: example["hash"] for example in examples if example["hash"] is not None
        }
        splits[split] = summarize_split(builder, split, examples)
    shared = {
        f"{train} and {scored}": {
            "ids": sorted(ids[train] & ids[scored]),
            "near": find_near_duplicates(hashes[train], hashes[scored]),
        }
        for train, scored in split_pairs(ids)
    }
    result = {"dataset": builder.info.full_name, "splits": splits, "shared": shared}
    result["sbd_against_voc"] = against
    return {**result, "problems": find_problems(result)}


def inspect_split(builder: tfds.core.DatasetBuilder, split: str) -> Iterator[dict[str, Any]]:
    """A split -> for each example its id, perceptual hash, sizes, pixel counts and wrong ids.

    The hash of a blank image is None: all of them have nearly the same one.
    """
    num_classes = len(builder.info.metadata["class_names"])

    def inspect(encoded):
        image = Image.open(io.BytesIO(encoded["image"])).convert("RGB")
        small = image.convert("L").resize(HASHED_SIZE, Image.Resampling.LANCZOS)
        label = np.array(Image.open(io.BytesIO(encoded["label"])))
        counts = np.bincount(label.ravel(), minlength=256)
        wrong = np.flatnonzero(counts[num_classes:IGNORE_LABEL]) + num_classes
        return {
            "id": encoded["id"].decode(),
            "hash": imagehash.phash(small).hash.ravel() if detail_of(small) >= MIN_DETAIL else None,
            "sizes": (image.size, label.shape[::-1]),
            "counts": counts,
            "wrong": wrong.tolist(),
        }

    examples = builder.as_dataset(split=split, decoders=SKIP_DECODING, read_config=READ_CONFIG)
    total = builder.info.splits[split].num_examples
    with concurrent.futures.ThreadPoolExecutor() as pool:
        iterator = track(examples.as_numpy_iterator(), f"auditing {split}", total)
        # In chunks, because pool.map would read the whole split at once.
        while chunk := list(itertools.islice(iterator, EXAMPLES_PER_CHUNK)):
            yield from pool.map(inspect, chunk)


def detail_of(image: Image.Image) -> float:
    """A gray image -> the standard deviation of what is not alike in all rows or all columns.

    It is 0 for one color, for an edge along a side, and for a gradient.
    """
    levels = np.asarray(image, np.float64)
    rows, columns = levels.mean(1, keepdims=True), levels.mean(0)
    return float((levels - rows - columns + levels.mean()).std())


def summarize_split(
    builder: tfds.core.DatasetBuilder, split: str, examples: list[dict[str, Any]]
) -> dict[str, Any]:
    """A split's inspected examples -> its statistics in audit.json.

    Args:
      builder: the data set.
      split: name of the split.
      examples: the results of inspect_split.

    Returns:
      The number of images, the hash of their ids, pixels and images of each class, ids of images
      that show each class, the share of ignored pixels, and the ids of blank and faulty examples.
    """
    num_classes = len(builder.info.metadata["class_names"])
    num_examples = builder.info.splits[split].num_examples
    pixels = np.sum([example["counts"] for example in examples], axis=0)
    images = np.sum([example["counts"] > 0 for example in examples], axis=0)
    return {
        "images": len(examples),
        "official": getattr(builder, "SPLIT_SIZES", {}).get(split, num_examples),
        "ids_sha256": ids_sha256({example["id"] for example in examples}),
        "official_ids_sha256": getattr(builder, "SPLIT_IDS_SHA256", {}).get(split),
        "pixels": pixels[:num_classes].tolist(),
        "images_with": images[:num_classes].tolist(),
        "blank": [example["id"] for example in examples if example["hash"] is None],
        "samples": [select_samples(examples, class_id) for class_id in range(num_classes)],
        "ignored": float(pixels[IGNORE_LABEL] / pixels.sum()),
        "all_ignored": [
            example["id"]
            for example in examples
            if example["counts"][IGNORE_LABEL] == sum(example["counts"])
        ],
        "out_of_range": {
            example["id"]: example["wrong"] for example in examples if example["wrong"]
        },
        "size_mismatch": {
            example["id"]: example["sizes"] for example in examples if len({*example["sizes"]}) > 1
        },
    }


def select_samples(examples: list[dict[str, Any]], class_id: int) -> list[str]:
    """Inspected examples -> ids of NUM_SAMPLES images of a class: those that it covers most."""

    def share(example):
        return example["counts"][class_id] / example["counts"].sum()

    most = sorted(examples, key=share, reverse=True)[:NUM_SAMPLES]
    return [example["id"] for example in most if share(example)]


def split_pairs(splits: Iterable[str]) -> list[tuple[str, str]]:
    """Splits -> the pairs that must not share images: all but pairs of two training splits."""
    return [
        (one, other)
        for one, other in itertools.combinations(splits, 2)
        if not (one.startswith("train") and other.startswith("train"))
        and {one, other} != {"trainval", "val"}
    ]


def find_near_duplicates(
    train: dict[str, np.ndarray], scored: dict[str, np.ndarray]
) -> list[tuple[str, str, int]]:
    """Two splits' hashes [64] bool by id -> near pairs: (id, other id, distance), nearest first.

    A pair is near if its hashes differ in at most MAX_HASH_DISTANCE bits.
    """
    ours, theirs = (
        np.array([*hashes.values()], np.float32).reshape(-1, HASH_BITS) * 2 - 1
        for hashes in (train, scored)
    )
    train_ids, scored_ids = list(train), list(scored)
    pairs = []
    for begin in range(0, len(ours), HASHES_PER_CHUNK):
        distances = (HASH_BITS - ours[begin : begin + HASHES_PER_CHUNK] @ theirs.T) / 2
        for i, j in np.argwhere(distances <= MAX_HASH_DISTANCE):
            pairs.append((train_ids[begin + i], scored_ids[j], int(distances[i, j])))
    return sorted(pairs, key=lambda pair: (pair[2], pair))


def find_problems(result: dict[str, Any]) -> list[str]:
    """Content of audit.json -> a line for each problem that invalidates a run or a score."""
    lines = []
    for split, facts in result["splits"].items():
        official = facts["official_ids_sha256"]
        if official and facts["images"] == facts["official"] and facts["ids_sha256"] != official:
            lines.append(f"{split}: as large as the official split, but with other images")
        # If all are ignored, the split's labels are not published.
        if 0 < len(facts["all_ignored"]) < facts["images"]:
            lines.append(f"{split}: {counted(facts['all_ignored'], 'image')} with labels all 255")
        for kind in ("out_of_range", "size_mismatch"):
            if facts[kind]:
                lines.append(
                    f"{split}: {counted(facts[kind], 'label')} with {kind.replace('_', ' ')}"
                )
    for pair, found in result["shared"].items():
        if found["ids"]:
            lines.append(f"{pair} share {counted(found['ids'], 'id')}")
        same = [names for names in found["near"] if names[2] == 0]
        if same:
            lines.append(f"{pair} share {counted(same, 'image')}, by perceptual hash")
    against = result["sbd_against_voc"]
    if against and against["pixels_that_agree"] < MIN_AGREEMENT:
        lines.append(f"SBD and VOC agree on only {percent(against['pixels_that_agree'])} %")
    return lines


def format_summary(result: dict[str, Any]) -> str:
    """Content of audit.json -> the table to print."""
    lines = []
    for split, facts in result["splits"].items():
        partial = "" if facts["images"] == facts["official"] else f" of {facts['official']}"
        lines.append(
            f"{split:14}{counted(facts['images'], 'image')}{partial}, "
            f"{100 * facts['ignored']:.1f} % ignored, "
            f"{sum(pixels > 0 for pixels in facts['pixels'])} of {len(facts['pixels'])} classes; "
            f"{len(facts['all_ignored'])} all 255, {len(facts['out_of_range'])} out of range, "
            f"{counted(facts['size_mismatch'], 'size mismatch', 'size mismatches')}"
        )
        if blank := facts["blank"]:
            lines.append(
                f"{'':14}{counted(blank, 'image')} of one color, a gradient or little else, not "
                "compared with other splits"
            )
    for pair, found in result["shared"].items():
        lines.append(
            f"{pair}: {counted(found['ids'], 'shared id')}, "
            f"{counted(found['near'], 'similar image')}"
        )
    if against := result["sbd_against_voc"]:
        lines.append(
            f"SBD against VOC: {counted(against['images'], 'image')}, "
            f"{percent(against['pixels_that_agree'])} % of the pixels agree"
        )
    lines += [f"problem: {line}" for line in result["problems"]] or ["no problems"]
    return "\n".join(lines)


def main() -> None:
    arguments = define_command_line().parse_args()
    with errors_in_a_line():
        builder = open_dataset(arguments.dataset, arguments.data_dir)
        result = audit(builder, arguments.manual_dir)
        summary = format_summary(result)
        folder = pathlib.Path(builder.data_dir)
        write_json(folder / "audit.json", result)
        write_audit_page(folder / "audit.html", builder, result, summary, arguments.manual_dir)
    print(summary)
    print(f"-> {folder / 'audit.json'}, {folder / 'audit.html'}")
    sys.exit(1 if result["problems"] else 0)


if __name__ == "__main__":
    main()
