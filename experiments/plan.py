"""Rows -> the training runs and evaluations that they need, and which of them remain."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import ml_collections

from evaluation.protocol import result_name
from evaluation.submission import SERVERS
from experiments import base, tables
from experiments.base import as_data, inference_of
from training.run_folder import flat, read_config


class Work(NamedTuple):
    """A training run and its evaluations, which one runner completes as a whole."""

    folder: pathlib.Path
    config: ml_collections.ConfigDict
    commands: Mapping[str, list[str]]  # The file that each leaves -> arguments after `python`.
    inference: Mapping[str, dict[str, Any] | None]  # By file; None: a submission, without scores.
    run: str = ""  # The run's name at the paper's scale.
    starts_from: pathlib.Path | None = None  # Folder of the run whose weights it starts from,
    relative_start: pathlib.Path | None = None  # and its path below the folder of all runs.
    devices: int = 1


def folder_of(runs: pathlib.Path, run: str, scale: str, seed: int) -> pathlib.Path:
    """A run's name -> its folder: train.py's default for seed 0, with suffix _seed1 for seed 1."""
    name = base.run_name(run, scale)
    return runs / (f"{name}_seed{seed}" if seed else name)


def plan(
    rows: Mapping[str, base.Row],
    *,
    scale: str,
    seed: int,
    runs: pathlib.Path,
    data_dir: str | None = None,
    imagenet: str | None = None,
) -> list[Work]:
    """Plans the training runs and evaluations of rows.

    Args:
      rows: as tables.find_rows gives them.
      scale: a key of base.SCALES.
      seed: of all training runs.
      runs: the folder of all runs.
      data_dir: TFDS data directory; None for its default.
      imagenet: a file with ImageNet's weights; None for keras.applications', downloaded.

    Returns:
      One Work per training run, each after the one whose weights it starts from.
    """
    works = {
        run: plan_training(
            run, scale=scale, seed=seed, runs=runs, data_dir=data_dir, imagenet=imagenet
        )
        for run in tables.training_runs(rows, scale)
    }
    for name, row in rows.items():
        if not row.unavailable:
            work = works[row.shares or name]
            add_evaluation(work, tables.config_of(name, scale), data_dir)
    return list(works.values())


def plan_training(
    run: str,
    *,
    scale: str,
    seed: int,
    runs: pathlib.Path,
    data_dir: str | None,
    imagenet: str | None,
) -> Work:
    """A run's name and plan's other arguments -> its Work, with the command that trains it."""
    folder, row = folder_of(runs, run, scale, seed), tables.row_of(run)
    config = tables.config_of(run, scale)
    config.seed = seed
    flags = [f"--config={tables.config_flag(run, scale)}", f"--config.seed={seed}"]
    starts_from = relative_start = None
    if row.starts_from:
        relative_start = folder_of(pathlib.Path(), row.starts_from, scale, seed)
        starts_from = runs / relative_start
        config.init_from.path = str(starts_from)
        flags.append(f"--config.init_from.path={starts_from}")
    elif imagenet and config.init_from.path == base.IMAGENET:
        config.init_from.path = imagenet
        flags.append(f"--config.init_from.path={imagenet}")
    command = ["train.py", *flags, f"--workdir={folder}", *data_dir_flags(data_dir)]
    return Work(
        folder,
        config,
        {"eval.json": command},
        {"eval.json": inference_of(config)},
        run,
        starts_from,
        relative_start,
        row.devices,
    )


def add_evaluation(work: Work, config: ml_collections.ConfigDict, data_dir: str | None) -> None:
    """Adds the evaluation of a row's config to the Work of its run, unless it has it already."""
    output, inference = evaluation_of(config, work.config)
    if output in work.commands:
        return
    command = [
        "eval.py",
        f"--run={work.folder}",
        *inference_flags(inference),
        *data_dir_flags(data_dir),
    ]
    is_submission = output.startswith("submission")
    if is_submission:
        command.append(f"--submission={work.folder / output}")
    work.commands[output] = command
    work.inference[output] = None if is_submission else inference


def evaluation_of(
    config: ml_collections.ConfigDict, trained: ml_collections.ConfigDict
) -> tuple[str, dict[str, Any]]:
    """The configs of a row and of its run -> the file with the row's number, and its inference.

    For a test split, whose labels only a server has, it is the submission file for that server.
    """
    inference = inference_of(config)
    if inference["split"] == "test":
        suffix = SERVERS[config.eval_data.dataset].SUFFIX
        return f"submission{suffix}", inference
    return f"{result_name(inference, inference_of(trained))}.json", inference


def inference_flags(inference: Mapping[str, Any]) -> list[str]:
    """The inference of an evaluation -> eval.py's flags for it."""
    return [
        f"--split={inference['split']}",
        f"--output_stride={inference['output_stride']}",
        f"--scales={','.join(f'{scale:g}' for scale in inference['scales'])}",
        "--flip" if inference["flip"] else "--noflip",
    ]


def data_dir_flags(data_dir: str | None) -> list[str]:
    """A TFDS data directory, or None for the default -> the programs' flags for it."""
    return [f"--data_dir={data_dir}"] if data_dir else []


def remaining(work: Work) -> list[str]:
    """The files of a Work that are not complete; all of them if its folder has another config."""
    if not matches_config(work.folder, work.config, work.relative_start):
        return list(work.commands)  # If a run is there, train.py reports how the configs differ.
    return [name for name in work.commands if not is_complete(work, name)]


def matches_config(
    folder: pathlib.Path,
    config: ml_collections.ConfigDict,
    relative_start: pathlib.Path | None,
) -> bool:
    """Whether a folder holds a run of a config.

    Args:
      folder: the run folder. A missing or damaged one does not match.
      config: the config that the run should have.
      relative_start: path, below the folder of all runs, of the run whose weights it starts from.
        The folder of all runs itself may have been moved or renamed since.

    Where ImageNet's weights are wanted, those of a file do, and a file may have been moved since.
    """
    try:
        found, wanted = flat(as_data(read_config(folder))), flat(as_data(config))
    except (ValueError, OSError):
        return False
    if relative_start:
        path = pathlib.PurePath(found["init_from.path"])
        if path.parts[-len(relative_start.parts) :] != relative_start.parts:
            return False
        wanted["init_from.path"] = found["init_from.path"]
    elif (file := weights_file(found)) and (
        weights_file(wanted) == file or wanted["init_from.path"] == base.IMAGENET
    ):
        wanted["init_from.path"] = found["init_from.path"]
    return found == wanted


def weights_file(fields: Mapping[str, Any]) -> str:
    """A flat config -> the name of the file with the weights that it starts from, or ""."""
    path = pathlib.PurePath(fields["init_from.path"] or "")
    return path.name if path.suffix else ""  # A run's folder has none.


def is_complete(work: Work, name: str) -> bool:
    """Whether one of a Work's files exists, from its last step and with the right inference."""
    file, inference = work.folder / name, work.inference[name]
    if inference is None:
        return file.exists()
    try:
        result = json.loads(file.read_text())
        protocol = {**result["protocol"], "scales": tuple(result["protocol"]["scales"])}
        return result["step"] == work.config.steps and inference.items() <= protocol.items()
    except (OSError, ValueError, KeyError, TypeError):
        return False
