"""Weights from elsewhere into a model, by name, and a report of what went where."""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np

from model.resnet import BACKBONES, Pixels

GROUPS = ("backbone", "cascade", "aspp", "logits")  # Of a network's weights, in its order.
PARTS = {"whole": GROUPS, "without_logits": GROUPS[:3], "backbone": GROUPS[:1]}

# Kernels whose shapes tell our bottleneck from wide, grouped and basic units.
PROBES = ("block1_unit1_2_conv/kernel", "block1_unit1_3_conv/kernel")


class Weights(NamedTuple):
    """Weights by our names, and what is known of where they come from."""

    values: Mapping[str, np.ndarray]  # By `layer/weight`.
    # Arguments of deeplabv3 that they were trained with: its backbone, which says how they see a
    # pixel; and if they are a whole segmentation model's, all the others.
    model: Mapping[str, Any] = {}
    renamed: Mapping[str, str] = {}  # Our names and those that they had there.
    folded: tuple[str, ...] = ()  # Our names: the numbers are others than there, to the same end.
    skipped: tuple[str, ...] = ()  # Names there: we have no use for them.


class Report(NamedTuple):
    """Names of weights, as `layer/weight` or as they were there, by what became of them."""

    loaded: list[str]
    renamed: list[str]  # Of those loaded: had another name there.
    folded: list[str]  # Of those loaded: have other numbers than there, to the same end.
    skipped: list[str]  # There, but not of the part that was asked for, or not in the model.
    missing: list[str]  # Of that part of the model, but not there: they stay as they were.
    mismatched: dict[str, str]  # Of another shape there, and which: they stay as they were.


def group_of(name: str) -> str:
    """`layer/weight` -> which of GROUPS it belongs to."""
    if re.match("block[5-7]", name):
        return "cascade"
    return next((group for group in GROUPS[2:] if name.startswith(group)), "backbone")


def renamed(
    foreign: Mapping[str, np.ndarray], to_ours: Callable[[str], str | None]
) -> tuple[dict[str, np.ndarray], dict[str, str], tuple[str, ...]]:
    """Weights by other people's names -> by ours, the names they had, and those left out (None)."""
    theirs = {ours: name for name in sorted(foreign) if (ours := to_ours(name))}
    values = {ours: np.asarray(foreign[name], np.float32) for ours, name in theirs.items()}
    skipped = tuple(sorted(foreign.keys() - set(theirs.values())))
    return values, {ours: name for ours, name in theirs.items() if ours != name}, skipped


def recognised(
    values: Mapping[str, np.ndarray], source: str, *, pixels: Pixels, beta: Pixels | None = None
) -> str:
    """Weights by our names -> the key of BACKBONES that they are of, by their names and shapes.

    pixels, beta: those of the source's networks, and of its networks with a stem of three convs.
    Raises ValueError where they are of no such network.
    """
    is_beta = "conv1_1_conv/kernel" in values
    units = [(int(b), int(u)) for b, u in re.findall(r"block(\d)_unit(\d+)_", " ".join(values))]
    num_units = tuple(max((u for b, u in units if b == block), default=0) for block in range(1, 5))
    shapes = {name: values[name].shape for name in PROBES if name in values}
    width = shapes.get("block1_unit1_2_conv/kernel", (0,))[-1]
    for name, backbone in BACKBONES.items():
        convention = (backbone.num_units, backbone.width, backbone.beta, backbone.pixels)
        if convention == (num_units, width, is_beta, beta if is_beta else pixels):
            w = backbone.width
            if list(shapes.values()) == [(3, 3, w, w), (1, 1, w, 4 * w)]:
                return name
    raise ValueError(
        f"It is no ResNet-50 or 101 of {source}: its blocks have {num_units} units, and the first "
        f"unit's kernels the shapes {', '.join(map(str, shapes.values())) or 'of none of ours'}."
    )


def load(
    model: keras.Model, weights: Weights, *, part: str = "whole", strict: bool = True
) -> Report:
    """Fills a part of a model (a key of PARTS) with weights of the same names -> what went where.

    Raises ValueError, with nothing loaded, for an unknown part; where nothing fits; and, if strict,
    where something of that part is missing or mismatched.
    """
    if part not in PARTS:
        raise ValueError(f"No part {part!r} of a network; there are {', '.join(PARTS)}.")
    variables = {weight.path: weight for weight in model.weights}
    wanted = {name for name in variables if group_of(name) in PARTS[part]}
    values = weights.values
    common = sorted(wanted & values.keys())
    shapes = {name: (tuple(values[name].shape), tuple(variables[name].shape)) for name in common}
    loaded = [name for name in common if shapes[name][0] == shapes[name][1]]
    report = Report(
        loaded=loaded,
        renamed=[name for name in loaded if name in weights.renamed],
        folded=[name for name in loaded if name in weights.folded],
        skipped=[*sorted(values.keys() - wanted), *weights.skipped],
        missing=sorted(wanted - values.keys()),
        mismatched={n: f"{a} there, {b} here" for n, (a, b) in shapes.items() if a != b},
    )
    if not report.loaded:
        raise ValueError(f"Nothing of the {part} is there that fits; nothing was loaded.")
    faults = [f"{name}: {shape}" for name, shape in report.mismatched.items()]
    faults += [f"{name}: not there" for name in report.missing]
    if strict and faults:
        more = [f"and {len(faults) - 10} more"] if len(faults) > 10 else []
        listed = "\n  ".join([*faults[:10], *more])
        raise ValueError(f"The {part} does not fit; nothing was loaded:\n  {listed}")
    for name in report.loaded:
        variables[name].assign(values[name])
    return report
