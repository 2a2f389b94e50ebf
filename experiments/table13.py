"""Table 13: Cityscapes test, trained on coarse and fine labels. Only the server has its labels.

    python train.py --config=experiments/protocols.py:coarse
    python train.py --config=experiments/protocols.py:fine    from coarse's weights

Paper: 81.3; not run yet. The paper does not say how the labels are combined or how the test set is
predicted. Our choice: train on coarse, then on fine labels, as on COCO, then VOC; and Table 12's
last inference strategy.
"""

from experiments import base

ROWS = {
    "deeplabv3": base.Row(
        81.3,
        {
            **base.CITYSCAPES,
            "learning_rate": 0.0001,
            **base.inference_strategies((0.75, 1.0, 1.25))["os8_ms_flip"],
            "eval_data.split": "test",
        },
        shares="protocols/fine",
        starts_from="protocols/coarse",
    ),
}
PUBLISHED = {"PSPNet": 81.2, "ResNet-38": 80.6, "Netwarp": 80.5, "TuSimple": 80.1}

get_config = base.rows_config("table13", ROWS)
