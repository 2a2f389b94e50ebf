"""How a run is scored: inference settings, file names, protocol hash, code version."""

import hashlib
import json
import pathlib
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

EVALUATOR_VERSION = 2  # Incremented where the same weights and images would score differently.


def code_version() -> str | None:
    """The git commit of this code, with + where files differ from it; None outside of git."""
    command = ["git", "describe", "--always", "--abbrev=7", "--exclude=*", "--dirty=+"]
    folder = pathlib.Path(__file__).parent
    try:
        described = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return described.stdout.strip()


def protocol_hash(protocol: Mapping[str, Any]) -> str:
    """A protocol -> the hash of all its fields but `hash`."""
    fields = {field: value for field, value in protocol.items() if field != "hash"}
    text = json.dumps(fields, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def parse_scales(texts: Sequence[str]) -> tuple[float, ...]:
    """Scales as texts -> their values, in ascending order. Raises ValueError for an invalid one."""
    if not texts:
        raise ValueError("--scales is empty.")
    try:
        scales = tuple(sorted(map(float, texts)))
    except ValueError as error:
        raise ValueError(f"--scales={','.join(texts)}: {error}.") from error
    from model.inference import padding_multiple  # It imports Keras; most readers need no scales.

    padding_multiple(1, scales)  # Raises for scales that are not possible.
    return scales


def result_name(how: Mapping[str, Any], own: Mapping[str, Any], checkpoint: str = "last") -> str:
    """How a run is scored -> the name of the result files, without their suffix.

    Args:
      how: split and inference.
      own: those of the run's config, whose result is plain `eval`.
      checkpoint: last, best or a step.
    """
    name = "eval"
    if how != own:
        name += f"_{how['split']}_os{how['output_stride']}"
        if how["scales"] != (1.0,):
            name += "_ms" + "_".join(f"{scale:g}" for scale in how["scales"])
        name += "_flip" if how["flip"] else ""
    return name + checkpoint_suffix(checkpoint)


def checkpoint_suffix(checkpoint: str) -> str:
    """last, best or a step -> what files of other weights than the last have in their names."""
    if checkpoint == "last":
        return ""
    return f"_step{checkpoint}" if checkpoint.isdecimal() else f"_{checkpoint}"
