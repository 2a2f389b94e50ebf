r"""Table 9: the batch size.

python train.py --config=experiments/table9.py:batch8
python train.py --config=experiments/table9.py:batch8@shapes

The learning rate of other batch sizes than 16 is open; it is left as it is (our choice).
"""

import ml_collections

from experiments import base

ROWS = {
    "batch4": base.Row(64.43, {"train_data.batch_size": 4}),
    "batch8": base.Row(75.76, {"train_data.batch_size": 8}),
    "batch12": base.Row(76.49, {"train_data.batch_size": 12}),
    "batch16": base.Row(77.21, {}),
}


def get_config(row: str = "") -> ml_collections.ConfigDict:
    """A key of ROWS, and @scale where it is not the paper's -> that row's config."""
    return base.row_config("table9", ROWS, row)
