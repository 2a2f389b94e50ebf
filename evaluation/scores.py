"""What an evaluation says: scores of pixel counts, the protocol they belong to, and its files."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from data.terminal import table
from evaluation.boundary import TRIMAP_WIDTHS
from evaluation.counts import Counts
from evaluation.metrics import (
    frequency_weighted_iou,
    interval,
    iou_per_class,
    mean_accuracy,
    mean_iou,
    mean_over_classes,
    pixel_accuracy,
    resampled_ious,
)


def images_said(result: Mapping[str, Any]) -> str:
    """What eval.json holds -> `223 images (the official split has 1449)`, or how many alone."""
    said = f"{result['num_images']} images"
    if result["official_images"] != result["num_images"]:
        said += f" (a part: the official split has {result['official_images']})"
    return said


def scores(counts: Counts, class_names: Sequence[str]) -> dict[str, Any]:
    """The counts of a split -> every score that is made of them, by name; null where undefined."""
    confusion = counts.confusions.sum(0)
    boundary = counts.boundary[:, 0] / np.maximum(counts.boundary[:, 1], 1)
    boundary = np.where(confusion.any(1), boundary, np.nan)
    return {
        "miou": mean_iou(confusion),
        "miou_interval": interval(mean_over_classes(resampled_ious(counts.confusions))),
        "iou_per_class": _by_name(class_names, iou_per_class(confusion)),
        "pixel_accuracy": pixel_accuracy(confusion),
        "mean_accuracy": mean_accuracy(confusion),
        "frequency_weighted_iou": frequency_weighted_iou(confusion),
        "trimap_miou": _by_name(map(str, TRIMAP_WIDTHS), [mean_iou(c) for c in counts.trimap]),
        "boundary_iou": float(np.nanmean(boundary)),
        "boundary_iou_per_class": _by_name(class_names, boundary),
    }


def _by_name(names, values):
    return {
        name: None if np.isnan(value) else float(value)
        for name, value in zip(names, values, strict=True)
    }


def report(result: dict[str, Any]) -> str:
    """What Evaluation.score gives -> a table of percents, the means last."""

    def percent(value):
        return "-" if value is None else f"{100 * value:.2f}"

    rows = [
        [name, percent(iou), percent(result["boundary_iou_per_class"][name])]
        for name, iou in result["iou_per_class"].items()
    ]
    low, high = map(percent, result["miou_interval"])
    means = [
        ["pixel accuracy", percent(result["pixel_accuracy"])],
        ["mean accuracy", percent(result["mean_accuracy"])],
        ["frequency-weighted IoU", percent(result["frequency_weighted_iou"])],
        ["mean boundary IoU", percent(result["boundary_iou"])],
        *(
            [f"mIoU within {width} pixels of a boundary", percent(miou)]
            for width, miou in result["trimap_miou"].items()
        ),
        ["mIoU", percent(result["miou"])],
    ]
    return "\n".join(
        [
            table([["class", "IoU %", "boundary IoU %"], *rows]),
            "",
            table([["over all", "%"], *means]),
            f"{images_said(result)}; 95 % interval of mIoU over images: {low} to {high}",
        ]
    )
