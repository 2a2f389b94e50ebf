"""A model and a split's images -> the pixel counts from which every score is derived."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from model.boundary import TRIMAP_WIDTHS, boundary_counts, trimap_confusions
from model.metrics import confusion_matrix


class Counts(NamedTuple):
    """Pixels of a split, by class of the label and of the prediction."""

    ids: list[str]  # Of the N images, in their order.
    confusions: np.ndarray  # [N, C, C], one for each image; the split's is their sum.
    trimap: np.ndarray  # [len(TRIMAP_WIDTHS), C, C], near boundaries.
    boundary: np.ndarray  # [C, 2], of boundary IoU.


def evaluate(
    predict: Callable[[np.ndarray], np.ndarray],
    examples: Iterable[dict[str, np.ndarray]],
    *,
    num_images: int,
    num_classes: int,
    ignore_label: int,
) -> Counts:
    """Images with labels -> their pixel counts, over exactly num_images images.

    predict: [1, H, W, 3] -> [1, H, W] class ids. An example holds id, image [H, W, 3] and label
    [H, W], which is scored at its own size: never resized, cropped or dropped.
    Raises ValueError where another number of images came.
    """
    facts = {"num_classes": num_classes, "ignore_label": ignore_label}
    ids, confusions = [], []
    trimap = np.zeros((len(TRIMAP_WIDTHS), num_classes, num_classes), np.int64)
    boundary = np.zeros((num_classes, 2), np.int64)
    for example in examples:
        label, prediction = example["label"], np.asarray(predict(example["image"][None]))[0]
        ids.append(example["id"].decode())
        confusions.append(confusion_matrix(label, prediction, **facts))
        trimap += trimap_confusions(label, prediction, **facts)
        boundary += boundary_counts(label, prediction, **facts)
    if len(ids) != num_images:
        raise ValueError(f"Scored {len(ids)} images of a split that has {num_images}.")
    if len(set(ids)) != num_images:
        raise ValueError("Scored an image twice, and another one not at all.")
    return Counts(ids, np.stack(confusions), trimap, boundary)
