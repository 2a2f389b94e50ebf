"""Runs -> what a table's JSON holds: scores, intervals and status of every row."""

import csv
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from evaluation.metrics import interval, mean_over_classes, resampled_ious
from evaluation.results import read_evaluation
from experiments import tables
from experiments.claims import CLAIMS
from experiments.plan import Work, evaluation_of, folder_of, is_of, is_there, plan
from experiments.verdicts import Scored, judge, students
from training.run_folder import read_config

# What numbers in one column share. How they were predicted is what rows may differ in.
SHARED = ("dataset", "split", "num_images", "ids_sha256", "labels_sha256", "label", "evaluator")
MAX_SEEDS = 100


def collect(table: str, scale: str, runs: pathlib.Path) -> dict[str, Any] | None:
    """A table's runs -> what its JSON holds; None where nothing of it was run.

    Raises ValueError where numbers were scored under protocols that share no column.
    """
    found, rows = {}, {}
    for name, row in tables.find_rows([table]).items():
        found[name], said = evaluations(name, scale, runs)
        rows[name] = {"paper": row.paper_miou, "run": row.run or name, "status": said}
    found = {name: seeds for name, seeds in found.items() if seeds}
    if not found and all(row["status"].startswith("not run") for row in rows.values()):
        return None
    shared = check_shared(found)
    draws = {}
    for name, seeds in found.items():
        draws[name] = {
            seed: mean_over_classes(resampled_ious(scored.counts.confusions))
            for seed, scored in seeds.items()
        }
        rows[name] |= summary(seeds, np.mean(list(draws[name].values()), axis=0))
    return {
        "table": table,
        "scale": scale,
        "shared_protocol": shared,
        "rows": {name.partition("/")[2]: row for name, row in rows.items()},
        "published": getattr(tables.TABLES[table], "PUBLISHED", {}),
        "claims": [
            judge(claim, table, found, draws)
            for claim in CLAIMS.get(table, [])
            if not claim.data or scale != "shapes"
        ],
    }


def evaluations(name: str, scale: str, runs: pathlib.Path) -> tuple[dict[int, Scored], str]:
    """A row's name -> its numbers by seed, and what is to be said of the row.

    Of runs of the row's config as it is now, evaluated after their last step in the row's way.
    """
    row, found, said = tables.row_of(name), {}, []
    if row.why_not:
        return {}, f"not run: {row.why_not}"
    for seed in range(MAX_SEEDS):
        if not folder_of(runs, row.run or name, scale, seed).exists():
            continue  # Before its config is made, which takes as long as all the rest.
        (work,) = plan({name: row}, scale=scale, seed=seed, runs=runs)[-1:]
        file, _ = evaluation_of(tables.config_of(name, scale), work.config)
        of_seed = f"seed {seed}: " if seed else ""
        if (work.folder / "failure.json").exists():
            said.append(f"{of_seed}failed: {last_words(work.folder)}")
        if work.inference[file] is None:
            if (work.folder / file).exists():
                said.append(f"{of_seed}predicted: only the server has the labels")
        elif (work.folder / "config.json").exists():
            try:
                found[seed] = scored(work, file)
            except (ValueError, OSError) as error:
                said.append(f"{of_seed}{error}")
    if found:
        _, (result, *_) = next(iter(found.items()))
        if result["official_images"] != result["num_images"]:
            said.append(f"on {result['num_images']} of {result['official_images']} images")
        return found, "; ".join(["run", *said])
    if not said and row.devices > 1:
        said.append(f"it takes {row.devices} devices")
    return {}, "; ".join(said) if said and "failed" in said[0] else ": ".join(["not run", *said])


def scored(work: Work, file: str) -> Scored:
    """One of a work's evaluations -> its numbers.

    Raises ValueError or OSError where there are none, or not of this config, step and inference.
    """
    if not is_of(work.folder, work.config, work.start):
        raise ValueError(f"{work.folder} is of another config")
    if not (work.folder / file).exists():
        raise ValueError(f"{file} is not there yet")
    if not is_there(work, file):
        raise ValueError(f"{work.folder / file} is of another step or way of inference")
    return Scored(*read_evaluation(work.folder / file), hours(work.folder))


def last_words(folder: pathlib.Path) -> str:
    """A run's failure.json -> what it said last."""
    try:
        return str(json.loads((folder / "failure.json").read_text())["said"])[:200]
    except (ValueError, KeyError, TypeError):
        return "failure.json is damaged"


def hours(folder: pathlib.Path) -> float:
    """A run -> the hours that its steps took, evaluations left out, by its log.csv."""
    batch_size, before, seconds = read_config(folder).train_data.batch_size, 0, 0.0
    with (folder / "log.csv").open() as file:
        for line in csv.DictReader(file):
            step = int(line["step"])
            seconds += (step - before) * batch_size / float(line["images_per_second"])
            before = step
    return seconds / 3600


def check_shared(found: Mapping[str, Mapping[int, Scored]]) -> dict[str, Any]:
    """Numbers of rows by seed -> what all of their protocols share.

    Raises ValueError, which names two that differ, where they cannot stand in one column.
    """
    protocols = {
        f"{name}, seed {seed}": {field: scored.result["protocol"][field] for field in SHARED}
        for name, seeds in found.items()
        for seed, scored in seeds.items()
    }
    first, shared = next(iter(protocols.items()), ("", {}))
    for name, theirs in protocols.items():
        if differ := [field for field in SHARED if shared[field] != theirs[field]]:
            raise ValueError(
                f"{first} and {name} were scored under different protocols, in "
                f"{', '.join(differ)}: evaluate them again."
            )
    return shared


def summary(seeds: Mapping[int, Scored], draws: np.ndarray) -> dict[str, Any]:
    """A row's numbers by seed, and [samples] their mean over drawn images -> what the JSON says."""
    mious = [scored.result["miou"] for scored in seeds.values()]
    each = [
        {
            "seed": seed,
            "miou": result["miou"],
            "hours": spent,
            "step": result["step"],
            "commit": result["commit"],
            "protocol": result["protocol"]["hash"],
        }
        for seed, (result, _, spent) in seeds.items()
    ]
    return {
        "miou": float(np.mean(mious)),
        "image_interval": list(interval(draws)),
        "seed_interval": students(mious),
        "seeds": each,
        "whole_split": all(
            s.result["num_images"] == s.result["official_images"] for s in seeds.values()
        ),
    }
