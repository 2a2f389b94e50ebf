"""Scores of a confusion matrix, and their intervals over images."""

import numpy as np


def confusion_matrix(
    label: np.ndarray, prediction: np.ndarray, *, num_classes: int, ignore_label: int
) -> np.ndarray:
    """Two [...] arrays of class ids -> [num_classes, num_classes] pixel counts, row = label.

    Matrices of several images add up. Pixels of ignore_label are not counted.
    Raises ValueError where the shapes differ or an id is not a class.
    """
    if label.shape != prediction.shape:
        raise ValueError(
            f"A label of shape {label.shape} cannot score a prediction of {prediction.shape}."
        )
    valid = label != ignore_label
    label = label[valid].astype(np.int64)
    prediction = prediction[valid].astype(np.int64)
    for name, ids in (("label", label), ("prediction", prediction)):
        if ids.size and not 0 <= ids.min() <= ids.max() < num_classes:
            raise ValueError(
                f"A {name} holds ids from {ids.min()} to {ids.max()}; classes are 0 to "
                f"{num_classes - 1}."
            )
    counts = np.bincount(num_classes * label + prediction, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def iou_per_class(confusion: np.ndarray) -> np.ndarray:
    """[C, C] pixel counts -> [C] intersection over union, NaN for a class that no label has.

    Hence all predictions of the same images are scored over the same classes. A pixel predicted as
    a class without labels counts against the class of its own label.
    """
    intersection = np.diag(confusion).astype(float)
    labeled = confusion.sum(1)
    union = confusion.sum(0) + labeled - intersection
    return np.divide(intersection, union, out=np.full(len(union), np.nan), where=labeled > 0)


def mean_over_classes(ious: np.ndarray) -> np.ndarray:
    """[..., C] IoU -> [...] the mean over the classes that are not NaN; NaN where all are."""
    defined = ~np.isnan(ious)
    total, number = np.where(defined, ious, 0).sum(-1), defined.sum(-1)
    return np.divide(total, number, out=np.full(total.shape, np.nan), where=number > 0)


def mean_iou(confusion: np.ndarray) -> float:
    """[C, C] pixel counts -> mIoU, a fraction: the mean over the classes that labels have.

    NaN where nothing was counted.
    """
    return float(mean_over_classes(iou_per_class(confusion)))


def pixel_accuracy(confusion: np.ndarray) -> float:
    """[C, C] pixel counts -> the fraction of correct pixels; NaN where nothing was counted."""
    return float(np.diag(confusion).sum() / confusion.sum()) if confusion.any() else float("nan")


def mean_accuracy(confusion: np.ndarray) -> float:
    """[C, C] pixel counts -> the mean, over labeled classes, of the fraction of correct pixels."""
    labeled = confusion.sum(1)
    accuracies = np.diag(confusion)[labeled > 0] / labeled[labeled > 0]
    return float(accuracies.mean()) if accuracies.size else float("nan")


def frequency_weighted_iou(confusion: np.ndarray) -> float:
    """[C, C] pixel counts -> IoU, weighted by the classes' share of the labeled pixels."""
    if not confusion.any():
        return float("nan")
    return float(np.nansum(iou_per_class(confusion) * confusion.sum(1)) / confusion.sum())


def resampled_ious(confusions: np.ndarray, *, samples: int = 1000, seed: int = 0) -> np.ndarray:
    """[N, C, C] pixel counts of N images -> [samples, C] IoU of N images drawn with replacement.

    NaN for a class that no label has. A class that only a sample lacks keeps its IoU of the whole
    split, so that every mean is over the same classes. With one seed, two runs over the same images
    get the same samples: their differences are paired.
    Source: Efron, "Bootstrap Methods: Another Look at the Jackknife", 1979.
    """
    n, c, _ = confusions.shape
    draws = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=samples)
    drawn = (draws @ confusions.reshape(n, c * c)).reshape(samples, c, c)
    ious = np.stack([iou_per_class(confusion) for confusion in drawn])
    return np.where(np.isnan(ious), iou_per_class(confusions.sum(0)), ious)


def interval(values: np.ndarray, coverage: float = 0.95) -> tuple[float, float]:
    """Resampled values -> the bounds of the central interval that holds `coverage` of them.

    NaNs are ignored; both bounds are NaN where all values are.
    """
    if np.isnan(values).all():
        return float("nan"), float("nan")
    low, high = np.nanquantile(values, [(1 - coverage) / 2, (1 + coverage) / 2])
    return float(low), float(high)
