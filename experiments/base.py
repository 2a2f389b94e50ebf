"""The protocol of Sec. 4.1, from which every row of every table departs; and the scales.

A scale runs the same idea at another size. `paper` is the size that was published; the others are
ours, for a CPU, and their numbers never stand in the paper's column:

    python train.py --config=experiments/base.py           the paper's 77.21
    python train.py --config=experiments/base.py:shapes    its miniature, four minutes on 2 cores
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import ml_collections


class Row(NamedTuple):
    """One number of a paper table, and what to change to obtain it."""

    paper_miou: float  # Percent.
    overrides: Mapping[str, Any]  # Dotted fields of get_config().


class Scale(NamedTuple):
    """A size at which to run a row: what differs from the paper, whatever the row."""

    overrides: Mapping[str, Any]  # Dotted fields of get_config(); size, never a row's idea.
    rate_divisor: int = 1  # ASPP's rates shrink with the map; still even, for output_stride 32.


SCALES = {
    "paper": Scale({}),
    "shapes": Scale(
        {
            "steps": 1_800,
            "eval_every": 600,
            "learning_rate": 0.05,  # From random weights, not from ImageNet's.
            "model.backbone": "resnet_tiny",
            "model.batch_norm_decay": 0.98,  # 0.9997 would outlast the run.
            "train_data.dataset": "shapes",
            "train_data.split": "train",
            "train_data.batch_size": 8,
            "train_data.crop_size": 81,  # A map of 6 x 6 in place of 33 x 33.
            "eval_data.dataset": "shapes",
        },
        rate_divisor=3,
    ),
    "voc_small": Scale(
        {
            "steps": 3_000,
            "eval_every": 1_000,
            "learning_rate": 0.05,  # From random weights, not from ImageNet's.
            "model.backbone": "resnet_tiny",
            "model.batch_norm_decay": 0.99,  # 0.9997 would outlast the run.
            "train_data.batch_size": 8,
            "train_data.crop_size": 257,  # A map of 17 x 17 in place of 33 x 33.
        },
        rate_divisor=3,
    ),
}


def get_config(scale: str = "paper") -> ml_collections.ConfigDict:
    """A key of SCALES -> the last row of Table 5 at that scale; for `paper`, 77.21."""
    return make_config("base", {}, scale)


def make_config(
    name: str, overrides: Mapping[str, Any], scale: str = "paper"
) -> ml_collections.ConfigDict:
    """Dotted fields and their values, and a scale -> a whole, locked config.

    name is that of the run's folder. Raises ValueError for an unknown scale, KeyError for a field
    that does not exist.
    """
    if scale not in SCALES:
        raise ValueError(f"No scale {scale!r}; there are {', '.join(SCALES)}.")
    config = paper_config()
    config.name = name if scale == "paper" else f"{scale}/{name}"
    config.update_from_flattened_dict(SCALES[scale].overrides)
    config.update_from_flattened_dict(overrides)
    if config.model.atrous_rates is not None:
        config.model.atrous_rates = tuple(
            rate // SCALES[scale].rate_divisor for rate in config.model.atrous_rates
        )
    return config


def paper_config() -> ml_collections.ConfigDict:
    """DeepLabv3 on PASCAL VOC 2012, stage 1: the last row of Table 5, 77.21."""
    config = ml_collections.ConfigDict()
    config.name = "base"
    config.seed = 0
    config.steps = 30_000
    config.eval_every = 1_000  # Steps; after the last one always.
    config.learning_rate = 0.007  # Falls to 0 as (1 - step/steps)^0.9.
    config.freeze_batch_norm = False  # Statistics, gamma and beta: stage 2, Table 8.
    config.model = dict(
        backbone="resnet101",
        num_classes=21,
        num_blocks=4,  # 5 to 7 put copies of block4 in cascade.
        output_stride=16,
        multi_grid=(1, 2, 4),
        atrous_rates=(6, 12, 18),  # At output_stride 16, doubled at 8. None: no ASPP.
        image_pooling=True,
        batch_norm_decay=0.9997,
    )
    config.train_data = dict(dataset="voc2012", split="trainaug", batch_size=16, crop_size=513)
    config.eval_data = dict(dataset="voc2012", split="val")
    config.eval = dict(output_stride=16)
    return config.lock()  # Before any override: a misspelt one must fail.


def row_config(table: str, rows: Mapping[str, Row], row: str) -> ml_collections.ConfigDict:
    """`mg124` or `mg124@shapes` -> that row's config, at the paper's scale or the one named.

    Raises ValueError, which lists what there is, for an unknown row or scale.
    """
    row, _, scale = row.partition("@")
    if row not in rows:
        raise ValueError(f"No row {row!r} in {table}; there are {', '.join(rows)}.")
    return make_config(f"{table}/{row}", rows[row].overrides, scale or "paper")
