"""All runs below a folder, of the paper's rows or not: data, steps, mIoU, date and page."""

import csv
import datetime
import json
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import ml_collections

from data.terminal import percent

HEADER = ["run", "steps", "last mIoU", "best mIoU", "date", "page", "data: training, evaluation"]


class Run(NamedTuple):
    """A run's folder, and what its files say of it; "-" for what they do not."""

    folder: pathlib.Path
    steps: str  # Taken, of planned.
    last: str  # mIoU in percent.
    best: str  # Likewise, and its step.
    date: str  # When its log was last written; of a run without steps, when it was made.
    page: pathlib.Path | None  # eval.html, if it is there.
    data: str  # Data sets and splits; `damaged` if a file of the run is.

    def cells(self) -> list[str]:
        """Its texts, in the order of HEADER."""
        page = self.page.name if self.page else "-"
        return [str(self.folder), self.steps, self.last, self.best, self.date, page, self.data]


def find_runs(runs: pathlib.Path) -> list[Run]:
    """The folder of all runs -> every run below it, by its folder. One that is damaged says so."""
    found = []
    for file in sorted(runs.rglob("config.json")):
        try:
            found.append(read_run(file.parent))
        except (ValueError, TypeError, KeyError, OSError, csv.Error):
            date, page = date_of(file.parent), page_of(file.parent)
            found.append(Run(file.parent, "-", "-", "-", date, page, "damaged"))
    return found


def read_run(folder: pathlib.Path) -> Run:
    """A run's folder -> what its files say. Raises ValueError or OSError where one is damaged."""
    # They import TensorFlow: only if there is a run.
    from training.checkpoints import read_best
    from training.run_folder import read_config

    config, best = read_config(folder), read_best(folder)
    evaluation = last_row(folder / "evaluations.csv")
    if evaluation is None and (folder / "eval.json").exists():  # Of an imported model.
        evaluation = json.loads((folder / "eval.json").read_text())
    log = last_row(folder / "log.csv")
    return Run(
        folder,
        f"{log['step'] if log else 0} of {config.steps}" if config.steps else "-",
        percent(float(evaluation["miou"])) if evaluation else "-",
        f"{percent(best['miou'])}, step {best['step']}" if best else "-",
        date_of(folder),
        page_of(folder),
        data_text(config),
    )


def data_text(config: ml_collections.ConfigDict) -> str:
    """A run's config -> `voc2012: trainaug, val`, its data sets and splits."""
    train, evaluation = config.train_data, config.eval_data
    if train.dataset == evaluation.dataset:
        return f"{train.dataset}: {train.split}, {evaluation.split}"
    return f"{train.dataset}: {train.split}, {evaluation.dataset}: {evaluation.split}"


def last_row(file: pathlib.Path) -> dict[str, str] | None:
    """A CSV file of a run -> its last complete row by name; None if there is none."""
    if not file.exists():
        return None
    with file.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.reader(lines))
    complete = [row for row in rows[1:] if len(row) == len(rows[0])]  # The last may be cut.
    return dict(zip(rows[0], complete[-1], strict=True)) if complete else None


def date_of(folder: pathlib.Path) -> str:
    """A run's folder -> when its log was last written, or it was made: `2026-03-01 14:05`."""
    file = folder / "log.csv"
    seconds = (file if file.exists() else folder / "config.json").stat().st_mtime
    return datetime.datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")


def page_of(folder: pathlib.Path) -> pathlib.Path | None:
    """A run's folder -> its eval.html; None if it is missing."""
    page = folder / "eval.html"
    return page if page.exists() else None


def rows_of(found: Sequence[Run]) -> list[list[str]]:
    """Runs -> a table, the header first."""
    return [HEADER, *(run.cells() for run in found)]
