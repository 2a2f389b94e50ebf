"""Table 8: crop size, upsampled logits and fine-tuned batch norm in training.

    python train.py --config=experiments/table8.py:crop321                      paper: 67.22
    python train.py --config=experiments/table8.py:labels_downsampled@shapes    in miniature

batch_norm_frozen needs pretrained weights: ImageNet's, as in the paper.
"""

from experiments import base

ROWS = {
    "base": base.Row(77.21, {}, shares="base"),
    "batch_norm_frozen": base.Row(75.95, {"freeze_batch_norm": True}),
    "labels_downsampled": base.Row(76.01, {"upsample_logits": False}),
    "crop321": base.Row(67.22, {"train_data.crop_size": 321}),
}

get_config = base.rows_config("table8", ROWS)
