"""How far SBD's labels agree with VOC's, on the images that have both."""

import pathlib
from typing import Any

import numpy as np

from data.classes import IGNORE_LABEL, VOC_CLASS_NAMES
from data.features import check_ids
from data.terminal import track
from data.voc2012 import Labels, find_sbd, find_voc, png_labels

MIN_AGREEMENT = 0.9  # Share of pixels; below it, an audit reports a problem. Ours.
MAX_LEAST_LISTED = 12  # Images that agree least, in audit.json and audit.html.


def compare_sbd_to_voc(manual_dir: pathlib.Path) -> dict[str, Any]:
    """Originals -> {images, pixels_that_agree, iou, least}, over the images that have both labels.

    Pixels that either label ignores do not count. least: (id, share of pixels that agree) of the
    images that agree least.
    """
    own, sbd = find_both_labels(manual_dir)
    both = sorted(own.ids & sbd.ids)
    num_classes = len(VOC_CLASS_NAMES)
    confusion = np.zeros((num_classes, num_classes), np.int64)
    agreement = {}
    for name in track(both, "SBD against VOC", len(both)):
        ours, theirs = read_both_labels(name, own, sbd)
        valid = (ours != IGNORE_LABEL) & (theirs != IGNORE_LABEL)
        pairs = ours[valid].astype(int) * num_classes + theirs[valid]
        confusion += np.bincount(pairs, minlength=num_classes**2).reshape(confusion.shape)
        agreement[name] = float(np.mean(ours[valid] == theirs[valid])) if valid.any() else 1.0
    union = confusion.sum(0) + confusion.sum(1) - np.diag(confusion)
    iou = np.diag(confusion) / np.maximum(union, 1)
    return {
        "images": len(both),
        "pixels_that_agree": float(np.trace(confusion) / confusion.sum()),
        "iou": [float(value) if size else None for value, size in zip(iou, union, strict=True)],
        "least": sorted(agreement.items(), key=lambda item: item[1])[:MAX_LEAST_LISTED],
    }


def find_both_labels(manual_dir: pathlib.Path) -> tuple[Labels, Labels]:
    """Originals -> VOC's labels and SBD's. Raises FileNotFoundError if no image has both."""
    voc = find_voc([manual_dir])
    own, found = png_labels(voc / "SegmentationClass"), find_sbd([manual_dir, voc])
    if not found or not own.ids & found[0].ids:
        raise FileNotFoundError(f"{manual_dir} has no image with labels of both VOC and SBD.")
    return own, found[0]


def read_both_labels(name: str, own: Labels, sbd: Labels) -> tuple[np.ndarray, np.ndarray]:
    """An image's id -> its labels by VOC and SBD, [H, W] each. ValueError if the sizes differ."""
    labels = [
        check_ids(source.read(source.file(name)), len(VOC_CLASS_NAMES), source.file(name))
        for source in (own, sbd)
    ]
    if labels[0].shape != labels[1].shape:
        raise ValueError(
            f"{sbd.file(name)} and {own.file(name)} differ in size: {labels[1].shape} and "
            f"{labels[0].shape}. Download the wrong one again."
        )
    return labels[0], labels[1]
