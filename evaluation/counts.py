"""Labels and predictions of a split -> the pixel counts from which every score is derived."""

import collections
import concurrent.futures
import hashlib
import os
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from evaluation.boundary import TRIMAP_WIDTHS, count_near_boundaries
from evaluation.metrics import confusion_matrix


class Counts(NamedTuple):
    """Pixels of a split, by class of the label and of the prediction."""

    ids: list[str]  # Of the N images, sorted.
    confusions: np.ndarray  # [N, C, C], one for each image; the split's is their sum.
    trimap: np.ndarray | None  # [len(TRIMAP_WIDTHS), C, C], near boundaries, if they are counted.
    boundary: np.ndarray | None  # [C, 2], of boundary IoU, if they are counted.
    labels_sha256: str  # Of all labels, to the last pixel.


def count_pixels(
    predictions: Iterable[tuple[dict[str, Any], np.ndarray]],
    *,
    num_images: int,
    num_classes: int,
    ignore_label: int,
    boundaries: bool = True,
) -> Counts:
    """(example, [H, W] class ids) of each image, in any order -> the counts of the whole split.

    Counts in all cores, while the device predicts the next images.

    Args:
      predictions: an example holds `id` and `label` [H, W], which is scored at its own size: never
        resized, cropped or dropped.
      num_images: of the split.
      num_classes, ignore_label: of its labels.
      boundaries: whether pixels near boundaries are counted, which takes most of the time.

    Raises:
      ValueError: an image came twice, or another number of images than num_images.
    """
    facts = {"num_classes": num_classes, "ignore_label": ignore_label}
    confusions, digests = {}, {}
    trimap = np.zeros((len(TRIMAP_WIDTHS), num_classes, num_classes), np.int64)
    boundary = np.zeros((num_classes, 2), np.int64)

    def count_image(pair):
        example, prediction = pair
        label = example["label"]
        confusion = confusion_matrix(label, prediction, **facts)  # Checks both.
        near = count_near_boundaries(label, prediction, **facts) if boundaries else ()
        digest = hashlib.sha256(label.astype(np.uint8).tobytes()).digest()
        return example["id"].decode(), confusion, digest, near

    for name, confusion, digest, near in _map_in_threads(count_image, predictions):
        if name in confusions:
            raise ValueError(f"Scored an image twice: {name}.")
        confusions[name], digests[name] = confusion, digest
        for total, of_image in zip((trimap, boundary), near, strict=False):
            total += of_image
    if len(confusions) != num_images:
        raise ValueError(f"Scored {len(confusions)} images of a split that has {num_images}.")
    ids = sorted(confusions)
    return Counts(
        ids,
        np.stack([confusions[name] for name in ids]),
        trimap if boundaries else None,
        boundary if boundaries else None,
        hashlib.sha256(b"".join(digests[name] for name in ids)).hexdigest(),
    )


def _map_in_threads(function, items: Iterable[Any]) -> Iterator[Any]:
    """The function's value of each item, in their order; a few items ahead of the one yielded."""
    workers = os.cpu_count()
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        waiting = collections.deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
