"""Table 9: the batch size.

    python train.py --config=experiments/table9.py:batch8           paper: 75.76; not run yet
    python train.py --config=experiments/table9.py:batch8@shapes    in miniature

The paper does not say whether the learning rate or the number of steps change with the batch size.
Our choice: neither does.
"""

from experiments import base

PAPER_MIOUS = {4: 64.43, 8: 75.76, 12: 76.49, 16: 77.21}
ROWS = {
    f"batch{batch_size}": base.Row(
        paper_miou,
        {"train_data.batch_size": batch_size},
        shares="base" if batch_size == 16 else "",
    )
    for batch_size, paper_miou in PAPER_MIOUS.items()
}

get_config = base.rows_config("table9", ROWS)
