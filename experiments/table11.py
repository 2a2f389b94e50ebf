r"""Table 11: the number of replicas. The paper's are asynchronous; ours are in step.

CUDA_VISIBLE_DEVICES=0,1 python train.py --config=experiments/table11.py:replicas2

Asynchronous replicas, each with a batch of 16 and gradients that are stale, are not there in this
project. In their place as many devices share one batch of 16, which changes nothing but the time
and ASPP's dropout masks: what these rows show is that noise, and that 32 cannot share it equally.
"""

import ml_collections

from experiments import base

PAPER_MIOUS = {1: 77.21, 2: 77.15, 4: 76.79, 8: 77.02, 16: 77.18, 32: 76.69}
PAPER_RELATIVE_TIMES = {1: 1, 2: 0.50, 4: 0.25, 8: 0.13, 16: 0.06, 32: 0.03}  # Of 3.65 days.
ROWS = {
    f"replicas{devices}": base.Row(
        paper_miou,
        {},
        run="base" if devices == 1 else "",
        devices=devices,
        why_not="a batch of 16 cannot be shared by 32 devices" if devices > 16 else "",
    )
    for devices, paper_miou in PAPER_MIOUS.items()
}


def get_config(row: str = "") -> ml_collections.ConfigDict:
    """A key of ROWS, and @scale where it is not the paper's -> that row's config."""
    return base.row_config("table11", ROWS, row)
