r"""Table 8: crop size, upsampled logits and fine-tuned batch norm in training.

python train.py --config=experiments/table8.py:crop321
python train.py --config=experiments/table8.py:labels_downsampled@shapes

batch_norm_frozen needs weights that were trained: ImageNet's, as in the paper. At another scale
name some with --config.init_from.path.
"""

import ml_collections

from experiments import base

ROWS = {
    "base": base.Row(77.21, {}, run="base"),
    "batch_norm_frozen": base.Row(75.95, {"freeze_batch_norm": True}),
    "labels_downsampled": base.Row(76.01, {"upsample_logits": False}),
    "crop321": base.Row(67.22, {"train_data.crop_size": 321}),
}


def get_config(row: str = "") -> ml_collections.ConfigDict:
    """A key of ROWS, and @scale where it is not the paper's -> that row's config."""
    return base.row_config("table8", ROWS, row)
