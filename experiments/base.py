"""The protocol of Sec. 4.1, from which every row of every table departs; and the scales.

A scale runs the same idea at another size. `paper` is the size that was published; the others are
ours, for a CPU, and their numbers never stand in the paper's column:

    python train.py --config=experiments/base.py           the paper's 77.21
    python train.py --config=experiments/base.py:shapes    its miniature, minutes on 2 cores
"""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import ml_collections


class Row(NamedTuple):
    """One number of a paper table, what to change to obtain it, and who trains for it.

    A run is named as its folder in runs/: `base`, `table3/mg121_block7`, `protocols/coco`.
    """

    paper_miou: float | None  # Percent. None: a training that the paper gives no number of.
    overrides: Mapping[str, Any]  # Dotted fields of get_config(), at the paper's scale.
    run: str = ""  # Whose training it shares, differing in the evaluation alone. "": its own.
    after: str = ""  # The run whose weights the training starts from.
    devices: int = 1  # That train it, in step with one another: Table 11.
    why_not: str = ""  # Why nobody but its authors can run it.


class Scale(NamedTuple):
    """A size at which to run a row: what differs from the paper, whatever the row."""

    backbones: Mapping[str, str]  # In place of the row's, so that the deeper one stays deeper.
    sizes: Mapping[str, Any]  # Of the untouched protocol; where a row has others, in proportion.
    overrides: Mapping[str, Any]  # Whatever the row has.


RANDOM_WEIGHTS = {"init_from.path": "", "init_from.part": "whole"}
TINY = {"resnet50": "resnet_tiny_shallow", "resnet101": "resnet_tiny"}
SCALES = {
    "paper": Scale({}, {}, {}),
    "shapes": Scale(
        TINY,
        {
            "steps": 1_800,
            "eval_every": 600,
            "learning_rate": 0.05,  # From random weights, not from ImageNet's.
            "model.atrous_rates": (2, 4, 6),  # Even, so that they halve at output_stride 32.
            "train_data.batch_size": 8,
            "train_data.crop_size": 81,  # A map of 6 x 6 in place of 33 x 33.
        },
        {
            **RANDOM_WEIGHTS,
            "model.batch_norm_decay": 0.98,  # 0.9997 would outlast the run.
            "model.num_classes": 21,
            "train_data.dataset": "shapes",
            "train_data.split": "train",
            "train_data.hard_classes": ("wheel", "spider", "comb", "bird", "fish"),
            "eval_data.dataset": "shapes",
            "eval_data.split": "val",
        },
    ),
    "voc_small": Scale(  # COCO and Cityscapes where a row is on them.
        TINY,
        {
            "steps": 3_000,
            "eval_every": 1_000,
            "learning_rate": 0.05,  # From random weights, not from ImageNet's.
            "model.atrous_rates": (2, 4, 6),
            "train_data.batch_size": 8,
            "train_data.crop_size": 257,  # A map of 17 x 17 in place of 33 x 33.
        },
        {
            **RANDOM_WEIGHTS,
            "model.batch_norm_decay": 0.99,  # 0.9997 would outlast the run.
        },
    ),
}

# The inference strategies of Sec. 4.1, and the scales of several, on VOC.
MULTI_SCALE = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
STAGE2 = {  # For the test set, from stage 1's weights.
    "freeze_batch_norm": True,
    "learning_rate": 0.001,
    "model.output_stride": 8,
    "eval.output_stride": 8,
    "train_data.split": "trainval",
}
CITYSCAPES = {
    "steps": 90_000,
    "model.num_classes": 19,
    "train_data.dataset": "cityscapes",
    "train_data.split": "train_fine",
    "train_data.crop_size": 769,
    "train_data.hard_classes": (),  # VOC's are not there.
    "eval_data.dataset": "cityscapes",
    "eval_data.split": "val_fine",
}


def cascade(num_blocks: int, multi_grid: tuple[int, int, int]) -> dict[str, Any]:
    """The model of Sec. 3.2: blocks in cascade and no ASPP -> overrides."""
    return {
        "model.num_blocks": num_blocks,
        "model.multi_grid": multi_grid,
        "model.atrous_rates": None,
        "model.image_pooling": False,
    }


def inference_strategies(scales: tuple[float, ...]) -> dict[str, dict[str, Any]]:
    """Those that Tables 4, 6 and 12 print, each one more than the one before -> overrides."""
    strategies, overrides = {}, {}
    for name, more in (
        ("os16", {"eval.output_stride": 16}),
        ("os8", {"eval.output_stride": 8}),
        ("os8_ms", {"eval.scales": scales}),
        ("os8_ms_flip", {"eval.flip": True}),
    ):
        overrides = {**overrides, **more}
        strategies[name] = overrides
    return strategies


def get_config(scale: str = "paper") -> ml_collections.ConfigDict:
    """A key of SCALES -> the last row of Table 5 at that scale; for `paper`, 77.21."""
    return make_config("base", {}, scale)


def make_config(
    name: str, overrides: Mapping[str, Any], scale: str = "paper"
) -> ml_collections.ConfigDict:
    """Dotted fields and their values at the paper's scale, and a scale -> a whole, locked config.

    name is that of the run's folder at the paper's scale. Raises ValueError for an unknown scale,
    KeyError for a field that does not exist.
    """
    if scale not in SCALES:
        raise ValueError(f"No scale {scale!r}; there are {', '.join(SCALES)}.")
    config = paper_config()
    config.name = run_name(name, scale)
    sizes = {
        field: _in_proportion(overrides[field], config_value(config, field), size)
        if field in overrides
        else size
        for field, size in SCALES[scale].sizes.items()
    }
    config.update_from_flattened_dict({**overrides, **sizes, **SCALES[scale].overrides})
    if scale != "paper":
        backbone = config.model.backbone
        family = backbone.partition("_")[0]  # Without what says how its stem or pixels are.
        config.model.backbone = SCALES[scale].backbones.get(family, backbone)
        # A coarse row may need a larger crop, for its features to lie on pixels as they do at 513.
        stride = config.model.output_stride
        config.train_data.crop_size = 1 - (1 - config.train_data.crop_size) // stride * stride
    return config


def _in_proportion(value, papers, ours):
    """A row's size beside the untouched paper's -> its size beside the scale's own."""
    if value is None:  # No ASPP, no rates.
        return None
    if isinstance(value, tuple):
        return tuple(rate * ours[0] // papers[0] for rate in value)
    if isinstance(value, float):
        return value * ours / papers
    if papers % 2:  # A crop of a multiple of a stride, plus 1.
        return 1 + (value - 1) * (ours - 1) // (papers - 1)
    return max(1, round(value * ours / papers))


def config_value(config: ml_collections.ConfigDict, field: str) -> Any:
    """A config and a dotted field -> its value."""
    for part in field.split("."):
        config = config[part]
    return config


def run_name(name: str, scale: str) -> str:
    """A run's name at the paper's scale -> its name at another."""
    return name if scale == "paper" else f"{scale}/{name}"


def paper_config() -> ml_collections.ConfigDict:
    """DeepLabv3 on PASCAL VOC 2012, stage 1: the last row of Table 5, 77.21."""
    config = ml_collections.ConfigDict()
    config.name = "base"
    config.seed = 0
    config.steps = 30_000
    config.eval_every = 1_000  # Steps; after the last one always.
    config.learning_rate = 0.007  # Falls to 0 as (1 - step/steps)^0.9.
    config.freeze_batch_norm = False  # Statistics, gamma and beta: stage 2, Table 8.
    config.upsample_logits = True  # False: the labels are downsampled instead; Table 8.
    config.precision = "float32"  # Or mixed_bfloat16, or mixed_float16 with loss scaling.
    config.rematerialize = False  # True: less memory, more time.
    config.jit_compile = False  # True: with XLA, on one device; a TPU does anyway.
    config.init_from = dict(
        # ImageNet's from keras.applications (Sec. 4.1), downloaded; or a run's folder, or one of
        # checkpoints, as RUN/best is; or a file: pretrained/open_weights.py. "": random weights.
        path="imagenet",
        part="backbone",  # Or whole, or without_logits.
        strict=True,  # Whether it is an error that something of that part is not there, or differs.
    )
    config.model = dict(
        backbone="resnet101_keras",  # Which sees pixels as its ImageNet weights do.
        num_classes=21,
        num_blocks=4,  # 5 to 7 put copies of block4 in cascade.
        output_stride=16,
        multi_grid=(1, 2, 4),
        atrous_rates=(6, 12, 18),  # At output_stride 16, doubled at 8. None: no ASPP.
        image_pooling=True,
        batch_norm_decay=0.9997,
        head="paper",  # Or torchvision, for the weights of its segmentation models.
    )
    config.train_data = dict(
        dataset="voc2012",
        split="trainaug",
        batch_size=16,  # Of all devices together.
        crop_size=513,
        hard_classes=("bicycle", "chair", "diningtable", "pottedplant", "sofa"),
        hard_class_factor=1,  # Times that an image of them is in an epoch: bootstrapping.
    )
    config.eval_data = dict(dataset="voc2012", split="val")
    config.eval = dict(output_stride=16, scales=(1.0,), flip=False)
    return config.lock()  # Before any override: a misspelt one must fail.


def row_config(table: str, rows: Mapping[str, Row], row: str) -> ml_collections.ConfigDict:
    """`mg124` or `mg124@shapes` -> that row's config, at the paper's scale or the one named.

    Raises ValueError, which lists what there is, for an unknown row or scale.
    """
    row, _, scale = row.partition("@")
    if row not in rows:
        raise ValueError(f"No row {row!r} in {table}; there are {', '.join(rows)}.")
    config = make_config(f"{table}/{row}", rows[row].overrides, scale or "paper")
    if rows[row].after:
        config.init_from.path = f"runs/{run_name(rows[row].after, scale or 'paper')}"
        config.init_from.part = "whole"
    return config


def as_data(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """A config -> the same as plain data, as config.json holds it."""
    return json.loads(config.to_json())


def inference_of(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """A config -> how its run is scored: the split and the inference strategy, by name."""
    return {"split": config.eval_data.split, **config.eval}
