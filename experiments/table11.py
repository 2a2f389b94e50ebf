"""Table 11: the number of replicas. The paper's are asynchronous; ours are synchronous.

    CUDA_VISIBLE_DEVICES=0,1 python train.py --config=experiments/table11.py:replicas2

Paper: 77.15; not run yet. The paper's replicas each have a batch of 16 and apply stale gradients;
this project does not implement that. Here the devices share one batch of 16, which changes only the
time and ASPP's dropout masks. So these rows measure that noise, and 32 devices cannot share 16
images equally.
"""

from experiments import base

PAPER_MIOUS = {1: 77.21, 2: 77.15, 4: 76.79, 8: 77.02, 16: 77.18, 32: 76.69}
PAPER_RELATIVE_TIMES = {1: 1, 2: 0.50, 4: 0.25, 8: 0.13, 16: 0.06, 32: 0.03}  # Of 3.65 days.
ROWS = {
    f"replicas{devices}": base.Row(
        paper_miou, {}, shares="base" if devices == 1 else "", devices=devices
    )
    for devices, paper_miou in PAPER_MIOUS.items()
}

get_config = base.rows_config("table11", ROWS)
