r"""The trainings of Sec. 4 that follow the first one, or go before it.

    python train.py --config=experiments/base.py                     stage 1
    python train.py --config=experiments/protocols.py:stage2         then stage 2, for the test set
    python train.py --config=experiments/protocols.py:coco           pretraining on COCO
    python train.py --config=experiments/protocols.py:coco_to_voc    then VOC: 82.70 in Table 6
    python train.py --config=experiments/protocols.py:test           then stage 2: 85.7 in Table 7
    python train.py --config=experiments/protocols.py:coarse         Cityscapes' coarse labels
    python train.py --config=experiments/protocols.py:fine           then its fine: 81.3 in Table 13

Each starts from the run that goes before it, in runs/; from another with --config.init_from.path.
Stage 2 trains on val too: its mIoU there says nothing of unseen images.
"""

import ml_collections

from experiments import base

ROWS = {
    "stage2": base.Row(None, base.STAGE2, after="base"),
    # How long the pretraining took, and at which learning rate, is open: as on VOC.
    "coco": base.Row(
        None, {"train_data.dataset": "coco_voc21/per_region", "train_data.split": "train"}
    ),
    "coco_to_voc": base.Row(None, {"learning_rate": 0.0001}, after="protocols/coco"),
    # How often the images of hard classes were repeated is open, and so is in which stage.
    "test": base.Row(
        None, {**base.STAGE2, "train_data.hard_class_factor": 2}, after="protocols/coco_to_voc"
    ),
    # How Cityscapes' fine and coarse labels were combined is open: as COCO and VOC were.
    "coarse": base.Row(None, {**base.CITYSCAPES, "train_data.split": "train_coarse"}),
    "fine": base.Row(None, {**base.CITYSCAPES, "learning_rate": 0.0001}, after="protocols/coarse"),
}


def get_config(row: str = "") -> ml_collections.ConfigDict:
    """A key of ROWS, and @scale where it is not the paper's -> its config."""
    return base.row_config("protocols", ROWS, row)
