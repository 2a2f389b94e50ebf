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

from data.build import open_dataset
from data.classes import IGNORE_LABEL, VOC_CLASS_NAMES, ids_sha256
from data.features import check_ids
from data.files import write_json
from data.pictures import inline, inline_ids, whole_palette, write_page
from data.pipeline import ENCODED, READ
from data.progress import track
from data.voc2012 import Labels, find_sbd, find_voc, png_labels

NEAR = 4  # Of 64 bits of the perceptual hash: photos that a person takes for the same one.
LEAST_AGREEMENT = 0.9  # Of SBD's labels and VOC's; ours.
CHUNK = 256  # Examples that are held at a time.
WORST = 12  # Cases of a kind that are pictured; audit.json has all of them.


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


def sbd_against_voc(manual_dir: pathlib.Path) -> dict[str, Any]:
    """Originals -> how far SBD's labels agree with VOC's, on images that both have.

    Pixels that either one ignores do not count.
    """
    own, sbd = labels_of_both(manual_dir)
    both = sorted(own.ids & sbd.ids)
    num_classes = len(VOC_CLASS_NAMES)
    confusion = np.zeros((num_classes, num_classes), np.int64)
    agreement = {}
    for name in track(both, "SBD against VOC", len(both)):
        ours, theirs = read_both(name, own, sbd)
        valid = (ours != IGNORE_LABEL) & (theirs != IGNORE_LABEL)
        pairs = ours[valid].astype(int) * num_classes + theirs[valid]
        confusion += np.bincount(pairs, minlength=num_classes**2).reshape(confusion.shape)
        agreement[name] = float(np.mean(ours[valid] == theirs[valid])) if valid.any() else 1.0
    union = confusion.sum(0) + confusion.sum(1) - np.diag(confusion)
    iou = np.diag(confusion) / np.maximum(union, 1)
    return {
        "images": len(both),
        "pixels_that_agree": float(np.trace(confusion) / confusion.sum()),
        "iou": [float(value) if there else None for value, there in zip(iou, union, strict=True)],
        "least": sorted(agreement.items(), key=lambda item: item[1])[:WORST],
    }


def labels_of_both(manual_dir: pathlib.Path) -> tuple[Labels, Labels]:
    """Originals -> VOC's labels and SBD's. FileNotFoundError where no image has both."""
    voc = find_voc([manual_dir])
    own, found = png_labels(voc / "SegmentationClass"), find_sbd([manual_dir, voc])
    if not found or not own.ids & found[0].ids:
        raise FileNotFoundError(f"{manual_dir} has no image that both VOC and SBD label.")
    return own, found[0]


def read_both(name: str, own: Labels, sbd: Labels) -> tuple[np.ndarray, np.ndarray]:
    """An image's id -> VOC's label of it and SBD's. ValueError where they do not fit together."""
    labels = [
        check_ids(source.read(source.file(name)), len(VOC_CLASS_NAMES), source.file(name))
        for source in (own, sbd)
    ]
    if labels[0].shape != labels[1].shape:
        raise ValueError(
            f"{sbd.file(name)} and {own.file(name)} have other sizes: {labels[1].shape}, "
            f"{labels[0].shape}. Fetch the wrong one again."
        )
    return labels[0], labels[1]


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


def pictures(
    builder: tfds.core.DatasetBuilder, result: dict[str, Any], manual_dir: pathlib.Path | None
) -> str:
    """The worst cases of what audit found -> HTML, pictures and all."""
    palette = whole_palette(builder.info.metadata["palette"])
    wanted: dict[str, list[tuple[str, ...]]] = {}
    for split, facts in result["splits"].items():
        for kind in ("all_ignored", "out_of_range", "size_mismatch"):
            if kind != "all_ignored" or len(facts[kind]) < facts["images"]:
                cases = [(name,) for name in [*facts[kind]][:WORST]]
                wanted[f"{split}: {kind.replace('_', ' ')}"] = cases
    for pair, found in result["shared"].items():
        wanted[f"{pair}: like photos"] = [(one, other) for one, other, _ in found["near"][:WORST]]
    needed = {name for cases in wanted.values() for case in cases for name in case}
    against = result["sbd_against_voc"] or {"least": []}
    needed |= {name for name, _ in against["least"]}
    shown = dict(_decoded(builder, needed))
    sections = []
    for title, cases in wanted.items():
        rows = [
            "".join(
                f"<figure>{inline(shown[name][0])}{inline_ids(shown[name][1], palette)}"
                f"<figcaption>{html.escape(name)}</figcaption></figure>"
                for name in case
            )
            for case in cases
        ]
        if rows:
            sections.append(f"<h2>{html.escape(title)}</h2>" + "<br>".join(rows))
    if against["least"]:
        own, sbd = labels_of_both(manual_dir)
        sections.append("<h2>Least agreement: photo, VOC's label, SBD's label</h2>")
        for name, share in against["least"]:
            labels = "".join(inline_ids(label, palette) for label in read_both(name, own, sbd))
            photo = inline(shown[name][0]) if name in shown else ""
            caption = f"<figcaption>{html.escape(name)}: {100 * share:.1f} %</figcaption>"
            sections.append(f"<figure>{photo}{labels}{caption}</figure>")
    return "".join(sections)


def _decoded(builder, names):
    """(id, (image, label)) of those ids, from whichever split has them."""
    left = set(names)
    for split in builder.info.splits:
        examples = builder.as_dataset(split=split, decoders=ENCODED, read_config=READ)
        for encoded in examples.as_numpy_iterator():
            if not left:
                return
            if (name := encoded["id"].decode()) in left:
                left.remove(name)
                parts = (Image.open(io.BytesIO(encoded[part])) for part in ("image", "label"))
                yield name, tuple(np.array(part) for part in parts)


def histogram(builder: tfds.core.DatasetBuilder, result: dict[str, Any]) -> str:
    """What audit found -> an HTML table of each class's share of the pixels, and images with it."""
    names = builder.info.metadata["class_names"]
    palette = whole_palette(builder.info.metadata["palette"])
    head = "".join(f"<th>{html.escape(split)}</th>" for split in result["splits"])
    rows = []
    for i, name in enumerate(names):
        cells = []
        for facts in result["splits"].values():
            share = 100 * facts["pixels"][i] / max(1, sum(facts["pixels"]))
            cells.append(f"<td>{share:.2f} % <small>{facts['images_with'][i]} images</small></td>")
        colour = "#" + bytes(palette[i]).hex()
        swatch = f'<i style="background:{colour}"></i>'
        rows.append(f"<tr><th>{swatch}{html.escape(name)}</th>{''.join(cells)}</tr>")
    return f"<table><tr><th>class</th>{head}</tr>{''.join(rows)}</table>"


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
