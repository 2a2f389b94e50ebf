"""What an evaluation says: scores of pixel counts, the protocol they belong to, and its files."""

import hashlib
import io
import json
import pathlib
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np

from data.files import write_bytes
from data.terminal import table
from model.boundary import TRIMAP_WIDTHS
from model.evaluate import Counts
from model.inference import padding_multiple
from model.metrics import (
    frequency_weighted_iou,
    interval,
    iou_per_class,
    mean_accuracy,
    mean_iou,
    mean_over_classes,
    pixel_accuracy,
    resampled_ious,
)


def protocol_hash(protocol: Mapping[str, Any]) -> str:
    """All fields of a protocol but its hash -> that."""
    fields = {field: value for field, value in protocol.items() if field != "hash"}
    text = json.dumps(fields, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def images_said(result: Mapping[str, Any]) -> str:
    """What eval.json holds -> `223 images (the official split has 1449)`, or how many alone."""
    said = f"{result['num_images']} images"
    if result["official_images"] != result["num_images"]:
        said += f" (a part: the official split has {result['official_images']})"
    return said


def inference_of(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """A run's config -> how it is scored: what Evaluation takes, by name."""
    scales = tuple(config.eval.scales)  # A list, in JSON.
    return {"split": config.eval_data.split, **config.eval, "scales": scales}


def as_scales(texts: Sequence[str]) -> tuple[float, ...]:
    """Scales as texts -> their values, the lowest first. Raises ValueError for what is none."""
    if not texts:
        raise ValueError("--scales names none.")
    try:
        scales = tuple(sorted(map(float, texts)))
    except ValueError as error:
        raise ValueError(f"--scales={','.join(texts)}: {error}.") from error
    padding_multiple(1, scales)  # Which refuses what no image is scaled by.
    return scales


def result_name(how: dict[str, Any], own: dict[str, Any]) -> str:
    """How a run is scored, and its config's own way -> the name of the files, without a suffix."""
    if how == own:
        return "eval"
    name = f"eval_{how['split']}_os{how['output_stride']}"
    if how["scales"] != (1.0,):
        name += "_ms" + "_".join(f"{scale:g}" for scale in how["scales"])
    return name + ("_flip" if how["flip"] else "")


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


def write_counts(file: pathlib.Path, counts: Counts) -> None:
    """Writes the counts of a split."""
    compressed = io.BytesIO()
    np.savez_compressed(compressed, **counts._asdict())
    write_bytes(file, compressed.getvalue())


def read_counts(file: pathlib.Path) -> Counts:
    """What write_counts wrote. Raises ValueError where it is damaged."""
    try:
        with np.load(file) as counts:
            texts = {"ids": counts["ids"].tolist(), "labels_sha256": str(counts["labels_sha256"])}
            return Counts(**{**counts, **texts})
    except (KeyError, TypeError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{file} is damaged: {error}. Evaluate the run again.") from error


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
