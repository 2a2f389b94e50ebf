"""Rows -> the training runs and evaluations that they need, and which of them remain."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import ml_collections

from evaluation.protocol import result_name
from experiments import base, tables
from experiments.base import as_data, inference_of
from training.run_folder import flat, read_config


class Work(NamedTuple):
    """A training and its evaluations, which one runner takes as a whole."""

    folder: pathlib.Path
    config: ml_collections.ConfigDict
    commands: Mapping[str, list[str]]  # What follows `python`, by the file that is there after it.
    inference: Mapping[str, dict[str, Any] | None]  # Of the file's numbers; None: it has none.
    run: str = ""  # Its name at the paper's scale.
    after: pathlib.Path | None = None  # The folder of the work whose weights it starts from;
    start: pathlib.Path | None = None  # below that of all runs.
    devices: int = 1


def folder_of(runs: pathlib.Path, run: str, scale: str, seed: int) -> pathlib.Path:
    """A run's name -> its folder: train.py's own for seed 0, runs/shapes/table1/os8_seed1 for 1."""
    name = base.run_name(run, scale)
    return runs / (f"{name}_seed{seed}" if seed else name)


def start_of(run: str, scale: str, seed: int) -> pathlib.Path | None:
    """A run's name -> where, below the folder of all runs, the run is that it starts from."""
    after = tables.row_of(run).after
    return folder_of(pathlib.Path(), after, scale, seed) if after else None


def plan(
    rows: Mapping[str, base.Row],
    *,
    scale: str,
    seed: int,
    runs: pathlib.Path,
    data_dir: str | None = None,
) -> list[Work]:
    """Rows as tables.find_rows gives them -> the works that they take, each after what it needs."""
    data = [f"--data_dir={data_dir}"] if data_dir else []
    works = {}
    for run in tables.trainings(rows):
        folder, row = folder_of(runs, run, scale, seed), tables.row_of(run)
        config = tables.config_of(run, scale)
        config.seed = seed
        flags = [f"--config={tables.config_flag(run, scale)}", f"--config.seed={seed}"]
        after = folder_of(runs, row.after, scale, seed) if row.after else None
        if after:
            config.init_from.path = str(after)
            flags.append(f"--config.init_from.path={after}")
        command = ["train.py", *flags, f"--workdir={folder}", *data]
        own = {"eval.json": inference_of(config)}
        works[run] = Work(
            folder,
            config,
            {"eval.json": command},
            own,
            run,
            after,
            start=start_of(run, scale, seed),
            devices=row.devices,
        )
    for name, row in rows.items():
        if row.why_not:
            continue
        work = works[row.run or name]
        output, how = evaluation_of(tables.config_of(name, scale), work.config)
        if output in work.commands:
            continue
        command = ["eval.py", f"--run={work.folder}", *flags_of(how), *data]
        if output.startswith("submission"):
            command.append(f"--submission={work.folder / output}")
        work.commands[output] = command
        work.inference[output] = None if output.startswith("submission") else how
    return list(works.values())


def evaluation_of(
    config: ml_collections.ConfigDict, trained: ml_collections.ConfigDict
) -> tuple[str, dict[str, Any]]:
    """A row's config, and its run's -> the file its number is in, and how the number comes about.

    Where only a server has the labels, it is the file for that server.
    """
    how = inference_of(config)
    if how["split"] == "test":
        suffix = "zip" if config.eval_data.dataset == "cityscapes" else "tgz"
        return f"submission.{suffix}", how
    return f"{result_name(how, inference_of(trained))}.json", how


def flags_of(how: Mapping[str, Any]) -> list[str]:
    """What evaluation_of gives -> eval.py's flags for it."""
    return [
        f"--split={how['split']}",
        f"--output_stride={how['output_stride']}",
        f"--scales={','.join(f'{scale:g}' for scale in how['scales'])}",
        "--flip" if how["flip"] else "--noflip",
    ]


def left(work: Work) -> list[str]:
    """The files of a work that are not there yet; all, where its folder is of another config."""
    if not is_of(work.folder, work.config, work.start):
        return list(work.commands)  # Where a run is there the first command says what differs.
    return [name for name in work.commands if not is_there(work, name)]


def is_of(
    folder: pathlib.Path, config: ml_collections.ConfigDict, start: pathlib.Path | None
) -> bool:
    """Whether a run in a folder is of a config, from the weights of start if that is given.

    start: as start_of gives it: the folder of all runs may have been called otherwise.
    """
    try:
        there, ours = flat(as_data(read_config(folder))), flat(as_data(config))
    except (ValueError, OSError):
        return False
    if start:
        path = pathlib.PurePath(there["init_from.path"])
        if path.parts[-len(start.parts) :] != start.parts:
            return False
        ours["init_from.path"] = there["init_from.path"]
    return there == ours


def is_there(work: Work, name: str) -> bool:
    """Whether one of a work's files is there, and of all of its steps and the right inference."""
    file, how = work.folder / name, work.inference[name]
    if how is None:
        return file.exists()
    try:
        result = json.loads(file.read_text())
        protocol = {**result["protocol"], "scales": tuple(result["protocol"]["scales"])}
        return result["step"] == work.config.steps and how.items() <= protocol.items()
    except (OSError, ValueError, KeyError, TypeError):
        return False
