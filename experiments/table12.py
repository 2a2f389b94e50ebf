r"""Table 12: inference strategies on Cityscapes val, trained on train_fine.

python train.py --config=experiments/table12.py:os16
python eval.py --run=runs/table12/os16 --output_stride=8 --scales=0.75,1,1.25 --flip

At the scale of shapes the data are those, with a crop and steps in proportion.
"""

import ml_collections

from experiments import base

PAPER_MIOUS = {"os16": 77.23, "os8": 77.82, "os8_ms": 79.06, "os8_ms_flip": 79.30}
ROWS = {
    name: base.Row(PAPER_MIOUS[name], {**base.CITYSCAPES, **how}, run="table12/os16")
    for name, how in base.inference_strategies((0.75, 1.0, 1.25)).items()
}


def get_config(row: str = "") -> ml_collections.ConfigDict:
    """A key of ROWS, and @scale where it is not the paper's -> that row's config."""
    return base.row_config("table12", ROWS, row)
