"""Weights from elsewhere into a model, by name, and a report of what went where."""

import itertools
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import numpy as np

from model.resnet import BACKBONES, Pixels

GROUPS = ("backbone", "cascade", "aspp", "logits")  # Of a network's weights, in its order.
PARTS = {"whole": GROUPS, "without_logits": GROUPS[:3], "backbone": GROUPS[:1]}

# Block, unit and conv (0: the shortcut's) of all ResNets, of others' deepest too.
UNIT_CONVS = tuple(itertools.product(range(1, 5), range(1, 65), range(4)))
BATCH_NORM = ("gamma", "beta", "moving_mean", "moving_variance")  # In Keras's order.

# Kernels whose shapes tell our bottleneck from wide, grouped and basic units.
PROBES = ("block1_unit1_2_conv/kernel", "block1_unit1_3_conv/kernel")


class Weights(NamedTuple):
    """Weights by our names, and what is known of where they come from."""

    values: Mapping[str, np.ndarray]  # By `layer/weight`.
    # Arguments of deeplabv3 that they were trained with: its backbone, which says how they see a
    # pixel; and if they are a whole segmentation model's, all the others.
    model: Mapping[str, Any] = {}
    names: Mapping[str, str] = {}  # Our names and theirs, of what is not there too.
    folded: tuple[str, ...] = ()  # Our names: the numbers are others than there, to the same end.
    skipped: tuple[str, ...] = ()  # Names there: beside the network, as an optimizer's are.
    unknown: tuple[str, ...] = ()  # Names there: of what such a network does not have.


class Report(NamedTuple):
    """Names of weights, as `layer/weight` or as they were there, by what became of them."""

    loaded: list[str]
    renamed: list[str]  # Of those loaded: had another name there.
    folded: list[str]  # Of those loaded: have other numbers than there, to the same end.
    skipped: list[str]  # There, but not of the part that was asked for, or beside the network.
    unknown: list[str]  # There, and of that part or of no known one, but not in the model.
    missing: list[str]  # Of that part of the model, but not there: they stay as they were.
    mismatched: dict[str, str]  # Of another shape there, and which: they stay as they were.


def group_of(name: str) -> str:
    """`layer/weight` -> which of GROUPS it belongs to."""
    if re.match("block[5-7]", name):
        return "cascade"
    return next((group for group in GROUPS[2:] if name.startswith(group)), "backbone")


def by_our_names(
    foreign: Mapping[str, np.ndarray], names: Mapping[str, str], of_no_use: str
) -> Weights:
    """Weights by other people's names -> by ours, as the names say: ours, and theirs for it.

    of_no_use: a regular expression for what may be there beside the network; what is neither is
    unknown. Raises ValueError for a weight of another number of dimensions than it has here.
    """
    there = {ours: theirs for ours, theirs in names.items() if theirs in foreign}
    values = {ours: np.asarray(foreign[name], np.float32) for ours, name in there.items()}
    for ours, value in values.items():
        if value.ndim != (4 if ours.endswith("/kernel") else 1):
            raise ValueError(f"{names[ours]} has the shape {value.shape}, as no such weight has.")
    others = sorted(foreign.keys() - set(there.values()))
    skipped = tuple(name for name in others if re.fullmatch(of_no_use, name))
    unknown = tuple(name for name in others if name not in skipped)
    return Weights(values, names=names, skipped=skipped, unknown=unknown)


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

    Raises ValueError, with nothing loaded, for an unknown part; where nothing fits; for values that
    are no numbers, or variances below 0; and, if strict, where something of that part is missing,
    mismatched or unknown.
    """
    if part not in PARTS:
        raise ValueError(f"No part {part!r} of a network; there are {', '.join(PARTS)}.")
    variables = {weight.path: weight for weight in model.weights}
    wanted = {name for name in variables if group_of(name) in PARTS[part]}
    values = weights.values
    of_part = {name for name in values if group_of(name) in PARTS[part]}
    common = sorted(wanted & values.keys())
    shapes = {name: (tuple(values[name].shape), tuple(variables[name].shape)) for name in common}
    loaded = [name for name in common if shapes[name][0] == shapes[name][1]]
    report = Report(
        loaded=loaded,
        renamed=[name for name in loaded if weights.names.get(name, name) != name],
        folded=[name for name in loaded if name in weights.folded],
        skipped=[*sorted(values.keys() - of_part), *weights.skipped],
        unknown=[*sorted(of_part - wanted), *weights.unknown],
        missing=sorted(wanted - values.keys()),
        mismatched={n: f"{a} there, {b} here" for n, (a, b) in shapes.items() if a != b},
    )
    if not report.loaded:
        raise ValueError(f"Nothing of the {part} is there that fits; nothing was loaded.")
    faults = [f"{name}: {shape}" for name, shape in report.mismatched.items()]
    faults += [f"{with_theirs(name, weights)}: not there" for name in report.missing]
    faults += [f"{with_theirs(name, weights)}: not in the model" for name in report.unknown]
    if strict and faults:
        more = [f"and {len(faults) - 10} more"] if len(faults) > 10 else []
        listed = "\n  ".join([*faults[:10], *more])
        raise ValueError(f"The {part} does not fit; nothing was loaded:\n  {listed}")
    _check_values(report.loaded, weights)
    for name in report.loaded:
        variables[name].assign(values[name])
    return report


def _check_values(names, weights):
    for name in names:
        value, said = weights.values[name], with_theirs(name, weights)
        if not np.isfinite(value).all():
            raise ValueError(f"{said} holds values that are no numbers; nothing was loaded.")
        if name.endswith("/moving_variance") and (value < 0).any():
            raise ValueError(f"{said} is below 0, as no variance is; nothing was loaded.")


def with_theirs(name: str, weights: Weights) -> str:
    """Our name of a weight -> the same, and what it is called where the weights come from."""
    theirs = weights.names.get(name, name)
    return name if theirs == name else f"{name} ({theirs})"
