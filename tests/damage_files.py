"""Damages files at random and reads them, for tests/damaged_files_test.py.

    python -m tests.damage_files FOLDER 400

It prints {kind of file: {outcome: number of files}}, and leaves files in the folder whose outcome
is neither "read" nor "named". The memory of the process is limited.
"""

import collections
import json
import pathlib
import resource
import sys
import time
import zlib

import numpy as np
import tensorflow as tf

from data.class_file import map_to_class_ids, read_classes
from data.classes import COCO_NAMES, VOC_CLASS_NAMES
from data.coco_voc21 import draw_label, read_annotations
from data.features import make_example, read_label
from data.mask_classes import read_mask
from data.photos import read_photo
from deployment.saved_model import decode_images
from tests.image_kinds import label_kinds, photo_kinds

MAX_BYTES = 6 * 2**30  # Of address space, most of which TensorFlow reserves without using it.
MAX_SECONDS = 30  # For one file; on a busy machine it takes a few milliseconds.
CLASSES = {
    "kind": "indices",
    "classes": [{"name": f"class_{i}", "color": [i, i, 9], "value": i} for i in range(16)],
    "ignored": [255],
}
COCO_SIZE = (40, 50)
COCO = {
    "images": [{"id": 1, "file_name": "a.jpg", "height": COCO_SIZE[0], "width": COCO_SIZE[1]}],
    "categories": [
        {"id": i, "name": COCO_NAMES.get(name, name)} for i, name in enumerate(VOC_CLASS_NAMES)
    ],
    "annotations": [
        {
            "id": 5,
            "image_id": 1,
            "category_id": 8,
            "area": 1200,
            "iscrowd": 0,
            "segmentation": [[1.5, 2.5, 40, 2, 40, 30, 1, 30]],
        },
        {
            "id": 6,
            "image_id": 1,
            "category_id": 12,
            "area": 100,
            "iscrowd": 1,
            "segmentation": {"size": COCO_SIZE, "counts": [1000, 100, 900]},
        },
    ],
}


def damage(content: bytes, rng: np.random.Generator) -> bytes:
    """A file -> the same with bytes changed, moved or cut off, most of them at its start."""
    damaged = bytearray(content)
    if rng.random() < 0.3:
        del damaged[rng.integers(len(damaged)) :]
    for _ in range(rng.integers(0, 4) if damaged else 0):
        damaged[rng.integers(min(len(damaged), rng.choice([64, 10**6])))] = rng.integers(256)
    if rng.random() < 0.2:
        start = rng.integers(len(damaged) + 1)
        damaged[start : start + rng.integers(9)] = rng.bytes(rng.integers(9))
    return fix_checksums(bytes(damaged)) if rng.random() < 0.5 else bytes(damaged)


def fix_checksums(content: bytes) -> bytes:
    """A PNG -> the same with right checksums, so that its damage reaches the decoders."""
    if not content.startswith(b"\x89PNG"):
        return content
    fixed, position = content[:8], 8
    while position + 12 <= len(content):
        end = position + 8 + int.from_bytes(content[position : position + 4], "big")
        fixed += content[position:end]
        fixed += zlib.crc32(content[position + 4 : end]).to_bytes(4, "big")
        position = end + 4
    return fixed


def read_regions(file: pathlib.Path) -> None:
    for regions in read_annotations(file, file.parent)[1].values():
        draw_label(regions, *COCO_SIZE, file)


def read_into_shard(file: pathlib.Path) -> None:
    make_example("photo", file)


def read_class_ids(file: pathlib.Path) -> None:
    classes, mask = read_classes(file), file.with_name("whole.png")
    map_to_class_ids(read_mask(mask), classes, mask)


@tf.function(input_signature=[tf.TensorSpec((None,), tf.string)])
def decode_in_graph(files):
    return decode_images(files)


def read_by_signature(file: pathlib.Path) -> None:
    try:
        decode_in_graph(tf.constant([file.read_bytes()]))
    except tf.errors.InvalidArgumentError as error:
        raise ValueError(f"{file}: {error}") from error  # A request names no file.


def contents_of(rows):
    return [kind.content for kinds in rows.values() for kind in kinds.values()]


def outcome_of(read, file):
    """A reader and a file -> "read", "named", or what is wrong."""
    started = time.monotonic()
    try:
        read(file)
        outcome = "read"
    except (ValueError, OSError) as error:
        outcome = "named" if file.name in str(error) else f"not named: {error}"
    except Exception as error:
        outcome = f"{type(error).__name__}: {error}"
    seconds = time.monotonic() - started
    return outcome[:300] if seconds < MAX_SECONDS else f"took {seconds:.0f} seconds"


def main(folder: pathlib.Path, number: int) -> None:
    masks, photos = contents_of(label_kinds()), contents_of(photo_kinds())
    (folder / "whole.png").write_bytes(masks[4])
    readers = {
        "photo": (photos, (read_photo, read_into_shard, read_by_signature)),
        "mask": (masks, (read_mask, read_label)),
        "classes.json": ([json.dumps(CLASSES).encode()], (read_class_ids,)),
        "instances.json": ([json.dumps(COCO).encode()], (read_regions,)),
    }
    decode_in_graph(tf.constant(photos[:1]))  # Its first call takes seconds.
    resource.setrlimit(resource.RLIMIT_AS, (MAX_BYTES, MAX_BYTES))
    rng = np.random.default_rng(0)
    counts = {name: collections.Counter() for name in readers}
    for i in range(number):
        name = list(readers)[i % len(readers)]
        contents, functions = readers[name]
        file = folder / name
        file.write_bytes(damage(contents[rng.integers(len(contents))], rng))
        for read in functions:
            counts[name][outcome := outcome_of(read, file)] += 1
            if outcome not in ("read", "named"):
                (folder / f"{i}_{name}").write_bytes(file.read_bytes())
    print(json.dumps(counts))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), int(sys.argv[2]))
