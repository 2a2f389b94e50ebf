r"""Table 13: Cityscapes test, whose labels only the server has; trained on coarse and fine labels.

python train.py --config=experiments/protocols.py:coarse
python train.py --config=experiments/protocols.py:fine    from coarse's weights

Open, and our choice: that one follows the other, as VOC follows COCO, and that the server's number
is of Table 12's last inference strategy.
"""

import ml_collections

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
        run="protocols/fine",
        after="protocols/coarse",
    ),
}
PUBLISHED = {"PSPNet": 81.2, "ResNet-38": 80.6, "Netwarp": 80.5, "TuSimple": 80.1}


def get_config(row: str = "") -> ml_collections.ConfigDict:
    """A key of ROWS, and @scale where it is not the paper's -> that row's config."""
    return base.row_config("table13", ROWS, row)
