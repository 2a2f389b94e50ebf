"""Table 3: multi-grid in the cascade, ResNet-101, output_stride 16.

    python train.py --config=experiments/table3.py:mg121_block7           paper: 76.66; not run yet
    python train.py --config=experiments/table3.py:mg121_block7@shapes    in miniature

The unit rates apply to block4 and to every block after it.
"""

from experiments import base

PAPER_MIOUS = {  # block4 to block7.
    (1, 1, 1): (68.39, 73.21, 75.34, 75.76),
    (1, 2, 1): (70.23, 75.67, 76.09, 76.66),
    (1, 2, 3): (73.14, 75.78, 75.96, 76.11),
    (1, 2, 4): (73.45, 75.74, 75.85, 76.02),
    (2, 2, 2): (71.45, 74.30, 74.70, 74.62),
}
ROWS = {
    f"mg{''.join(map(str, multi_grid))}_block{num_blocks}": base.Row(
        paper_miou, base.cascade(num_blocks, multi_grid)
    )
    for multi_grid, paper_mious in PAPER_MIOUS.items()
    for num_blocks, paper_miou in enumerate(paper_mious, start=4)
}

get_config = base.rows_config("table3", ROWS)
