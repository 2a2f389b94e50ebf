"""Table 6: inference strategies of the best ASPP model, which is the run `base`.

    python train.py --config=experiments/base.py
    python eval.py --run=runs/base --output_stride=8 --scales=0.5,0.75,1,1.25,1.5,1.75 --flip

Paper: 79.77; not run yet. The last row adds pretraining on COCO: the run `protocols/coco_to_voc`.
"""

from experiments import base

PAPER_MIOUS = {"os16": 77.21, "os8": 78.51, "os8_ms": 79.45, "os8_ms_flip": 79.77}
STRATEGIES = base.inference_strategies(base.MULTI_SCALE)
ROWS = {
    **{name: base.Row(PAPER_MIOUS[name], how, shares="base") for name, how in STRATEGIES.items()},
    "coco": base.Row(
        82.70,
        {"learning_rate": 0.0001, **STRATEGIES["os8_ms_flip"]},
        shares="protocols/coco_to_voc",
        starts_from="protocols/coco",
    ),
}

get_config = base.rows_config("table6", ROWS)
