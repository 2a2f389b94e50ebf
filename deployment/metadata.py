"""data.json of an export: classes, preprocessing, provenance and scores."""

import importlib.metadata
import json
import math
import pathlib
from collections.abc import Mapping
from typing import Any

from evaluation.prediction import prediction_margin
from evaluation.protocol import code_version, result_name
from model.backbones import BACKBONES
from model.deeplabv3 import HEADS
from training.run_folder import read_data


def describe(
    run: pathlib.Path,
    config: Mapping[str, Any],
    *,
    checkpoint: str,
    step: int,
    inference: Mapping[str, Any],
    size: tuple[int, int] | None,
) -> dict[str, Any]:
    """A run and how it is exported -> data.json.

    Args:
      run: the run's folder.
      config: of the run, as plain data.
      checkpoint: what the user named it: last, best or a step.
      step: the one that the exported weights are from.
      inference: output_stride, scales and flip of the export.
      size: [H, W] of all images, or None for any.

    Returns:
      Classes, colors, how pixels are normalized, and the provenance. `margin` is prediction_margin
      at the smallest scale. `provenance.evaluation` holds the scores of the run's own evaluation of
      these weights with this inference, null where there is none.
    """
    model = config["model"]
    backbone = BACKBONES[model["backbone"]]
    data = read_data(run)
    margin = prediction_margin(**{**model, "output_stride": inference["output_stride"]})
    return {
        "class_names": data["class_names"],
        "palette": data["palette"],
        "num_classes": len(data["class_names"]),
        "margin": math.ceil(margin / min(1, *inference["scales"])),
        "size": size,  # Of all images, [H, W]; null for any.
        "pixels": {
            "given": "uint8 RGB; all that follows is inside",
            "mean": backbone.pixels.mean,
            "std": backbone.pixels.std,
            "bgr": backbone.pixels.bgr,
        },
        "corners": HEADS[model["head"]],
        "inference": inference,
        "provenance": {
            "run": "/".join(run.absolute().parts[-2:]),  # No other folder of this machine.
            "checkpoint": checkpoint,
            "step": step,
            "exported_by": {
                "commit": code_version(),
                "tensorflow": importlib.metadata.version("tensorflow"),
            },
            "trained_on": {k: v for k, v in data.items() if k not in ("class_names", "palette")},
            "config": config,
            "evaluation": _read_scores(
                run, config, checkpoint=checkpoint, step=step, inference=inference
            ),
        },
    }


def _read_scores(run, config, *, checkpoint, step, inference):
    """The scores of the run's evaluation with this inference, where they are of step, or None."""
    own = {"split": config["eval_data"]["split"], **config["eval"]}
    own["scales"] = tuple(own["scales"])  # Plain data has a list.
    file = run / f"{result_name({**own, **inference}, own, checkpoint)}.json"
    if not file.exists():
        return None
    result = json.loads(file.read_text())
    kept = ("miou", "miou_interval", "iou_per_class", "num_images", "protocol")
    return {name: result[name] for name in kept} if result["step"] == step else None
