"""Labels and predictions of a split -> the pixel counts from which every score is derived."""

import hashlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from evaluation.boundary import TRIMAP_WIDTHS, boundary_counts, trimap_confusions
from evaluation.metrics import confusion_matrix


class Counts(NamedTuple):
    """Pixels of a split, by class of the label and of the prediction."""

    ids: list[str]  # Of the N images, sorted.
    confusions: np.ndarray  # [N, C, C], one for each image; the split's is their sum.
    trimap: np.ndarray  # [len(TRIMAP_WIDTHS), C, C], near boundaries.
    boundary: np.ndarray  # [C, 2], of boundary IoU.
    labels_sha256: str  # Of all labels, to the last pixel.


def count_pixels(
    predictions: Iterable[tuple[dict[str, Any], np.ndarray]],
    *,
    num_images: int,
    num_classes: int,
    ignore_label: int,
) -> Counts:
    """(example, [H, W] class ids) of each image, in any order -> the counts of the whole split.

    Args:
      predictions: an example holds `id` and `label` [H, W], which is scored at its own size: never
        resized, cropped or dropped.
      num_images: of the split.
      num_classes, ignore_label: of its labels.

    Raises:
      ValueError: an image came twice, or another number of images than num_images.
    """
    facts = {"num_classes": num_classes, "ignore_label": ignore_label}
    confusions, digests = {}, {}
    trimap = np.zeros((len(TRIMAP_WIDTHS), num_classes, num_classes), np.int64)
    boundary = np.zeros((num_classes, 2), np.int64)
    for example, prediction in predictions:
        name, label = example["id"].decode(), example["label"]
        if name in confusions:
            raise ValueError(f"Scored an image twice: {name}.")
        confusions[name] = confusion_matrix(label, prediction, **facts)
        digests[name] = hashlib.sha256(label.astype(np.uint8).tobytes()).digest()
        trimap += trimap_confusions(label, prediction, **facts)
        boundary += boundary_counts(label, prediction, **facts)
    if len(confusions) != num_images:
        raise ValueError(f"Scored {len(confusions)} images of a split that has {num_images}.")
    ids = sorted(confusions)
    return Counts(
        ids,
        np.stack([confusions[name] for name in ids]),
        trimap,
        boundary,
        hashlib.sha256(b"".join(digests[name] for name in ids)).hexdigest(),
    )
