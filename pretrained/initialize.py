"""Weights into a new model, with a report of which were loaded."""

import collections
import re
from collections.abc import Mapping
from typing import Any

import keras

from data.terminal import table
from model.backbones import BACKBONES
from model.mobilenet import MobileNet
from pretrained.open_weights import open_weights
from pretrained.weights import GROUPS, Report, Weights, both_names, check_part, group_of, load

# The arguments of deeplabv3 that weights in one part of the network depend on.
CONVENTION = {
    "backbone": ("backbone",),
    "without_logits": ("backbone", "head"),
    "whole": ("backbone", "head"),
}


def initialize(
    model: keras.Model, arguments: Mapping[str, Any], *, path: str, part: str, strict: bool
) -> tuple[str, list[str]]:
    """Fills a part of a model with a path's weights -> a table of them, and folded batch norms.

    The latter are the names of those that the source, or the source of a run, has folded into
    convolutions: their mean is 0 and their variance 1. To be trained, they must be calibrated.

    Args:
      model: of deeplabv3.
      arguments: deeplabv3's, that the model was made with.
      path: as open_weights takes it.
      part: a key of weights.PARTS.
      strict: whether a missing, mismatched or unknown weight is an error.

    Raises:
      FileNotFoundError, ValueError: with nothing loaded; the weights cannot be read, do not fit, or
        were trained in another convention than the model's.
    """
    check_part(part)  # Before anything is downloaded.
    weights = _open(path, arguments["backbone"])
    check_convention(weights, arguments, path=path, part=part)
    try:
        report = load(model, weights, part=part, strict=strict)
    except ValueError as error:
        raise ValueError(
            f"{path}: {error}\nAnother --config.init_from.part may fit, or "
            "--config.init_from.strict=False loads what does."
        ) from error
    return describe(path, weights, report), find_folded_batch_norms(weights, report)


def find_folded_batch_norms(weights: Weights, report: Report) -> list[str]:
    """What was loaded -> the batch norms in it whose means are 0 and whose variances are 1."""
    names = [n.removesuffix("/moving_mean") for n in report.loaded if n.endswith("/moving_mean")]
    return [
        name
        for name in names
        if not weights.values[f"{name}/moving_mean"].any()
        and (weights.values[f"{name}/moving_variance"] == 1).all()
    ]


def _open(path, backbone):
    try:
        return open_weights(path, backbone)
    except (ValueError, ConnectionError) as error:
        if path != "imagenet":
            raise
        raise type(error)(
            f"{error} Name a file that you have with --config.init_from.path=FILE.h5, or start "
            "from random weights with --config.init_from.path="
        ) from error


def describe(path: str, weights: Weights, report: Report) -> str:
    """A report on a path's weights -> a table by groups of layers, and the names that differ."""
    groups = {name: group_of(name) for name in {*weights.values, *report.missing}}
    rows = [
        [group, *(str(sum(groups.get(n, "other") == group for n in names)) for names in report)]
        for group in (*GROUPS, "other")
    ]
    rows = [row for row in rows if set(row[1:]) != {"0"}]
    lines = [f"{name}: {shapes}" for name, shapes in report.mismatched.items()]
    lines += [f"missing: {both_names(name, weights)}" for name in report.missing]
    lines += [f"unknown: {name}" for name in report.unknown]
    if report.skipped:
        # Grouped by the first and last part of their names, since every layer has the same.
        parts = [re.split("[./]", name) for name in report.skipped]
        counts = collections.Counter("...".join(dict.fromkeys((p[0], p[-1]))) for p in parts)
        lines.append("skipped: " + ", ".join(f"{name} ({n})" for name, n in counts.items()))
    return "\n".join([f"Weights from {path}:", table([["", *report._fields], *rows]), *lines])


def check_convention(
    weights: Weights, arguments: Mapping[str, Any], *, path: str, part: str
) -> None:
    """Raises ValueError where a part of weights was trained in another convention than a model's.

    Prints other differences of the two models, such as rates, where the part is more than a
    backbone.

    Args:
      weights: with the arguments of deeplabv3 that they were trained with.
      arguments: those of the model.
      path: of the weights, for messages.
      part: a key of CONVENTION.
    """
    for field in CONVENTION[part]:
        theirs, ours = weights.model.get(field), arguments[field]
        if theirs not in (None, ours):
            if field == "backbone" and (difference := _only_difference(theirs, ours)):
                raise ValueError(
                    f"{path} is a {theirs}, of another {difference} than {ours}: use "
                    f"--config.model.backbone={theirs}. Nothing was loaded."
                )
            raise ValueError(
                f"{path} was trained with {field} {theirs}, whose pixels or features differ from "
                f"those of {ours}: use --config.model.{field}={theirs}. Nothing was loaded."
            )
    if part != "backbone":
        for field in ("multi_grid", "atrous_rates", "image_pooling"):
            theirs, ours = weights.model.get(field), arguments.get(field)
            if weights.model and theirs != ours:
                print(f"note: {path} was trained with {field} {theirs}; here it is {ours}.")


def _only_difference(theirs, ours):
    """What two backbones differ in, where that is their size alone, or ""."""
    theirs, ours = BACKBONES[theirs], BACKBONES[ours]
    if type(theirs) is not type(ours):
        return ""
    size = "depth_multiplier" if isinstance(ours, MobileNet) else "num_units"
    alike = theirs._replace(**{size: getattr(ours, size)}) == ours
    return {"depth_multiplier": "width", "num_units": "depth"}[size] if alike else ""
