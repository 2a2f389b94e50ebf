"""A model and a split's images -> the confusion matrix over all of them."""

from collections.abc import Callable, Iterable

import numpy as np

from model.metrics import confusion_matrix


def evaluate(
    predict: Callable[[np.ndarray], np.ndarray],
    examples: Iterable[dict[str, np.ndarray]],
    *,
    num_images: int,
    num_classes: int,
    ignore_label: int,
) -> np.ndarray:
    """Images with labels -> ONE [C, C] confusion matrix, over exactly num_images images.

    predict: [1, H, W, 3] -> [1, H, W] class ids. An example holds image [H, W, 3] and label
    [H, W], which is scored at its own size: never resized, cropped or dropped.
    Raises ValueError where another number of images came.
    """
    confusion = np.zeros((num_classes, num_classes), np.int64)
    scored = 0
    for example in examples:
        prediction = np.asarray(predict(example["image"][None]))[0]
        confusion += confusion_matrix(
            example["label"], prediction, num_classes=num_classes, ignore_label=ignore_label
        )
        scored += 1
    if scored != num_images:
        raise ValueError(f"Scored {scored} images of a split that has {num_images}.")
    return confusion
