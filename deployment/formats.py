"""The formats of exports: runtime, libraries and tolerance."""

import importlib.util
from collections.abc import Sequence
from typing import NamedTuple


class Format(NamedTuple):
    """A kind of artifact: its runtime, and its tolerance beside the checkpoint."""

    file: str  # In the export's folder; "" is the folder itself.
    runtime: str  # A key of RUNTIMES in runtimes.py.
    libraries: dict[str, str]  # Beyond requirements.txt: module -> the package for pip.
    differing: float = 1.0  # The share of pixels that may get another class.
    miou: float = 1.0  # By how much mIoU may differ, a fraction.


LITERT = {"ai_edge_litert": "ai-edge-litert"}
ONNX = {"tf2onnx": "tf2onnx", "onnxruntime": "onnxruntime"}
FORMATS = {
    "saved_model": Format("", "tensorflow", {}, differing=1e-4),
    # Ours: bfloat16 has 8 bits of precision where float16 has 11.
    "saved_model_bfloat16": Format("", "tensorflow", {}, differing=1e-2, miou=1e-2),
    "litert_float32": Format("model.tflite", "litert", LITERT, differing=1e-4),
    "litert_float16": Format("model.tflite", "litert", LITERT, differing=1e-3),
    "litert_int8": Format("model.tflite", "litert", LITERT, miou=1e-2),
    "onnx": Format("model.onnx", "onnxruntime", ONNX, differing=1e-4),
}


def check_formats(names: Sequence[str], *, fixed_size: bool) -> None:
    """Raises ValueError for an unknown format, a missing library, or a size for a SavedModel."""
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
            raise ValueError(f"{name} takes images of any size: leave --size out.")
