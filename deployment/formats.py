"""The formats of exports: runtime, libraries and tolerance."""

import importlib.util
from collections.abc import Sequence
from typing import NamedTuple


def check_formats(names: Sequence[str], *, fixed_size: bool) -> None:
    """Raises ValueError for an unknown format, a missing library, or a size where none goes."""
    for name in names:
        if name not in FORMATS:
            raise ValueError(f"No format {name!r}; there are {', '.join(FORMATS)}.")
        libraries = FORMATS[name].libraries
        missing = [libraries[m] for m in libraries if importlib.util.find_spec(m) is None]
        if missing:
            raise ValueError(
                f"{name} needs {' and '.join(missing)}: pip install {' '.join(missing)}"
            )
        if fixed_size and name.startswith("saved_model"):
            raise ValueError(f"{name} takes images of any size: no --size.")


class Format(NamedTuple):
    """A kind of artefact: what runs it, and how far it may be from the checkpoint."""

    file: str  # In the export's folder; "" is the folder.
    runtime: str  # A key of RUNTIMES in run_artefact.py.
    libraries: dict[str, str]  # Beside requirements.txt: what is imported -> what pip installs.
    differing: float = 1.0  # The share of pixels that may get another class.
    miou: float = 1.0  # By how much mIoU may differ, a fraction.


LITERT = {"ai_edge_litert": "ai-edge-litert"}
ONNX = {"tf2onnx": "tf2onnx", "onnxruntime": "onnxruntime"}
FORMATS = {
    "saved_model": Format("", "tensorflow", {}, differing=1e-4),
    # bfloat16 has 8 bits where float16 has 11, hence ours.
    "saved_model_bfloat16": Format("", "tensorflow", {}, differing=1e-2, miou=1e-2),
    "litert_float32": Format("model.tflite", "litert", LITERT, differing=1e-4),
    "litert_float16": Format("model.tflite", "litert", LITERT, differing=1e-3),
    "litert_int8": Format("model.tflite", "litert", LITERT, miou=1e-2),
    "onnx": Format("model.onnx", "onnxruntime", ONNX, differing=1e-4),
}
