"""Weights into a new model, with a report of what went where."""

import collections
import re

import keras
import ml_collections

from data.terminal import table
from model.resnet import BACKBONES
from pretrained.open_weights import open_weights
from pretrained.weights import GROUPS, Report, Weights, group_of, load, with_theirs

# What weights in one part of the network presume of the model beside its backbone.
CONVENTION = {
    "backbone": ("backbone",),
    "without_logits": ("backbone", "head"),
    "whole": ("backbone", "head"),
}


def initialise(model: keras.Model, config: ml_collections.ConfigDict) -> str:
    """Fills a model as config.init_from says -> a table of what was loaded, for a person.

    Raises FileNotFoundError or ValueError, with nothing loaded, where it cannot be had, or was
    trained in another convention than the model's.
    """
    path, part, strict = (config.init_from[field] for field in ("path", "part", "strict"))
    weights = open_weights(path, config.model.backbone)
    check_convention(weights, config)
    try:
        report = load(model, weights, part=part, strict=strict)
    except ValueError as error:
        raise ValueError(
            f"{path}: {error}\nAnother --config.init_from.part may fit, or "
            "--config.init_from.strict=False takes what does."
        ) from error
    return describe(path, weights, report)


def describe(path: str, weights: Weights, report: Report) -> str:
    """What became of the weights of a path -> a table of it by groups, and by name what differs."""
    groups = {name: group_of(name) for name in {*weights.values, *report.missing}}
    rows = [
        [group, *(str(sum(groups.get(n, "other") == group for n in names)) for names in report)]
        for group in (*GROUPS, "other")
    ]
    rows = [row for row in rows if set(row[1:]) != {"0"}]
    lines = [f"{name}: {shapes}" for name, shapes in report.mismatched.items()]
    lines += [f"missing: {with_theirs(name, weights)}" for name in report.missing]
    lines += [f"unknown: {name}" for name in report.unknown]
    if report.skipped:
        # By the first and the last part of their names, as all of a layer's slots.
        parts = [re.split("[./]", name) for name in report.skipped]
        alike = collections.Counter("...".join(dict.fromkeys((p[0], p[-1]))) for p in parts)
        lines.append("skipped: " + ", ".join(f"{name} ({n})" for name, n in alike.items()))
    return "\n".join([f"Weights from {path}:", table([["", *report._fields], *rows]), *lines])


def check_convention(weights: Weights, config: ml_collections.ConfigDict) -> None:
    """Raises ValueError where a part of weights was trained in another convention than a config's.

    Prints what else its model had otherwise, such as rates, where the part is more than a backbone.
    """
    part, path = config.init_from.part, config.init_from.path
    for field in CONVENTION[part]:
        theirs, ours = weights.model.get(field), config.model[field]
        if theirs not in (None, ours):
            if field == "backbone" and _alike_but_for_depth(theirs, ours):
                raise ValueError(
                    f"{path} is a {theirs}, which is of another depth than {ours}: "
                    f"--config.model.backbone={theirs} takes it. Nothing was loaded."
                )
            raise ValueError(
                f"{path} was trained as {field} {theirs}, which sees pixels or lays its features "
                f"otherwise than {ours}: --config.model.{field}={theirs} takes it. Nothing was "
                "loaded."
            )
    if part != "backbone":
        for field in ("multi_grid", "atrous_rates", "image_pooling"):
            theirs, ours = (_listed(m.get(field)) for m in (weights.model, config.model))
            if weights.model and theirs != ours:
                print(f"note: {path} was trained with {field} {theirs}; here it is {ours}.")


def _alike_but_for_depth(theirs, ours):
    return BACKBONES[theirs]._replace(num_units=BACKBONES[ours].num_units) == BACKBONES[ours]


def _listed(value):
    return list(value) if isinstance(value, tuple | list) else value
