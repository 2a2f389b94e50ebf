"""The training stages of Sec. 4 after, or before, the first one.

    python train.py --config=experiments/base.py                     stage 1
    python train.py --config=experiments/protocols.py:stage2         then stage 2, for the test set
    python train.py --config=experiments/protocols.py:coco           pretraining on COCO
    python train.py --config=experiments/protocols.py:coco_to_voc    then VOC: 82.70 in Table 6
    python train.py --config=experiments/protocols.py:test           then stage 2: 85.7 in Table 7
    python train.py --config=experiments/protocols.py:coarse         Cityscapes' coarse labels
    python train.py --config=experiments/protocols.py:fine           then its fine: 81.3 in Table 13

Numbers are the paper's; none has been run at its size. Each stage starts from the run before it, in
runs/; --config.init_from.path chooses another. Stage 2 also trains on val, so its mIoU there does
not measure generalization.
"""

from experiments import base

ROWS = {
    "stage2": base.Row(None, base.STAGE2, starts_from="base"),
    # The paper gives neither steps nor learning rate of the pretraining. Our choice: as on VOC.
    "coco": base.Row(
        None, {"train_data.dataset": "coco_voc21/per_region", "train_data.split": "train"}
    ),
    "coco_to_voc": base.Row(None, {"learning_rate": 0.0001}, starts_from="protocols/coco"),
    # The paper gives neither the factor nor the stage of bootstrapping. Our choice: 2, the last.
    "test": base.Row(
        None,
        {**base.STAGE2, "train_data.hard_class_factor": 2},
        starts_from="protocols/coco_to_voc",
    ),
    # The paper does not say how fine and coarse labels are combined. Our choice: as COCO and VOC.
    "coarse": base.Row(None, {**base.CITYSCAPES, "train_data.split": "train_coarse"}),
    "fine": base.Row(
        None, {**base.CITYSCAPES, "learning_rate": 0.0001}, starts_from="protocols/coarse"
    ),
}

get_config = base.rows_config("protocols", ROWS)
