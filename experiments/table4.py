r"""Table 4: inference strategies of the best cascade, which is Table 3's run mg121_block7.

    python train.py --config=experiments/table3.py:mg121_block7
    python eval.py --run=runs/table3/mg121_block7 --output_stride=8 \
        --scales=0.5,0.75,1,1.25,1.5,1.75 --flip

Paper: 79.35; not run yet.
"""

from experiments import base

PAPER_MIOUS = {"os16": 76.66, "os8": 78.05, "os8_ms": 78.93, "os8_ms_flip": 79.35}
ROWS = {
    name: base.Row(
        PAPER_MIOUS[name], {**base.cascade(7, (1, 2, 1)), **how}, shares="table3/mg121_block7"
    )
    for name, how in base.inference_strategies(base.MULTI_SCALE).items()
}

get_config = base.rows_config("table4", ROWS)
