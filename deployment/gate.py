"""The gate: what was exported must do what the checkpoint does, in its own runtime."""

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

RUNNER = pathlib.Path(__file__).with_name("run_artefact.py")
NUM_CALIBRATION = 32  # Images for int8; ours. More change little.


class Samples(NamedTuple):
    """Images that the gate sees, and what the checkpoint makes of them."""

    images: list[np.ndarray]  # [H, W, 3] uint8 each.
    labels: list[np.ndarray]  # [H, W] each.
    expected: list[np.ndarray]  # [H, W] class ids each.
    seconds: list[float]


def samples(
    predict: Callable[[np.ndarray], np.ndarray],
    examples: Iterable[dict[str, Any]],
    *,
    size: tuple[int, int] | None,
    mean_pixel: Sequence[float],
) -> Samples:
    """Examples of {image, label} and what segments [1, H, W, 3] -> the gate's samples.

    With a size each is cut at the bottom and the right, or filled with mean_pixel and not labelled.
    """
    found = Samples([], [], [], [])
    for example in examples:
        image = fitted(example["image"], size, mean_pixel)
        predict(image[None])  # Once for its size; run_artefact.py does the same.
        start = time.perf_counter()
        expected = np.asarray(predict(image[None]))[0]
        found.seconds.append(time.perf_counter() - start)
        found.images.append(image)
        found.labels.append(fitted(example["label"], size, IGNORE_LABEL))
        found.expected.append(expected)
    return found


def fitted(picture: np.ndarray, size: tuple[int, int] | None, fill: Any) -> np.ndarray:
    """[H, W, ...] -> [*size, ...]: cut at the bottom and the right, or filled there."""
    if size is None:
        return picture
    whole = np.empty((*size, *picture.shape[2:]), picture.dtype)
    whole[:] = np.round(fill)
    part = picture[: size[0], : size[1]]
    whole[: part.shape[0], : part.shape[1]] = part
    return whole


def run_alone(
    runtime: str, artefact: pathlib.Path, images: Sequence[np.ndarray]
) -> tuple[list[np.ndarray], list[float]]:
    """Segments [H, W, 3] images in a new process -> class ids and seconds of each.

    Raises ValueError, with the last line of what it said, where that process fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        given, out = pathlib.Path(folder) / "images.npz", pathlib.Path(folder) / "out.npz"
        np.savez(given, **{str(i): image for i, image in enumerate(images)})
        # Isolated: neither this folder nor PYTHONPATH is where it finds modules.
        command = [sys.executable, "-I", RUNNER, runtime, artefact, given, out]
        done = subprocess.run(
            list(map(str, command)), cwd=folder, capture_output=True, text=True, errors="replace"
        )
        if done.returncode:
            said = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
            raise ValueError(f"{runtime} cannot run what was exported: {said[:300]}")
        with np.load(out) as results:
            ids = [results[str(i)] for i in range(len(images))]
            return ids, results["seconds"].tolist()


def compare(
    class_ids: Sequence[np.ndarray], seconds: Sequence[float], checkpoint: Samples, num_classes: int
) -> dict[str, Any]:
    """What an artefact and the checkpoint make of the same images -> the figures of gate.json."""
    pixels = differing = 0
    confusions = np.zeros((2, num_classes, num_classes), np.int64)
    facts = {"num_classes": num_classes, "ignore_label": IGNORE_LABEL}
    for ours, expected, label in zip(
        class_ids, checkpoint.expected, checkpoint.labels, strict=True
    ):
        if ours.shape != expected.shape or ours.dtype != np.uint8:
            raise ValueError(
                f"What was exported gives {ours.dtype} {ours.shape}, not uint8 {expected.shape}."
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


def passes(figures: dict[str, Any], limits: Format) -> bool:
    """Whether figures of compare are within a format's limits."""
    miou = figures["miou"]
    # Written so that NaN, where nothing is labelled, is no failure of mIoU.
    too_far = abs(miou["checkpoint"] - miou["export"]) > limits.miou
    return figures["differing"] <= limits.differing and not too_far


def size_in_bytes(artefact: pathlib.Path) -> int:
    """A file, or a folder with all that is in it."""
    files = [artefact] if artefact.is_file() else artefact.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())
