r"""Table 9: the batch size.

python train.py --config=experiments/table9.py:batch8
python train.py --config=experiments/table9.py:batch8@shapes

The learning rate of other batch sizes than 16 is open; it is left as it is (our choice), and so is
the number of steps.
"""

import ml_collections

from experiments import base

PAPER_MIOUS = {4: 64.43, 8: 75.76, 12: 76.49, 16: 77.21}
ROWS = {
    f"batch{batch_size}": base.Row(
        paper_miou,
        {"train_data.batch_size": batch_size},
        run="base" if batch_size == 16 else "",
    )
    for batch_size, paper_miou in PAPER_MIOUS.items()
}


def get_config(row: str = "") -> ml_collections.ConfigDict:
    """A key of ROWS, and @scale where it is not the paper's -> that row's config."""
    return base.row_config("table9", ROWS, row)
