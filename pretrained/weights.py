"""Weights under our names, and into a model by them, with a report of which were loaded."""

import itertools
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import numpy as np

from model.pixels import Pixels
from model.resnet import RESNETS

GROUPS = ("backbone", "cascade", "aspp", "logits")  # Of a network's weights, from input to output.
PARTS = {"whole": GROUPS, "without_logits": GROUPS[:3], "backbone": GROUPS[:1]}

# Block, unit and conv (0: the shortcut's) of all ResNets, the deepest third-party ones included.
UNIT_CONVS = tuple(itertools.product(range(1, 5), range(1, 65), range(4)))
BATCH_NORM = ("gamma", "beta", "moving_mean", "moving_variance")  # In Keras's order.

# Kernels whose shapes tell our bottleneck from wide, grouped and basic units.
PROBES = ("block1_unit1_2_conv/kernel", "block1_unit1_3_conv/kernel")


class Weights(NamedTuple):
    """Weights by our names, and what is known of their source."""

    values: Mapping[str, np.ndarray]  # By `layer/weight`.
    # Arguments of deeplabv3 that they were trained with: the backbone, which fixes how a pixel is
    # normalized; and if they are a whole segmentation model's, all the others.
    model: Mapping[str, Any] = {}
    source_names: Mapping[str, str] = {}  # By our name, also of weights that the source lacks.
    folded: tuple[str, ...] = ()  # Our names: other numbers than the source's, the same function.
    skipped: tuple[str, ...] = ()  # Source's names: not of the network, such as an optimizer's.
    unknown: tuple[str, ...] = ()  # Source's names: of layers that such a network does not have.


class Report(NamedTuple):
    """Names of weights, as `layer/weight` or the source's, by what became of them."""

    loaded: list[str]
    renamed: list[str]  # Loaded; the source has another name.
    folded: list[str]  # Loaded; other numbers than the source's, the same function.
    skipped: list[str]  # In the source, but not of the requested part, or not of the network.
    unknown: list[str]  # In the source, of the requested part or of none, but not in the model.
    missing: list[str]  # Of that part of the model, but not in the source: unchanged.
    mismatched: dict[str, str]  # Of another shape in the source, and both shapes: unchanged.


def group_of(name: str) -> str:
    """`layer/weight` -> which of GROUPS it belongs to."""
    if re.match("block[5-7]", name):
        return "cascade"
    return next((group for group in GROUPS[2:] if name.startswith(group)), "backbone")


def rename(foreign: Mapping[str, np.ndarray], names: Mapping[str, str], ignored: str) -> Weights:
    """Weights by the source's names -> the same by ours.

    Args:
      foreign: the source's weights by its names.
      names: the source's name of each of our weights.
      ignored: a regular expression for names that are not of the network; names that it does not
        match and that `names` lacks are unknown.

    Raises:
      ValueError: a weight has another number of dimensions than ours.
    """
    there = {ours: theirs for ours, theirs in names.items() if theirs in foreign}
    values = {ours: np.asarray(foreign[name], np.float32) for ours, name in there.items()}
    for ours, value in values.items():
        if value.ndim != (4 if ours.endswith("/kernel") else 1):
            raise ValueError(
                f"{names[ours]} has the shape {value.shape}, which such a weight never has."
            )
    others = sorted(foreign.keys() - set(there.values()))
    skipped = tuple(name for name in others if re.fullmatch(ignored, name))
    unknown = tuple(name for name in others if name not in skipped)
    return Weights(values, source_names=names, skipped=skipped, unknown=unknown)


def identify_backbone(
    values: Mapping[str, np.ndarray], source: str, *, pixels: Pixels, beta: Pixels | None = None
) -> str:
    """Weights by our names -> their key of RESNETS, told from their names and shapes.

    pixels, beta: how the source's networks normalize pixels, and those with a stem of three convs.
    Raises ValueError where no backbone fits.
    """
    is_beta = "conv1_1_conv/kernel" in values
    units = [(int(b), int(u)) for b, u in re.findall(r"block(\d)_unit(\d+)_", " ".join(values))]
    num_units = tuple(max((u for b, u in units if b == block), default=0) for block in range(1, 5))
    shapes = {name: values[name].shape for name in PROBES if name in values}
    width = shapes.get("block1_unit1_2_conv/kernel", (0,))[-1]
    for name, backbone in RESNETS.items():
        convention = (backbone.num_units, backbone.width, backbone.beta, backbone.pixels)
        if convention == (num_units, width, is_beta, beta if is_beta else pixels):
            w = backbone.width
            if list(shapes.values()) == [(3, 3, w, w), (1, 1, w, 4 * w)]:
                return name
    raise ValueError(
        f"It is not a ResNet-50 or 101 of {source}: its blocks have {num_units} units, and the "
        f"first unit's kernels the shapes {', '.join(map(str, shapes.values())) or 'of no ResNet'}."
    )


def check_part(part: str) -> None:
    """Raises ValueError where part is not a key of PARTS."""
    if part not in PARTS:
        raise ValueError(f"No init_from.part {part!r}; there are {', '.join(PARTS)}.")


def load(
    model: keras.Model, weights: Weights, *, part: str = "whole", strict: bool = True
) -> Report:
    """Fills a part of a model with weights of the same names -> a report of which were loaded.

    Args:
      model: of deeplabv3.
      weights: by our names.
      part: a key of PARTS.
      strict: whether a missing, mismatched or unknown weight of that part is an error.

    Raises:
      ValueError: with nothing loaded; for an unknown part, where nothing fits, for non-finite
        values and for variances below 0.
    """
    check_part(part)
    variables = {weight.path: weight for weight in model.weights}
    wanted = {name for name in variables if group_of(name) in PARTS[part]}
    values = weights.values
    of_part = {name for name in values if group_of(name) in PARTS[part]}
    common = sorted(wanted & values.keys())
    shapes = {name: (tuple(values[name].shape), tuple(variables[name].shape)) for name in common}
    loaded = [name for name in common if shapes[name][0] == shapes[name][1]]
    report = Report(
        loaded=loaded,
        renamed=[name for name in loaded if weights.source_names.get(name, name) != name],
        folded=[name for name in loaded if name in weights.folded],
        skipped=[*sorted(values.keys() - of_part), *weights.skipped],
        unknown=[*sorted(of_part - wanted), *weights.unknown],
        missing=sorted(wanted - values.keys()),
        mismatched={n: f"{a} there, {b} here" for n, (a, b) in shapes.items() if a != b},
    )
    if not report.loaded:
        raise ValueError(f"No weight of the {part} fits; nothing was loaded.")
    faults = [f"{name}: {shape}" for name, shape in report.mismatched.items()]
    faults += [f"{both_names(name, weights)}: missing" for name in report.missing]
    faults += [f"{both_names(name, weights)}: not in the model" for name in report.unknown]
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
        value, named = weights.values[name], both_names(name, weights)
        if not np.isfinite(value).all():
            raise ValueError(f"{named} holds non-finite values; nothing was loaded.")
        if name.endswith("/moving_variance") and (value < 0).any():
            raise ValueError(f"{named} is a variance below 0; nothing was loaded.")


def both_names(name: str, weights: Weights) -> str:
    """Our name of a weight -> the same, with the source's name in brackets where it differs."""
    theirs = weights.source_names.get(name, name)
    return name if theirs == name else f"{name} ({theirs})"
