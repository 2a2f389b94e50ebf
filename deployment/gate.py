"""Parity gate: an export must reproduce its checkpoint's predictions, in its own runtime."""

import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from data.classes import IGNORE_LABEL
from deployment.formats import Format
from evaluation.metrics import confusion_matrix, mean_iou

RUNTIMES_SCRIPT = pathlib.Path(__file__).with_name("runtimes.py")
NUM_CALIBRATION_IMAGES = 32  # For int8; ours. More change little.


class Samples(NamedTuple):
    """Images of the parity check, and the checkpoint's predictions of them."""

    images: list[np.ndarray]  # [H, W, 3] uint8 each.
    labels: list[np.ndarray]  # [H, W] each.
    expected: list[np.ndarray]  # [H, W] class ids each.
    seconds: list[float]


def predict_samples(
    predict: Callable[[np.ndarray], np.ndarray],
    examples: Iterable[dict[str, Any]],
    *,
    size: tuple[int, int] | None,
    mean_pixel: Sequence[float],
) -> Samples:
    """Examples of {image, label} and the checkpoint's prediction of [1, H, W, 3] -> the samples.

    With a size, each image is cut at the bottom and the right, or filled there with mean_pixel,
    where it has no label.
    """
    rows = []
    for example in examples:
        image = fit_to_size(example["image"], size, mean_pixel)
        predict(image[None])  # Once for its size; runtimes.py does the same.
        start = time.perf_counter()
        expected = np.asarray(predict(image[None]))[0]
        seconds = time.perf_counter() - start
        rows.append((image, fit_to_size(example["label"], size, IGNORE_LABEL), expected, seconds))
    return Samples(*map(list, zip(*rows, strict=True)))


def fit_to_size(image: np.ndarray, size: tuple[int, int] | None, fill: Any) -> np.ndarray:
    """[H, W, ...] -> [*size, ...]: cut at the bottom and the right, or filled there."""
    if size is None:
        return image
    whole = np.empty((*size, *image.shape[2:]), image.dtype)
    whole[:] = np.round(fill)
    part = image[: size[0], : size[1]]
    whole[: part.shape[0], : part.shape[1]] = part
    return whole


def run_isolated(
    runtime: str, artifact: pathlib.Path, images: Sequence[np.ndarray]
) -> tuple[list[np.ndarray], list[float]]:
    """Segments [H, W, 3] images in a new process -> class ids and seconds of each.

    Raises ValueError, with the last line of its stderr, where that process fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        given, out = pathlib.Path(folder) / "images.npz", pathlib.Path(folder) / "out.npz"
        np.savez(given, **{str(i): image for i, image in enumerate(images)})
        # -I: it finds modules neither here nor by PYTHONPATH. It works in another folder, so that
        # every path must be absolute.
        command = [
            sys.executable,
            "-I",
            RUNTIMES_SCRIPT.absolute(),
            runtime,
            artifact.absolute(),
            given,
            out,
        ]
        done = subprocess.run(
            list(map(str, command)), cwd=folder, capture_output=True, text=True, errors="replace"
        )
        if done.returncode:
            reason = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
            raise ValueError(f"{runtime} cannot run the export: {reason[:300]}")
        with np.load(out) as results:
            ids = [results[str(i)] for i in range(len(images))]
            return ids, results["seconds"].tolist()


def compare(
    class_ids: Sequence[np.ndarray], seconds: Sequence[float], checkpoint: Samples, num_classes: int
) -> dict[str, Any]:
    """Class ids by an artifact and by the checkpoint -> the figures of gate.json."""
    pixels = differing = 0
    confusions = np.zeros((2, num_classes, num_classes), np.int64)
    facts = {"num_classes": num_classes, "ignore_label": IGNORE_LABEL}
    for ours, expected, label in zip(
        class_ids, checkpoint.expected, checkpoint.labels, strict=True
    ):
        if ours.shape != expected.shape or ours.dtype != np.uint8:
            raise ValueError(
                f"The export returns {ours.dtype} {ours.shape}, not uint8 {expected.shape}."
            )
        pixels += ours.size
        differing += int((ours != expected).sum())
        confusions += [confusion_matrix(label, ids, **facts) for ids in (expected, ours)]
    miou = [mean_iou(confusion) for confusion in confusions]
    return {
        "images": len(class_ids),
        "differing": differing / pixels,
        "miou": {"checkpoint": miou[0], "export": miou[1]},
        "median_seconds": {
            "checkpoint": statistics.median(checkpoint.seconds),
            "export": statistics.median(seconds),
        },
    }


def is_within_tolerance(figures: dict[str, Any], tolerance: Format) -> bool:
    """Whether figures of compare are within a format's tolerance."""
    miou = figures["miou"]
    # Written so that NaN, where no pixel has a label, does not fail on mIoU.
    too_far = abs(miou["checkpoint"] - miou["export"]) > tolerance.miou
    return figures["differing"] <= tolerance.differing and not too_far


def size_in_bytes(artifact: pathlib.Path) -> int:
    """A file, or a folder with all of its files -> bytes."""
    files = [artifact] if artifact.is_file() else artifact.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())
