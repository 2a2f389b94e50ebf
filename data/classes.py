"""Facts about data sets and their classes: names, colors, sizes."""

import hashlib
from collections.abc import Iterable

import numpy as np

IGNORE_LABEL = 255  # Of pixels without a class: borders and padding.
# What --manual_dir of `python -m data.build` holds.
ORIGINALS = {
    "voc2012": (
        "Without --manual_dir, 5.3 GB are downloaded; with it, nothing. It holds a VOCdevkit, and "
        "for trainaug SBD's benchmark_RELEASE or SegmentationClassAug."
    ),
    "coco_voc21": (
        "--manual_dir holds train2017/, val2017/ and annotations/instances_train2017.json and "
        "instances_val2017.json, from https://cocodataset.org/#download."
    ),
    "cityscapes": (
        "--manual_dir holds leftImg8bit/ and gtFine/ or gtCoarse/, from "
        "https://www.cityscapes-dataset.com."
    ),
    "folder": "--manual_dir holds images/ and masks/, or pairs.csv.",
}

VOC_CLASS_NAMES = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)

# Images in the official lists. trainaug: SBD's train and val and VOC's train, without VOC's val.
VOC_SPLIT_SIZES = {
    "train": 1_464,
    "val": 1_449,
    "trainval": 2_913,
    "trainaug": 10_582,
    "test": 1_456,
}

# Of the official lists, by ids_sha256.
VOC_IDS_SHA256 = {
    "train": "129f1fe991729b1862115b77738c938c149c1f167baa02b4b3186aea9f0d6a84",
    "val": "6f8edc37993764f6e212237d39546fb595246244147e8a050813c520aac0ade1",
    "trainval": "09c882f4c5ae3c692a0fb3bcf6df06c6f3e95ab9e09fb4182cfe28218d9eb22d",
    "trainaug": "855dff350b7f447bf43cb98ea626a32e0d0b3b7c5786e03b2712a21355b635bf",
    "test": "7d323bb3448fa174b9194953e01dfd168c9890adb30dd2491a66536edbeca0aa",
}

# COCO's names for VOC's classes, if they differ.
COCO_NAMES = {
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "tv",
}

CITYSCAPES_SPLIT_SIZES = {
    "train_fine": 2_975,
    "val_fine": 500,
    "train_coarse": 19_998,
    "test": 1_525,
}

# The scored classes, by the labelIds of the official scripts; the others are ignored.
CITYSCAPES_CLASSES = {
    7: ("road", (128, 64, 128)),
    8: ("sidewalk", (244, 35, 232)),
    11: ("building", (70, 70, 70)),
    12: ("wall", (102, 102, 156)),
    13: ("fence", (190, 153, 153)),
    17: ("pole", (153, 153, 153)),
    19: ("traffic light", (250, 170, 30)),
    20: ("traffic sign", (220, 220, 0)),
    21: ("vegetation", (107, 142, 35)),
    22: ("terrain", (152, 251, 152)),
    23: ("sky", (70, 130, 180)),
    24: ("person", (220, 20, 60)),
    25: ("rider", (255, 0, 0)),
    26: ("car", (0, 0, 142)),
    27: ("truck", (0, 0, 70)),
    28: ("bus", (0, 60, 100)),
    31: ("train", (0, 80, 100)),
    32: ("motorcycle", (0, 0, 230)),
    33: ("bicycle", (119, 11, 32)),
}


def voc_palette() -> np.ndarray:
    """The [256, 3] uint8 colors of the VOC development kit: row = class id, 255 = ignored.

    The bits of an id go to red, green and blue in turn, the lowest to the colors' highest bits.
    """
    ids = np.arange(256)
    palette = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= ((ids >> (3 * bit + channel) & 1) << (7 - bit)).astype(np.uint8)
    return palette


def ids_sha256(ids: Iterable[str]) -> str:
    """Ids in any order -> the sha256 of their sorted list, one per line."""
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()
