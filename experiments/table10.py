r"""Table 10: the output_stride in training and in evaluation.

python train.py --config=experiments/table10.py:train32_eval16
python train.py --config=experiments/table10.py:train32_eval16@shapes

The batch is what fitted the authors' memory. ASPP's rates double at 8 and halve at 32. The learning
rate of other batch sizes than 16 is open; it is left as it is (our choice).
"""

import ml_collections

from experiments import base


def _row(paper_miou, train_output_stride, batch_size, eval_output_stride):
    return base.Row(
        paper_miou,
        {
            "model.output_stride": train_output_stride,
            "train_data.batch_size": batch_size,
            "eval.output_stride": eval_output_stride,
        },
    )


ROWS = {
    "train8_eval16": _row(74.45, 8, 6, 16),
    "train8_eval8": _row(75.62, 8, 6, 8),
    "train16_eval16": _row(77.21, 16, 16, 16),
    "train16_eval8": _row(78.51, 16, 16, 8),
    "train32_eval16": _row(75.90, 32, 24, 16),
    "train32_eval8": _row(75.75, 32, 24, 8),
}


def get_config(row: str = "") -> ml_collections.ConfigDict:
    """A key of ROWS, and @scale where it is not the paper's -> that row's config."""
    return base.row_config("table10", ROWS, row)
