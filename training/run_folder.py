"""A run's folder: config.json and data.json, opened, written and read."""

import json
import pathlib
from typing import Any

import ml_collections
import tensorflow_datasets as tfds

from data.build import audit_hash
from data.files import write_json, write_text


def open_run(workdir: pathlib.Path, config: ml_collections.ConfigDict) -> None:
    """Makes the folder of a new run, or finds that a run of the same config is there.

    Raises FileExistsError, with the fields that differ, where it is a run of another config.
    """
    config_file = workdir / "config.json"
    ours = flat(config)
    if config_file.exists():
        theirs = flat(read_config(workdir))
        if differing := [k for k in sorted(ours | theirs) if ours.get(k) != theirs.get(k)]:
            raise FileExistsError(
                f"{workdir} is a run of another config; choose another --workdir. They differ in\n"
                + "\n".join(f"  {k}: {theirs.get(k)} there, {ours.get(k)} here" for k in differing)
            )
    else:
        workdir.mkdir(parents=True, exist_ok=True)
        write_text(config_file, config.to_json(indent=2) + "\n")


def write_data(run: pathlib.Path, builder: tfds.core.DatasetBuilder, split: str) -> None:
    """Writes data.json: what a run is trained on, and what its class ids mean.

    It holds the names and colours of the classes, for whoever has the run but not the data, and the
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
    """What write_data wrote. Raises FileNotFoundError or ValueError where it cannot be had."""
    file = run / "data.json"
    try:
        data = json.loads(file.read_text())
        if len(data["class_names"]) != len(data["palette"]):
            raise ValueError("its classes and colours are not as many")
        return data
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{run} has no data.json, which names its classes. train.py writes it: give the run's "
            "command again."
        ) from None
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{file} is damaged: {error!r}.") from error


def flat(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """A config -> its dotted fields and their values, as JSON has them."""
    return _flatten(json.loads(config.to_json()))


def _flatten(group, prefix=""):
    fields = {}
    for name, value in group.items():
        if isinstance(value, dict):
            fields |= _flatten(value, f"{prefix}{name}.")
        else:
            fields[prefix + name] = value
    return fields


def read_config(run: pathlib.Path) -> ml_collections.ConfigDict:
    """A run's folder -> the config it was trained with. Raises ValueError where it is no run."""
    config_file = run / "config.json"
    try:
        config = json.loads(config_file.read_text())
        config["model"].setdefault("head", "paper")  # Older runs had no other, and did not say.
        config["eval"] = {"scales": [1.0], "flip": False, **config["eval"]}
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{run} is no run: it has no config.json. A run is made by train.py --workdir={run}"
        ) from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{config_file} is damaged: {error!r}") from error
    return ml_collections.ConfigDict(config)
