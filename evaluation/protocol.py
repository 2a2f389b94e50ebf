"""How a run is scored: inference settings, file names, protocol hash, code version."""

import hashlib
import json
import pathlib
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections

from model.inference import padding_multiple

EVALUATOR_VERSION = 2  # One more where the same weights and images would score otherwise.


def code_version() -> str | None:
    """The git commit of this code, with + where files differ from it; None where git cannot say."""
    command = ["git", "describe", "--always", "--abbrev=7", "--exclude=*", "--dirty=+"]
    folder = pathlib.Path(__file__).parent
    try:
        said = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return said.stdout.strip()


def protocol_hash(protocol: Mapping[str, Any]) -> str:
    """All fields of a protocol but its hash -> that."""
    fields = {field: value for field, value in protocol.items() if field != "hash"}
    text = json.dumps(fields, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def inference_of(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """A run's config -> how it is scored: what Evaluation takes, by name."""
    scales = tuple(config.eval.scales)  # A list, in JSON.
    return {"split": config.eval_data.split, **config.eval, "scales": scales}


def as_scales(texts: Sequence[str]) -> tuple[float, ...]:
    """Scales as texts -> their values, the lowest first. Raises ValueError for what is none."""
    if not texts:
        raise ValueError("--scales names none.")
    try:
        scales = tuple(sorted(map(float, texts)))
    except ValueError as error:
        raise ValueError(f"--scales={','.join(texts)}: {error}.") from error
    padding_multiple(1, scales)  # Which refuses what no image is scaled by.
    return scales


def result_name(how: dict[str, Any], own: dict[str, Any]) -> str:
    """How a run is scored, and its config's own way -> the name of the files, without a suffix."""
    if how == own:
        return "eval"
    name = f"eval_{how['split']}_os{how['output_stride']}"
    if how["scales"] != (1.0,):
        name += "_ms" + "_".join(f"{scale:g}" for scale in how["scales"])
    return name + ("_flip" if how["flip"] else "")
