r"""Table 4: inference strategies of the best cascade, which is trained as Table 3's mg121_block7.

python train.py --config=experiments/table3.py:mg121_block7
python eval.py --run=runs/table3/mg121_block7 --output_stride=8 \
    --scales=0.5,0.75,1,1.25,1.5,1.75 --flip
"""

import ml_collections

from experiments import base

PAPER_MIOUS = {"os16": 76.66, "os8": 78.05, "os8_ms": 78.93, "os8_ms_flip": 79.35}
ROWS = {
    name: base.Row(
        PAPER_MIOUS[name], {**base.cascade(7, (1, 2, 1)), **how}, run="table3/mg121_block7"
    )
    for name, how in base.inference_strategies(base.MULTI_SCALE).items()
}


def get_config(row: str = "") -> ml_collections.ConfigDict:
    """A key of ROWS, and @scale where it is not the paper's -> that row's config."""
    return base.row_config("table4", ROWS, row)
