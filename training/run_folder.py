"""A run's folder: config.json and data.json, opened, written and read."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import ml_collections
import tensorflow_datasets as tfds

from data.build import audit_hash
from data.files import write_json

GROUPS = ("init_from", "model", "train_data", "eval_data", "eval")  # Of every config.


def open_run(workdir: pathlib.Path, config: Mapping[str, Any]) -> None:
    """Creates the folder of a new run, or checks that the run in it has the same config.

    config: as plain data. Raises FileExistsError, with the fields that differ, where the folder
    holds a run of another config.
    """
    if (workdir / "config.json").exists():
        check_config(workdir, config)
    else:
        workdir.mkdir(parents=True, exist_ok=True)
        write_json(workdir / "config.json", config)


def check_config(workdir: pathlib.Path, config: Mapping[str, Any]) -> None:
    """Raises FileExistsError where a run's config is another one, with the fields that differ."""
    differing = _differing_fields(workdir, config)
    if not differing:
        return
    advice = "choose another --workdir."
    if "steps" in differing:
        advice += (
            " To train further, start a new run from the weights of this one: the same command "
            f"with --config.init_from.path={workdir} --config.init_from.part=whole and another "
            "--workdir."
        )
    fields = [
        f"  {name}: {theirs} (saved), {ours} (requested)"
        for name, (theirs, ours) in differing.items()
    ]
    raise FileExistsError(
        f"{workdir} holds a run of another config; {advice} Differences:\n" + "\n".join(fields)
    )


def _differing_fields(workdir, config):
    """A run and a config -> the fields that differ, and both values of each."""
    theirs, ours = flat(json.loads(read_config(workdir).to_json())), flat(config)
    names = sorted(ours | theirs)
    return {k: (theirs.get(k), ours.get(k)) for k in names if theirs.get(k) != ours.get(k)}


def read_finished(workdir: pathlib.Path, config: Mapping[str, Any]) -> dict[str, Any] | None:
    """A run's folder -> the content of its eval.json if the run is finished, or None.

    That is, all steps of this config, given as plain data, are taken and scored.
    """
    file = workdir / "eval.json"
    if not file.exists() or _differing_fields(workdir, config):
        return None
    result = json.loads(file.read_text())
    return result if result["step"] == config["steps"] else None


def write_data(run: pathlib.Path, builder: tfds.core.DatasetBuilder, split: str) -> None:
    """Writes data.json: the run's training data, and the meaning of its class ids.

    It holds the classes' names and colors, for a user who has the run but not the data, and the
    hash of the data set's audit, null where there was none. Raises FileExistsError where the run
    began on other data, since its position in them would mean nothing.
    """
    data = {
        "dataset": builder.info.full_name,
        "split": split,
        "num_images": builder.info.splits[split].num_examples,
        "audit": audit_hash(builder),
        **builder.info.metadata,
    }
    file = run / "data.json"
    before = json.loads(file.read_text()) if file.exists() else data
    if differing := [key for key in data if key != "audit" and data[key] != before.get(key)]:
        raise FileExistsError(
            f"{run} began on other data: {', '.join(differing)} in {file} differ. Choose another "
            "--workdir, or build the data set as it was."
        )
    write_json(file, data)


def read_data(run: pathlib.Path) -> dict[str, Any]:
    """A run's folder -> the content of data.json.

    Raises FileNotFoundError where it is missing, ValueError where it is damaged.
    """
    file = run / "data.json"
    try:
        data = json.loads(file.read_text())
        if len(data["class_names"]) != len(data["palette"]):
            raise ValueError("class_names and palette differ in length")
        return data
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{run} has no data.json, which names its classes. train.py writes it: run its "
            "command again."
        ) from None
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{file} is damaged: {error!r}.") from error


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A config as plain data -> its dotted fields and their values."""
    fields = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            fields |= flat(value, f"{prefix}{name}.")
        else:
            fields[prefix + name] = value
    return fields


def read_config(run: pathlib.Path) -> ml_collections.ConfigDict:
    """A run's folder -> the config that it was trained with, its lists as tuples.

    Raises FileNotFoundError where the folder is not a run, ValueError where the file is damaged.
    """
    config_file = run / "config.json"
    try:
        config = ml_collections.ConfigDict(_with_tuples(json.loads(config_file.read_text())))
        if missing := [group for group in GROUPS if group not in config]:
            raise ValueError(f"{', '.join(missing)} missing")
        return config
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{run} is not a run folder: config.json is missing. Create one with train.py "
            f"--workdir={run}."
        ) from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{config_file} is damaged: {error!r}") from error


def _with_tuples(value):
    """JSON's lists -> tuples, as configs have them."""
    if isinstance(value, dict):
        return {name: _with_tuples(each) for name, each in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value
