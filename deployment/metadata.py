"""data.json of an export: classes, preprocessing, the run, and its scores."""

import importlib.metadata
import json
import math
import pathlib
from typing import Any

import ml_collections

from evaluation.prediction import margin_of
from evaluation.protocol import code_version, inference_of, result_name
from model.deeplabv3 import HEADS
from model.resnet import BACKBONES
from training.run_folder import read_data


def describe(
    run: pathlib.Path,
    config: ml_collections.ConfigDict,
    *,
    step: int,
    inference: dict[str, Any],
    size: tuple[int, int] | None,
) -> dict[str, Any]:
    """A run and how it is exported -> data.json: classes, colours, conventions, where it is from.

    margin is that of margin_of, at the smallest scale. provenance.evaluation is what the run's own
    evaluation of these weights in this way said, null where there is none.
    """
    backbone = BACKBONES[config.model.backbone]
    data = read_data(run)
    margin = margin_of(config, inference["output_stride"])
    return {
        "class_names": data["class_names"],
        "palette": data["palette"],
        "num_classes": len(data["class_names"]),
        "margin": math.ceil(margin / min(1, *inference["scales"])),
        "size": size,  # Of all images, [H, W]; null where any will do.
        "pixels": {
            "given": "uint8 RGB; all that follows is inside",
            "mean": backbone.pixels.mean,
            "deviation": backbone.pixels.std,
            "bgr": backbone.pixels.bgr,
        },
        "corners": HEADS[config.model.head],
        "inference": inference,
        "provenance": {
            "run": "/".join(run.absolute().parts[-2:]),  # No other folder of this machine.
            "step": step,
            "exported_by": {
                "commit": code_version(),
                "tensorflow": importlib.metadata.version("tensorflow"),
            },
            "trained_on": {k: v for k, v in data.items() if k not in ("class_names", "palette")},
            "config": json.loads(config.to_json()),
            "evaluation": evaluation_of(run, config, step=step, inference=inference),
        },
    }


def evaluation_of(
    run: pathlib.Path, config: ml_collections.ConfigDict, *, step: int, inference: dict[str, Any]
) -> dict[str, Any] | None:
    """The scores of a run's evaluation in this way, and their protocol, where they are of step."""
    own = inference_of(config)
    file = run / f"{result_name({**own, **inference}, own)}.json"
    if not file.exists():
        return None
    result = json.loads(file.read_text())
    kept = ("miou", "miou_interval", "iou_per_class", "num_images", "protocol")
    return {name: result[name] for name in kept} if result["step"] == step else None
