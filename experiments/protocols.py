r"""The trainings of Sec. 4 that follow the first one, or go before it.

    python train.py --config=experiments/base.py                     stage 1
    python train.py --config=experiments/protocols.py:stage2         then stage 2, for the test set
    python train.py --config=experiments/protocols.py:coco           pretraining on COCO
    python train.py --config=experiments/protocols.py:coco_to_voc    then VOC: 82.70 in Table 6
    python train.py --config=experiments/protocols.py:test           then stage 2: 85.7 in Table 7

Each starts from the run that goes before it, in runs/; from another with --config.init_from.path.
Stage 2 trains on val too: its mIoU there says nothing of unseen images.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import ml_collections

from experiments import base


class Protocol(NamedTuple):
    """A training, and the run whose weights it starts from."""

    overrides: Mapping[str, Any]  # Dotted fields of base.get_config(), at the paper's scale.
    after: str = ""


STAGE2 = {
    "freeze_batch_norm": True,
    "learning_rate": 0.001,
    "model.output_stride": 8,
    "eval.output_stride": 8,
    "train_data.split": "trainval",
}

PROTOCOLS = {
    "stage2": Protocol(STAGE2, after="base"),
    # How long the pretraining took, and at which learning rate, is open: as on VOC.
    "coco": Protocol({"train_data.dataset": "coco_voc21/per_region", "train_data.split": "train"}),
    "coco_to_voc": Protocol({"learning_rate": 0.0001}, after="protocols/coco"),
    # How often the images of hard classes were repeated is open, and so is in which stage.
    "test": Protocol({**STAGE2, "train_data.hard_class_factor": 2}, after="protocols/coco_to_voc"),
}


def get_config(protocol: str = "") -> ml_collections.ConfigDict:
    """A key of PROTOCOLS, and @scale where it is not the paper's -> its config."""
    config = base.row_config("protocols", PROTOCOLS, protocol)
    name, _, scale = protocol.partition("@")
    if PROTOCOLS[name].after:
        config.init_from.path = f"runs/{base.run_name(PROTOCOLS[name].after, scale or 'paper')}"
        config.init_from.part = "whole"
    return config
