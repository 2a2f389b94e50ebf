"""Table 5: ASPP with multi-grid and image-level features, ResNet-101, output_stride 16.

    python train.py --config=experiments/table5.py:mg111           paper: 75.36; not run yet
    python train.py --config=experiments/table5.py:mg111@shapes    in miniature

The last row, mg124_pooling, is experiments/base.py unchanged: the run `base`.
"""

from experiments import base


def _row(paper_miou, multi_grid, atrous_rates=(6, 12, 18), image_pooling=False, shares=""):
    return base.Row(
        paper_miou,
        {
            "model.multi_grid": multi_grid,
            "model.atrous_rates": atrous_rates,
            "model.image_pooling": image_pooling,
        },
        shares=shares,
    )


ROWS = {
    "mg111": _row(75.36, (1, 1, 1)),
    "mg121": _row(75.93, (1, 2, 1)),
    "mg124": _row(76.58, (1, 2, 4)),
    "mg124_rate24": _row(76.46, (1, 2, 4), atrous_rates=(6, 12, 18, 24)),
    "mg124_pooling": _row(77.21, (1, 2, 4), image_pooling=True, shares="base"),
}

get_config = base.rows_config("table5", ROWS)
