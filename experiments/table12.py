"""Table 12: inference strategies on Cityscapes val, trained on train_fine.

    python train.py --config=experiments/table12.py:os16
    python eval.py --run=runs/table12/os16 --output_stride=8 --scales=0.75,1,1.25 --flip

Paper: 79.30; not run yet.
"""

from experiments import base

PAPER_MIOUS = {"os16": 77.23, "os8": 77.82, "os8_ms": 79.06, "os8_ms_flip": 79.30}
ROWS = {
    name: base.Row(PAPER_MIOUS[name], {**base.CITYSCAPES, **how}, shares="table12/os16")
    for name, how in base.inference_strategies((0.75, 1.0, 1.25)).items()
}

get_config = base.rows_config("table12", ROWS)
