"""eval.json and eval.npz: written, read back and checked."""

import io
import json
import pathlib
import zipfile
from typing import Any

import numpy as np

from data.files import write_bytes
from evaluation.counts import Counts
from evaluation.metrics import iou_per_class
from evaluation.protocol import protocol_hash


def read_evaluation(path: pathlib.Path) -> tuple[dict[str, Any], Counts]:
    """A run's folder, or a JSON that eval.py wrote -> what it holds, and the counts beside it."""
    file = path / "eval.json" if path.is_dir() else path
    if file.suffix == ".npz":
        file = file.with_suffix(".json")
    try:
        result = json.loads(file.read_text())
        counts = read_counts(file.with_suffix(".npz"))
        ious = [np.nan if iou is None else iou for iou in result["iou_per_class"].values()]
        ours = iou_per_class(counts.confusions.sum(0))
        if not np.allclose([*ious, result["miou"]], [*ours, np.nanmean(ours)], equal_nan=True):
            raise ValueError(f"{file} and the .npz beside it are of different evaluations.")
        if result["protocol"]["hash"] != protocol_hash(result["protocol"]):
            raise ValueError(f"{file} was changed: its protocol has not the hash that it says.")
        return result, counts
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{error.filename} is missing; create it with python eval.py --run=RUN."
        ) from error
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file} is damaged, or not of eval.py: {error!r}") from error


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
