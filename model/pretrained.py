"""Weights from elsewhere into a model, by name, and a report of what went where."""

from collections.abc import Mapping
from typing import NamedTuple

import keras
import numpy as np

GROUPS = ("backbone", "aspp", "logits")  # Of a network's weights, in its order.
PARTS = {"whole": GROUPS, "without_logits": GROUPS[:2], "backbone": GROUPS[:1]}


class Report(NamedTuple):
    """Names of weights, as `layer/weight`, by what became of them."""

    loaded: list[str]
    skipped: list[str]  # There, but not of the part that was asked for, or not in the model.
    missing: list[str]  # Of that part of the model, but not there: they stay as they were.
    mismatched: dict[str, str]  # Of another shape there, and which: they stay as they were.


def group_of(name: str) -> str:
    """`layer/weight` -> which of GROUPS it belongs to."""
    return next((group for group in GROUPS[1:] if name.startswith(group)), "backbone")


def load(
    model: keras.Model, weights: Mapping[str, np.ndarray], *, part: str = "whole", strict=True
) -> Report:
    """Fills a part of a model (a key of PARTS) with weights of the same names -> what went where.

    Raises ValueError, with nothing loaded, for an unknown part; where nothing fits; and, if strict,
    where something of that part is missing or mismatched.
    """
    if part not in PARTS:
        raise ValueError(f"No part {part!r} of a network; there are {', '.join(PARTS)}.")
    variables = {weight.path: weight for weight in model.weights}
    wanted = {name for name in variables if group_of(name) in PARTS[part]}
    common = sorted(wanted & weights.keys())
    shapes = {name: (tuple(weights[name].shape), tuple(variables[name].shape)) for name in common}
    report = Report(
        loaded=[name for name in common if shapes[name][0] == shapes[name][1]],
        skipped=sorted(weights.keys() - wanted),
        missing=sorted(wanted - weights.keys()),
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
        variables[name].assign(weights[name])
    return report
