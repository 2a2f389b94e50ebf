"""Pixel counts -> every score, and the scores as text."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from data.terminal import interval_text, percent, table
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


def image_count_text(result: Mapping[str, Any]) -> str:
    """The content of eval.json -> `1449 images`, and the official number where that differs."""
    text = f"{result['num_images']} images"
    if result["official_images"] != result["num_images"]:
        text += f" (partial: the official split has {result['official_images']})"
    return text


def compute_scores(counts: Counts, class_names: Sequence[str]) -> dict[str, Any]:
    """The counts of a split -> every score by name, as fractions; None where undefined.

    Without those near boundaries where they were not counted.
    """
    confusion = counts.confusions.sum(0)
    scores = {
        "miou": mean_iou(confusion),
        "miou_interval": interval(mean_over_classes(resampled_ious(counts.confusions))),
        "iou_per_class": _by_name(class_names, iou_per_class(confusion)),
        "pixel_accuracy": pixel_accuracy(confusion),
        "mean_accuracy": mean_accuracy(confusion),
        "frequency_weighted_iou": frequency_weighted_iou(confusion),
    }
    if counts.boundary is None:
        return scores
    boundary = counts.boundary[:, 0] / np.maximum(counts.boundary[:, 1], 1)
    boundary = np.where(confusion.any(1), boundary, np.nan)
    return scores | {
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
    """The content of eval.json -> tables in percent, the means last."""
    rows = [
        [name, percent(iou), percent(result["boundary_iou_per_class"][name])]
        for name, iou in result["iou_per_class"].items()
    ]
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
            table([["overall", "%"], *means]),
            f"{image_count_text(result)}; 95% CI of mIoU over images: "
            f"{interval_text(result['miou_interval'])}",
        ]
    )
