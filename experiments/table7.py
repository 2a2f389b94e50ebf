r"""Table 7: VOC 2012 test. Only the test server has its labels; a row ends in a file for it.

    python train.py --config=experiments/protocols.py:test    after base, coco and coco_to_voc
    python eval.py --run=runs/protocols/test --split=test --output_stride=8 \
        --scales=0.5,0.75,1,1.25,1.5,1.75 --flip --submission=results.tgz

Paper: 85.7; not run yet. We assume that the server's number uses multi-scale inputs and flip, as
Table 6's last row does. 86.9 cannot be reproduced: JFT-300M was never published.
"""

from experiments import base

_OVERRIDES = {
    **base.STAGE2,
    "train_data.hard_class_factor": 2,
    **base.inference_strategies(base.MULTI_SCALE)["os8_ms_flip"],
    "eval_data.split": "test",
}
ROWS = {
    "deeplabv3": base.Row(
        85.7, _OVERRIDES, shares="protocols/test", starts_from="protocols/coco_to_voc"
    ),
    "deeplabv3_jft": base.Row(
        86.9, _OVERRIDES, unavailable="its pretraining takes JFT-300M, which was never published"
    ),
}
PUBLISHED = {  # Other methods, as the paper lists them.
    "Adelaide VeryDeep FCN": 79.1,
    "LRR": 79.3,
    "DeepLabv2-CRF": 79.7,
    "Deep G-CRF": 80.2,
    "HikSeg": 81.4,
    "SegModel": 81.8,
    "Deep Layer Cascade": 82.7,
    "TuSimple": 83.1,
    "Large Kernel Matters": 83.6,
    "RefineNet": 84.2,
    "ResNet-38": 84.9,
    "PSPNet": 85.4,
    "IDW-CNN": 86.3,
    "SDN": 86.6,
    "DIS": 86.8,
}

get_config = base.rows_config("table7", ROWS)
