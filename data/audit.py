"""What is wrong with a data set, before a run is spent on it.

    python -m data.audit voc2012
    python -m data.audit voc2012 --manual_dir=/has/VOCdevkit    also SBD's labels against VOC's

It reads every image and label of the shards, prints a table, and writes audit.json and audit.html,
with the worst cases as pictures, beside the shards. The exit code is 1 where something was found
that spoils a training or a score. Runs record the hash of audit.json.
"""

import argparse
import concurrent.futures
import html
import io
import itertools
import pathlib
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import imagehash
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from data.audit_page import histogram, pictures
from data.build import open_dataset
from data.classes import IGNORE_LABEL, ids_sha256
from data.files import write_json
from data.pictures import write_page
from data.pipeline import ENCODED, READ
from data.sbd_agreement import LEAST_AGREEMENT, sbd_against_voc
from data.terminal import track

NEAR = 4  # Of 64 bits of the perceptual hash: photos that a person takes for the same one.
CHUNK = 256  # Examples that are held at a time.


def audit(
    builder: tfds.core.DatasetBuilder, manual_dir: pathlib.Path | None = None
) -> dict[str, Any]:
    """A data set -> what audit.json holds: facts by split, what two splits share, and problems.

    manual_dir: VOC's originals, to hold SBD's labels against VOC's.
    """
    against = sbd_against_voc(manual_dir) if manual_dir else None
    splits, photos = {}, {}
    num_classes = len(builder.info.metadata["class_names"])
    for split, info in builder.info.splits.items():
        examples = list(inspected(builder, split, num_classes))
        photos[split] = {one["id"]: one["hash"] for one in examples}
        counts = np.sum([one["counts"] for one in examples], axis=0)
        images = np.sum([one["counts"] > 0 for one in examples], axis=0)
        splits[split] = {
            "images": len(examples),
            "official": getattr(builder, "SPLIT_SIZES", {}).get(split, info.num_examples),
            "ids_sha256": ids_sha256(photos[split]),
            "official_ids_sha256": getattr(builder, "SPLIT_IDS_SHA256", {}).get(split),
            "pixels": counts[:num_classes].tolist(),
            "images_with": images[:num_classes].tolist(),
            "ignored": float(counts[IGNORE_LABEL] / counts.sum()),
            "all_ignored": [
                one["id"] for one in examples if one["counts"][IGNORE_LABEL] == sum(one["counts"])
            ],
            "out_of_range": {one["id"]: one["wrong"] for one in examples if one["wrong"]},
            "size_mismatch": {
                one["id"]: one["sizes"] for one in examples if len({*one["sizes"]}) > 1
            },
        }
    shared = {
        f"{train} and {scored}": {
            "ids": sorted(photos[train].keys() & photos[scored].keys()),
            "near": near_duplicates(photos[train], photos[scored]),
        }
        for train, scored in compared(photos)
    }
    result = {"dataset": builder.info.full_name, "splits": splits, "shared": shared}
    result["sbd_against_voc"] = against
    return {**result, "problems": problems(result)}


def inspected(
    builder: tfds.core.DatasetBuilder, split: str, num_classes: int
) -> Iterator[dict[str, Any]]:
    """The split's examples, each as its id, perceptual hash, sizes, and pixels of each id."""

    def inspect(encoded):
        image = Image.open(io.BytesIO(encoded["image"])).convert("RGB")
        label = np.array(Image.open(io.BytesIO(encoded["label"])))
        counts = np.bincount(label.ravel(), minlength=256)
        wrong = np.flatnonzero(counts[num_classes:IGNORE_LABEL]) + num_classes
        return {
            "id": encoded["id"].decode(),
            "hash": imagehash.phash(image).hash.ravel(),
            "sizes": (image.size, label.shape[::-1]),
            "counts": counts,
            "wrong": wrong.tolist(),
        }

    examples = builder.as_dataset(split=split, decoders=ENCODED, read_config=READ)
    total = builder.info.splits[split].num_examples
    with concurrent.futures.ThreadPoolExecutor() as pool:
        iterator = track(examples.as_numpy_iterator(), f"auditing {split}", total)
        while some := list(itertools.islice(iterator, CHUNK)):  # A pool would read all at once.
            yield from pool.map(inspect, some)


def compared(splits: Iterable[str]) -> list[tuple[str, str]]:
    """Which splits must not share images: all but those to train on among themselves."""
    return [
        (one, other)
        for one, other in itertools.combinations(splits, 2)
        if not (one.startswith("train") and other.startswith("train"))
        and {one, other} != {"trainval", "val"}
    ]


def near_duplicates(
    train: dict[str, np.ndarray], scored: dict[str, np.ndarray]
) -> list[tuple[str, str, int]]:
    """Two splits' hashes [64] bool by id -> pairs of ids that are NEAR, and how far apart."""
    ours, theirs = (np.array([*hashes.values()], np.float32) * 2 - 1 for hashes in (train, scored))
    names, others = list(train), list(scored)
    pairs = []
    for begin in range(0, len(ours), 4096):
        distances = (64 - ours[begin : begin + 4096] @ theirs.T) / 2
        for i, j in np.argwhere(distances <= NEAR):
            pairs.append((names[begin + i], others[j], int(distances[i, j])))
    return sorted(pairs, key=lambda pair: (pair[2], pair))


def problems(result: dict[str, Any]) -> list[str]:
    """What audit found -> a line for each thing that spoils a training or a score."""
    lines = []
    for split, facts in result["splits"].items():
        official = facts["official_ids_sha256"]
        if official and facts["images"] == facts["official"] and facts["ids_sha256"] != official:
            lines.append(f"{split}: as many images as the official one has, but others")
        # Where all are, there are no published labels.
        if 0 < len(facts["all_ignored"]) < facts["images"]:
            lines.append(f"{split}: {len(facts['all_ignored'])} images that are all 255")
        for kind in ("out_of_range", "size_mismatch"):
            if facts[kind]:
                lines.append(f"{split}: {len(facts[kind])} labels with {kind.replace('_', ' ')}")
    for pair, found in result["shared"].items():
        if found["ids"]:
            lines.append(f"{pair} share {len(found['ids'])} ids")
        same = [names for names in found["near"] if names[2] == 0]
        if same:
            lines.append(f"{pair} share {len(same)} photos, by their perceptual hash")
    against = result["sbd_against_voc"]
    if against and against["pixels_that_agree"] < LEAST_AGREEMENT:
        lines.append(f"SBD and VOC agree on {100 * against['pixels_that_agree']:.1f} % only")
    return lines


def summary(result: dict[str, Any]) -> str:
    """What audit found -> the table that is printed."""
    lines = []
    for split, facts in result["splits"].items():
        partial = "" if facts["images"] == facts["official"] else f" of {facts['official']}"
        lines.append(
            f"{split:14}{facts['images']} images{partial}, {100 * facts['ignored']:.1f} % ignored, "
            f"{sum(pixels > 0 for pixels in facts['pixels'])} of {len(facts['pixels'])} classes; "
            f"{len(facts['all_ignored'])} all 255, {len(facts['out_of_range'])} out of range, "
            f"{len(facts['size_mismatch'])} of another size"
        )
    for pair, found in result["shared"].items():
        lines.append(f"{pair}: {len(found['ids'])} common ids, {len(found['near'])} like photos")
    if against := result["sbd_against_voc"]:
        lines.append(
            f"SBD against VOC: {against['images']} images, "
            f"{100 * against['pixels_that_agree']:.2f} % of the pixels agree"
        )
    lines += [f"problem: {line}" for line in result["problems"]] or ["no problems"]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m data.audit",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("dataset", help="as in `python -m data.build`")
    parser.add_argument("--manual_dir", metavar="FOLDER", type=pathlib.Path, help="VOC's originals")
    parser.add_argument("--data_dir", metavar="FOLDER", help="where the shards are")
    arguments = parser.parse_args()
    try:
        builder = open_dataset(arguments.dataset, arguments.data_dir)
        result = audit(builder, arguments.manual_dir)
        folder = pathlib.Path(builder.data_dir)
        write_json(folder / "audit.json", result)
        body = f"<pre>{html.escape(summary(result))}</pre>{histogram(builder, result)}"
        body += pictures(builder, result, arguments.manual_dir)
        write_page(folder / "audit.html", f"Audit of {builder.info.full_name}", body)
    except (ValueError, OSError, tf.errors.OpError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("\nStopped; nothing was written.")
    print(summary(result))
    print(f"-> {folder / 'audit.json'}, {folder / 'audit.html'}")
    sys.exit(1 if result["problems"] else 0)


if __name__ == "__main__":
    main()
