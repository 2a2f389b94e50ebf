"""Results -> experiments/results/, docs/results.md and README.md, without losing what is there.

experiments/results/runs/ holds what the numbers are computed from: the config, log, scores and
counts per image of every run, in folders as below runs/, without weights. plots/ beside it has the
plots that docs/results.md shows.
"""

import json
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from data.files import between_markers, write_bytes, write_json, write_text
from data.terminal import percent
from experiments import base, tables

ROOT = pathlib.Path(__file__).parent.parent
RESULTS = ROOT / "experiments" / "results"
PUBLISHED_FILES = ("config.json", "log.csv", "eval*.json", "eval*.npz")  # Of a run.
MARKERS = (
    "<!-- results: made by python -m experiments.report --publish -->",
    "<!-- end of results -->",
)

Results = Sequence[Mapping[str, Any]]  # The contents of tables' JSONs.


def read_results() -> list[dict[str, Any]]:
    """The contents of all JSONs in RESULTS, the paper's scale first, tables in its order."""
    results = [json.loads(file.read_text()) for file in RESULTS.glob("*_table*.json")]
    scales = list(base.SCALES)
    return sorted(results, key=lambda r: (scales.index(r["scale"]), int(r["table"][5:])))


def json_name(result: Mapping[str, Any]) -> str:
    """The contents of a table's JSON -> its file's name."""
    return f"{result['scale']}_{result['table']}.json"


def publish(results: Results, runs: pathlib.Path) -> None:
    """Writes results to RESULTS, and the pages from all that is there then; prints what changes.

    runs: the folder that they were collected from. Raises ValueError, before anything is written,
    if a published number would be lost.
    """
    before = {json_name(result): result for result in read_results()}
    if lost := find_lost(before, {json_name(result): result for result in results}):
        raise ValueError(lost_text(lost, before, runs))
    if results:  # Copying imports TensorFlow.
        copy_runs(results, runs)
    for result in results:
        write_json(RESULTS / json_name(result), result)
        print(change_text(before.get(json_name(result)), result))
    write_plots(read_results())
    write_pages(ROOT, read_results())
    print("-> experiments/results/, docs/results.md, README.md")


def copy_runs(results: Results, runs: pathlib.Path) -> None:
    """Copies PUBLISHED_FILES of the runs of results to RESULTS/runs, each run once."""
    from experiments.plan import folder_of  # Imports TensorFlow.

    folders = {
        folder_of(runs, row["run"], result["scale"], seed["seed"])
        for result in results
        for row in result["rows"].values()
        for seed in row.get("seeds", [])
    }
    for folder in sorted(folders):
        published = RESULTS / "runs" / folder.relative_to(runs)
        if folder.resolve() == published.resolve():
            continue
        published.mkdir(parents=True, exist_ok=True)
        for pattern in PUBLISHED_FILES:
            for file in folder.glob(pattern):
                shutil.copy(file, published)


def find_lost(
    before: Mapping[str, Mapping[str, Any]], after: Mapping[str, Mapping[str, Any]]
) -> dict[str, list[tuple[str, int]]]:
    """Published and new results by file -> by file, the (row, seed) whose number would be lost.

    A training run may have rows in several tables. So the tables of the runs that would bring back
    a lost number count, too: with these runs, they would be replaced as well.
    """
    replaced = before.keys() & after.keys()
    while True:
        lost = {}
        for name in filter(replaced.__contains__, before):  # In the paper's order.
            kept = _numbers(after.get(name))
            if missing := [each for each in _numbers(before[name]) if each not in kept]:
                lost[name] = missing
        runs = {
            (before[name]["scale"], run)
            for name, numbers in lost.items()
            for run in tables.training_runs(f"{before[name]['table']}/{row}" for row, _ in numbers)
        }
        further = {
            name
            for name, result in before.items()
            if any((result["scale"], row["run"]) in runs for row in result["rows"].values())
        }
        if further <= replaced:
            return lost
        replaced |= further


def lost_text(
    lost: Mapping[str, Sequence[tuple[str, int]]],
    before: Mapping[str, Mapping[str, Any]],
    runs: pathlib.Path,
) -> str:
    """What find_lost gives, published results by file, and the folder of all runs -> an error."""
    lines, commands = [], []
    for name, numbers in lost.items():
        lines.append(f"  {name}: {', '.join(f'{row} (seed {seed})' for row, seed in numbers)}")
    for scale in dict.fromkeys(before[name]["scale"] for name in lost):
        of_scale = [name for name in lost if before[name]["scale"] == scale]
        rows = [f"{before[name]['table']}:{row}" for name in of_scale for row, _ in lost[name]]
        seeds = 1 + max(seed for name in of_scale for _, seed in lost[name])
        commands.append(
            f"  python -m experiments.run {' '.join(dict.fromkeys(rows))} --scale={scale} "
            f"--seeds={seeds} --runs={runs}"
        )
    return "\n".join(
        [
            f"{runs} lacks numbers that are published; nothing was changed.",
            *lines,
            "Run them there, too:",
            *commands,
            f"Or, to withdraw them, first delete those files from {RESULTS.relative_to(ROOT)}/.",
        ]
    )


def _numbers(result):
    """A table's result, or None -> the (row, seed) of all its numbers."""
    rows = result["rows"] if result else {}
    return [(name, seed["seed"]) for name, row in rows.items() for seed in row.get("seeds", [])]


def change_text(earlier: Mapping[str, Any] | None, result: Mapping[str, Any]) -> str:
    """A table's published result, or None, and its new one -> what changes.

    The first line names the file and counts rows. Each row that is new or has changed has a line.
    """
    old_rows = earlier["rows"] if earlier else {}
    lines, same = [], 0
    for name, row in result["rows"].items():
        old = old_rows.get(name, {})
        if "miou" not in row or old == row:
            same += "miou" in row
        elif "miou" in old:
            lines.append(f"  {name}: {number_text(old)} -> {number_text(row)}")
        else:
            lines.append(f"  {name}: new, {number_text(row)}")
    new = sum(": new, " in line for line in lines)
    counts = f"{new} new, {len(lines) - new} changed, {same} as before"
    return "\n".join([f"{json_name(result)} rows: {counts}", *lines])


def number_text(row: Mapping[str, Any]) -> str:
    """A row's entry in a result -> `71.96 (1 seed, commit e61aab4)`."""
    seeds = row["seeds"]
    commits = sorted({str(seed["commit"]) for seed in seeds})
    count = f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''}"
    return f"{percent(row['miou'])} ({count}, commit {', '.join(commits)})"


def write_plots(results: Results) -> None:
    """All published results -> RESULTS/plots: two plots for each table with rows to compare."""
    from experiments.plots import plot_pair  # Imports Matplotlib.
    from experiments.result_tables import plot_titles  # Imports SciPy.

    folder, names = RESULTS / "plots", set()
    folder.mkdir(parents=True, exist_ok=True)
    for result in results:
        for name, png in zip(plot_titles(result), plot_pair(result).values(), strict=True):
            write_bytes(folder / name, png)
            names.add(name)
    for file in folder.glob("*.png"):
        if file.name not in names:  # Of a result that was withdrawn.
            file.unlink()


def write_pages(root: pathlib.Path, results: Results) -> None:
    """The repository's root and all published results -> the parts between MARKERS of its pages."""
    from experiments.result_tables import markdown, summary_in_markdown  # Imports SciPy.

    parts = {"docs/results.md": markdown(results), "README.md": summary_in_markdown(results)}
    texts = {
        root / name: between_markers((root / name).read_text(), part, MARKERS)
        for name, part in parts.items()
    }
    for file, text in texts.items():
        write_text(file, text)
