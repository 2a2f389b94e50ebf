"""The training protocol of Sec. 4.1, the base of every row of every table; and the scales.

    python train.py --config=experiments/base.py           paper: 77.21; not run yet
    python train.py --config=experiments/base.py:shapes    in miniature: minutes on a CPU

A scale runs the same row at another size. `paper` is the published size. The others are ours, for a
CPU, and their numbers are never compared with the paper's: docs/results.md has them.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import ml_collections

FIELDS = {  # Of every config, and what they mean. train.py --help shows them.
    "name": "Name of the run: its folder below runs/.",
    "seed": "Seed of the initial weights, the order of images, augmentation and dropout.",
    "steps": "Number of optimizer updates.",
    "eval_every": "Number of steps between evaluations. The last step is always evaluated.",
    "learning_rate": "Learning rate at step 0. It decays to 0 as (1 - step/steps)^0.9.",
    "backbone_learning_rate_factor": "Learning rate of the backbone, as a multiple of the head's.",
    "freeze_batch_norm": "Whether statistics, gamma and beta stay fixed, as in stage 2; Table 8.",
    "upsample_logits": "Whether the loss is at the label's size; else at the features'; Table 8.",
    "precision": "float32, mixed_bfloat16, or mixed_float16 with loss scaling.",
    "rematerialize": "Whether the gradient computes units again: less memory, more time.",
    "jit_compile": "Whether XLA compiles the step, on one device. On a TPU it always does.",
    "init_from.path": (
        "Weights to start from: imagenet (keras.applications', downloaded; Sec. 4.1), the folder "
        "of a run, or a file (docs/pretrained.md). Empty: random weights."
    ),
    "init_from.part": "Part of these weights to load: backbone, whole, or without_logits.",
    "init_from.strict": "Whether a missing or differently shaped variable is an error.",
    "model.backbone": "A key of BACKBONES in model/backbones.py, which fixes the pixels' range.",
    "model.num_classes": "Number of classes, background included.",
    "model.num_blocks": "Number of blocks: 4; 5 to 7 add copies of block4 in cascade.",
    "model.output_stride": "Size of the input divided by the size of the features, in training.",
    "model.multi_grid": "Unit rates of block4 and later.",
    "model.atrous_rates": "ASPP's rates at output_stride 16; doubled at 8. None: no ASPP.",
    "model.image_pooling": "Whether ASPP has image-level features.",
    "model.batch_norm_decay": "Decay of the moving averages of batch norm.",
    "model.head": "Head: paper, or torchvision for the weights of its segmentation models.",
    "train_data.dataset": "Data set to train on, as python -m data.build names it.",
    "train_data.split": "Split to train on.",
    "train_data.batch_size": "Number of images per step, on all devices together.",
    "train_data.crop_size": "Height and width of the training crops, in pixels.",
    "train_data.hard_classes": "Classes whose images are repeated: the paper's bootstrapping.",
    "train_data.hard_class_factor": "How often an image with one of these classes is in an epoch.",
    "eval_data.dataset": "Data set to evaluate on.",
    "eval_data.split": "Split to evaluate on.",
    "eval.output_stride": "Output stride in evaluation. Weights do not depend on it.",
    "eval.scales": "Image scales whose predictions are averaged.",
    "eval.flip": "Whether predictions are averaged over the image and its horizontal flip.",
}


def paper_config() -> ml_collections.ConfigDict:
    """DeepLabv3 on PASCAL VOC 2012, stage 1: the last row of Table 5, 77.21."""
    config = ml_collections.ConfigDict()
    config.name = "base"
    config.seed = 0
    config.steps = 30_000
    config.eval_every = 1_000
    config.learning_rate = 0.007
    config.backbone_learning_rate_factor = 1.0
    config.freeze_batch_norm = False
    config.upsample_logits = True
    config.precision = "float32"
    config.rematerialize = False
    config.jit_compile = False
    config.init_from = dict(path=IMAGENET, part="backbone", strict=True)
    config.model = dict(
        backbone="resnet101_keras",
        num_classes=21,
        num_blocks=4,
        output_stride=16,
        multi_grid=(1, 2, 4),
        atrous_rates=(6, 12, 18),
        image_pooling=True,
        batch_norm_decay=0.9997,
        head="paper",
    )
    config.train_data = dict(
        dataset="voc2012",
        split="trainaug",
        batch_size=16,
        crop_size=513,
        hard_classes=("bicycle", "chair", "diningtable", "pottedplant", "sofa"),
        hard_class_factor=1,
    )
    config.eval_data = dict(dataset="voc2012", split="val")
    config.eval = dict(output_stride=16, scales=(1.0,), flip=False)
    return config.lock()  # Before any override, so that a misspelled one fails.


# Multi-scale inference on VOC (Sec. 4.1).
MULTI_SCALE = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
STAGE2 = {  # Fine-tuning for the test set, starting from stage 1.
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
    "train_data.hard_classes": (),  # Those are VOC classes.
    "eval_data.dataset": "cityscapes",
    "eval_data.split": "val_fine",
}


def cascade(num_blocks: int, multi_grid: tuple[int, int, int]) -> dict[str, Any]:
    """Number of blocks and unit rates -> overrides for the cascade of Sec. 3.2, without ASPP."""
    return {
        "model.num_blocks": num_blocks,
        "model.multi_grid": multi_grid,
        "model.atrous_rates": None,
        "model.image_pooling": False,
    }


def inference_strategies(scales: tuple[float, ...]) -> dict[str, dict[str, Any]]:
    """Multi-scale factors -> overrides of the strategies in Tables 4, 6, 12, each adding one."""
    strategies, overrides = {}, {}
    for name, addition in (
        ("os16", {"eval.output_stride": 16}),
        ("os8", {"eval.output_stride": 8}),
        ("os8_ms", {"eval.scales": scales}),
        ("os8_ms_flip", {"eval.flip": True}),
    ):
        overrides = {**overrides, **addition}
        strategies[name] = overrides
    return strategies


class Row(NamedTuple):
    """One number of a paper table, how its config differs from the base, and its training run.

    Runs are named by their folder in runs/: `base`, `table3/mg121_block7`, `protocols/coco`.
    """

    paper_miou: float | None  # Percent. None: the paper gives no number.
    overrides: Mapping[str, Any]  # Dotted fields of get_config(), at the paper's scale.
    shares: str = ""  # The run whose training it shares; only the evaluation differs. "": its own.
    starts_from: str = ""  # The run whose weights the training starts from.
    devices: int = 1  # Number of synchronous devices that train it: Table 11.
    unavailable: str = ""  # Why it cannot be run.


class Scale(NamedTuple):
    """A size at which to run a row: how it differs from the paper's."""

    backbones: Mapping[str, str]  # Replacements; the deeper backbone stays deeper.
    sizes: Mapping[str, Any]  # For the base protocol; a row's own sizes change in proportion.
    overrides: Mapping[str, Any]  # These replace whatever the row sets.
    base: Mapping[str, Any] = {}  # Of the base protocol, before the row's own and instead of sizes.
    has_blocks: bool = True  # False: its backbone has no blocks 1 to 7, nor unit rates in them.


IMAGENET = "imagenet"  # The value of init_from.path for keras.applications' weights.
RANDOM_WEIGHTS = {"init_from.path": "", "init_from.part": "whole"}
TINY = {"resnet50": "resnet_tiny_shallow", "resnet101": "resnet_tiny"}
VOC_MOBILE = Scale(  # Rows on COCO or Cityscapes keep their data set.
    {"resnet50": "mobilenet_v2", "resnet101": "mobilenet_v2"},
    {
        "steps": 4_000,
        "eval_every": 1_000,
        "learning_rate": 0.01,
        "model.atrous_rates": (2, 4, 6),
        "train_data.batch_size": 8,
        "train_data.crop_size": 257,  # Features of 17 x 17 instead of 33 x 33.
    },
    {
        "backbone_learning_rate_factor": 0.05,  # Its weights are trained, the head's are not.
        "model.batch_norm_decay": 0.99,  # 0.9997 averages over too many steps for it.
    },
    base={
        "model.multi_grid": (1, 1, 1),
        "model.atrous_rates": (),  # The authors' ASPP for it.
        "freeze_batch_norm": True,  # In short runs better than one that is trained.
    },
    has_blocks=False,
)
SCALES = {
    "paper": Scale({}, {}, {}),
    "shapes": Scale(
        TINY,
        {
            "steps": 1_800,
            "eval_every": 600,
            "learning_rate": 0.05,  # Higher: from random weights, not ImageNet's.
            "model.atrous_rates": (2, 4, 6),  # Even, so that output_stride 32 can halve them.
            "train_data.batch_size": 8,
            "train_data.crop_size": 129,  # Features of 9 x 9 instead of 33 x 33.
        },
        {
            **RANDOM_WEIGHTS,
            "model.batch_norm_decay": 0.98,  # 0.9997 averages over too many steps for it.
            "model.num_classes": 21,
            "train_data.dataset": "shapes",
            "train_data.split": "train",
            "train_data.hard_classes": ("wheel", "spider", "comb", "ladder"),
            "eval_data.dataset": "shapes",
            "eval_data.split": "val",
        },
    ),
    "voc_small": Scale(  # Rows on COCO or Cityscapes keep their data set.
        TINY,
        {
            "steps": 3_000,
            "eval_every": 1_000,
            "learning_rate": 0.05,  # Higher: from random weights, not ImageNet's.
            "model.atrous_rates": (2, 4, 6),
            "train_data.batch_size": 8,
            "train_data.crop_size": 257,  # Features of 17 x 17 instead of 33 x 33.
        },
        {
            **RANDOM_WEIGHTS,
            "model.batch_norm_decay": 0.99,  # 0.9997 averages over too many steps for it.
        },
    ),
    "voc_mobile": VOC_MOBILE,
    "voc_mobile_aspp": VOC_MOBILE._replace(  # The paper's ASPP and batch norm, for its claims.
        sizes={**VOC_MOBILE.sizes, "steps": 1_000, "eval_every": 500},
        base={"model.multi_grid": (1, 1, 1)},
    ),
}


def get_config(scale: str = "paper") -> ml_collections.ConfigDict:
    """A key of SCALES -> the last row of Table 5 at that scale."""
    return make_config("base", {}, scale)


def make_config(
    name: str, overrides: Mapping[str, Any], scale: str = "paper"
) -> ml_collections.ConfigDict:
    """Builds the complete, locked config of a row at a scale.

    Args:
      name: the run's folder at the paper's scale.
      overrides: dotted fields and their values at the paper's scale.
      scale: a key of SCALES.

    Raises:
      ValueError: For an unknown scale, and one at which the row is not available.
      KeyError: For a field that does not exist.
    """
    if scale not in SCALES:
        raise ValueError(f"No scale {scale!r}; there are {', '.join(SCALES)}.")
    if reason := unavailable_at(scale, overrides):
        raise ValueError(f"{name} is not available at the scale {scale}: {reason}.")
    config = paper_config()
    config.name = run_name(name, scale)
    here = SCALES[scale]
    overrides = {  # What a row has in common with the paper's base is the scale's base here.
        field: value
        for field, value in overrides.items()
        if field not in here.base or value != config_value(config, field)
    }
    sizes = {
        field: _scale_in_proportion(overrides[field], config_value(config, field), size)
        if field in overrides
        else here.base.get(field, size)
        for field, size in here.sizes.items()
    }
    config.update_from_flattened_dict({**here.base, **overrides, **sizes, **here.overrides})
    if scale != "paper":
        backbone = config.model.backbone
        family = backbone.partition("_")[0]  # Without the variant of its stem or pixels.
        config.model.backbone = SCALES[scale].backbones.get(family, backbone)
        # Rounded up, so that features of coarse rows align with pixels as they do at 513.
        stride = config.model.output_stride
        config.train_data.crop_size = 1 - (1 - config.train_data.crop_size) // stride * stride
    return config


def unavailable_at(scale: str, overrides: Mapping[str, Any]) -> str:
    """A key of SCALES, and a row's overrides -> why the row cannot be run at that scale, or ""."""
    here = SCALES[scale]
    if overrides == {"freeze_batch_norm": True}:
        if here.base.get("freeze_batch_norm"):
            return "batch norm is frozen in every row there"
        if here.overrides.get("init_from.path") == "":
            return "weights are random there, and their batch norm has no statistics to freeze"
    if "train_data.dataset" in overrides and "train_data.dataset" in here.overrides:
        return f"it is about another data set, and the scale {scale} has one"
    if here.has_blocks:
        return ""
    if "model.num_blocks" in overrides:  # A cascade.
        return "it is about the blocks of ResNets, which MobileNetV2 does not have"
    multi_grid = paper_config().model.multi_grid
    if overrides.get("model.multi_grid", multi_grid) != multi_grid:
        return "multi-grid is about the units of ResNets, which MobileNetV2 does not have"
    return ""


def _scale_in_proportion(value, paper_value, scale_value):
    """A row's value, and the base's at the paper's scale and at another -> the row's at that."""
    if value is None:  # No ASPP, no rates.
        return None
    if isinstance(value, tuple):
        return tuple(rate * scale_value[0] // paper_value[0] for rate in value)
    if isinstance(value, float):
        return value * scale_value / paper_value
    if paper_value % 2:  # A crop: a multiple of the stride, plus 1.
        return 1 + (value - 1) * (scale_value - 1) // (paper_value - 1)
    return max(1, round(value * scale_value / paper_value))


def config_value(config: ml_collections.ConfigDict, field: str) -> Any:
    """A config and a dotted field -> its value."""
    for part in field.split("."):
        config = config[part]
    return config


def run_name(name: str, scale: str) -> str:
    """A run's name at the paper's scale -> its name at another."""
    return name if scale == "paper" else f"{scale}/{name}"


def row_config(table: str, rows: Mapping[str, Row], row: str) -> ml_collections.ConfigDict:
    """`mg124` or `mg124@shapes` -> that row's config, at the paper's scale or the given one.

    Raises ValueError, which lists the choices, for an unknown row or scale.
    """
    row, _, scale = row.partition("@")
    if row not in rows:
        raise ValueError(f"No row {row!r} in {table}; there are {', '.join(rows)}.")
    config = make_config(f"{table}/{row}", rows[row].overrides, scale or "paper")
    if rows[row].starts_from:
        config.init_from.path = f"runs/{run_name(rows[row].starts_from, scale or 'paper')}"
        config.init_from.part = "whole"
    return config


def as_data(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """A config -> the same as plain data, as config.json holds it."""
    return json.loads(config.to_json())


def inference_of(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """A config -> how its run is scored: the split and the inference strategy, by name."""
    return {"split": config.eval_data.split, **config.eval}


def rows_config(table: str, rows: Mapping[str, Row]) -> Callable[[str], ml_collections.ConfigDict]:
    """A table's name and rows -> its get_config, which maps `ROW` or `ROW@SCALE` to a config."""

    def get_config(row: str = "") -> ml_collections.ConfigDict:
        return row_config(table, rows, row)

    return get_config
