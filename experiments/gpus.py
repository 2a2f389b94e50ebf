"""GPUs whose training hours are estimated."""

# Dense half precision in TFLOP/s, from NVIDIA's data sheets.
GPUS = {"T4": 65, "V100": 125, "A100": 312, "H100": 989}
DEFAULT_GPU = "A100"
SHARE = 0.3  # Of its peak that a training step reaches: an assumption; no GPU was measured.
