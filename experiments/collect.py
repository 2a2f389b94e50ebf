"""Runs -> the contents of a table's JSON: scores, intervals and status of every row."""

import csv
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from evaluation.metrics import interval, mean_over_classes, resampled_ious
from evaluation.results import read_evaluation
from experiments import base, tables
from experiments.base import as_data
from experiments.claims import CLAIMS, Claim
from experiments.plan import (
    Work,
    evaluation_of,
    folder_of,
    is_complete,
    matches_config,
    plan,
    weights_file,
)
from experiments.verdicts import FAILED, NOT_RUN, RUN, Score, t_interval, verdict
from training.run_folder import flat, read_config

# The protocol that the numbers of a column share. Rows may differ in how they are predicted.
SHARED_FIELDS = (
    "dataset",
    "split",
    "num_images",
    "ids_sha256",
    "labels_sha256",
    "label",
    "evaluator",
)
MAX_SEEDS = 100


def collect(table: str, scale: str, runs: pathlib.Path) -> dict[str, Any] | None:
    """Collects what the runs of a table's rows have left.

    Args:
      table: such as `table5`.
      scale: a key of base.SCALES.
      runs: the folder of all runs.

    Returns:
      The contents of the table's JSON; None if none of its rows has been run.

    Raises:
      ValueError: If scores of different protocols would be in one column.
    """
    scores, rows = {}, {}
    for name, row in tables.find_rows([table]).items():
        scores[name], status, notes = find_scores(name, scale, runs)
        rows[name] = {"paper": row.paper_miou, "run": row.shares or name}
        rows[name] |= {"status": status, "notes": notes}
    scores = {name: seeds for name, seeds in scores.items() if seeds}
    if not scores and all(row["status"] == NOT_RUN for row in rows.values()):
        return None
    shared = check_shared_protocol(scores)
    draws, changed = {}, tables.changed_settings(scores, scale)
    for name, seeds in scores.items():
        draws[name] = {
            seed: mean_over_classes(resampled_ious(score.counts.confusions))
            for seed, score in seeds.items()
        }
        rows[name] |= {"changed": changed[name]}
        rows[name] |= summarize(seeds, np.mean(list(draws[name].values()), axis=0))
    return {
        "table": table,
        "scale": scale,
        "shared_protocol": shared,
        "rows": {name.partition("/")[2]: row for name, row in rows.items()},
        "published": getattr(tables.TABLES[table], "PUBLISHED", {}),
        "claims": [
            verdict(claim, table, scores, draws)
            for claim in CLAIMS.get(table, [])
            if is_of_scale(claim, table, scale)
        ],
    }


def is_of_scale(claim: Claim, table: str, scale: str) -> bool:
    """A claim about a table -> whether a scale has all of its rows."""
    rows = {f"{table}/{row}" for terms in claim.differences for row in terms}
    return not any(tables.row_of(row, scale).unavailable for row in rows)


def find_scores(
    name: str, scale: str, runs: pathlib.Path
) -> tuple[dict[int, Score], str, list[str]]:
    """A row's name -> its scores by seed, its status, and notes on it.

    The status is RUN, FAILED or NOT_RUN. Only runs with the row's current config count, evaluated
    after their last step and with the row's inference.
    """
    row, scores, failed, notes = tables.row_of(name, scale), {}, False, []
    if row.unavailable:
        return {}, NOT_RUN, [row.unavailable]
    for seed in range(MAX_SEEDS):
        folder = folder_of(runs, row.shares or name, scale, seed)
        if not folder.exists():
            continue  # Before its config is built, which takes as long as everything else.
        score, seed_notes = find_score(name, row, scale, seed, runs)
        if failure := read_failure(folder):
            failed, seed_notes = True, [f"failed: {failure}", *seed_notes]
        if score:
            scores[seed] = score
        notes += [f"seed {seed}: {note}" if seed else note for note in seed_notes]
    notes += [f"from {file}" for file in sorted({each.weights for each in scores.values()} - {""})]
    if scores:
        result = next(iter(scores.values())).result
        if result["official_images"] != result["num_images"]:
            notes.append(f"on {result['num_images']} of {result['official_images']} images")
        return scores, RUN, notes
    if not notes and row.devices > 1:
        notes.append(f"needs {row.devices} devices")
    return {}, FAILED if failed else NOT_RUN, notes


def find_score(
    name: str, row: base.Row, scale: str, seed: int, runs: pathlib.Path
) -> tuple[Score | None, list[str]]:
    """A row and a seed whose run folder exists -> its score, if it has one, and notes on it."""
    (work,) = plan({name: row}, scale=scale, seed=seed, runs=runs)[-1:]
    file, _ = evaluation_of(tables.config_of(name, scale), work.config)
    score, notes = None, []
    if work.inference[file] is None:
        if (work.folder / file).exists():
            notes.append("predicted: only the server has the labels")
    elif (work.folder / "config.json").exists():
        try:
            score = read_score(work, file)
        except (ValueError, OSError) as error:
            notes.append(str(error))
    return score, notes


def read_score(work: Work, file: str) -> Score:
    """One of a Work's evaluations -> its Score.

    Raises ValueError or OSError if it is missing, or of another config, step or inference.
    """
    if not matches_config(work.folder, work.config, work.relative_start):
        raise ValueError(f"{work.folder} has another config")
    if not (work.folder / file).exists():
        raise ValueError(f"{file} is missing")
    if not is_complete(work, file):
        raise ValueError(f"{work.folder / file} is of another step or inference")
    hours = training_hours(work.folder, work.config.train_data.batch_size)
    weights = weights_file(flat(as_data(read_config(work.folder))))
    return Score(*read_evaluation(work.folder / file), hours, weights)


def read_failure(folder: pathlib.Path) -> str:
    """A run folder -> the error message in its failure.json; empty if it has none."""
    file = folder / "failure.json"
    if not file.exists():
        return ""
    try:
        return str(json.loads(file.read_text())["said"])[:200]
    except (ValueError, KeyError, TypeError):
        return "failure.json is damaged"


def training_hours(folder: pathlib.Path, batch_size: int) -> float:
    """A run folder -> the hours spent in training steps, without evaluations, from its log.csv."""
    before, seconds = 0, 0.0
    with (folder / "log.csv").open() as file:
        for line in csv.DictReader(file):
            step = int(line["step"])
            seconds += (step - before) * batch_size / float(line["images_per_second"])
            before = step
    return seconds / 3600


def check_shared_protocol(scores: Mapping[str, Mapping[int, Score]]) -> dict[str, Any]:
    """Scores of rows by seed -> the fields of SHARED_FIELDS, which all of them must share.

    Raises ValueError, which names two that differ.
    """
    protocols = {
        f"{name}, seed {seed}": {field: score.result["protocol"][field] for field in SHARED_FIELDS}
        for name, seeds in scores.items()
        for seed, score in seeds.items()
    }
    first, shared = next(iter(protocols.items()), ("", {}))
    for name, protocol in protocols.items():
        if differ := [field for field in SHARED_FIELDS if shared[field] != protocol[field]]:
            raise ValueError(
                f"{first} and {name} were scored under different protocols ({', '.join(differ)}). "
                "Evaluate them again."
            )
    return shared


def summarize(seeds: Mapping[int, Score], draws: np.ndarray) -> dict[str, Any]:
    """A row's scores by seed, and [samples] their resampled mean mIoU -> its fields in the JSON."""
    mious = [score.result["miou"] for score in seeds.values()]
    each = [
        {
            "seed": seed,
            "miou": result["miou"],
            "hours": hours,
            "step": result["step"],
            "commit": result["commit"],
            "protocol": result["protocol"]["hash"],
            "weights": weights,
        }
        for seed, (result, _, hours, weights) in seeds.items()
    ]
    return {
        "miou": float(np.mean(mious)),
        "image_interval": list(interval(draws)),
        "seed_interval": t_interval(mious),
        "seeds": each,
        "whole_split": all(
            score.result["num_images"] == score.result["official_images"]
            for score in seeds.values()
        ),
    }
