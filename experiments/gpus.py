"""GPUs whose training hours are estimated."""

from typing import NamedTuple


class Gpu(NamedTuple):
    """What NVIDIA's data sheets say of a GPU."""

    float32: float  # Dense TFLOP/s; of TF32 where there is one, which TensorFlow uses by default.
    half: float  # Dense TFLOP/s in bfloat16 or float16.
    memory: float  # GB, of the smallest variant.


GPUS = {
    "T4": Gpu(8.1, 65, 16),
    "V100": Gpu(15.7, 125, 16),
    "A100": Gpu(156, 312, 40),
    "H100": Gpu(494, 989, 80),
}
DEFAULT_GPU = "A100"
SHARE = 0.3  # Of its peak that a training step reaches: an assumption; no GPU was measured.
