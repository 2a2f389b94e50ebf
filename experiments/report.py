"""Runs -> the paper's tables with ours beside them: JSON, Markdown in the README, and a page.

    python -m experiments.report                    all tables and scales that have runs
    python -m experiments.report --runs=/shared/runs --page=report.html

It reads what experiments.run has left in runs/, writes experiments/results/SCALE_TABLE.json for
each table of which there is a run, and from all JSONs that are there the tables of the README,
between its two markers, and a page with plots. Nothing is run.

Columns: `ours` is the mean over seeds. The interval over images holds 95 % of what other images
would give (a bootstrap, the same images for all seeds); that over seeds is Student's. A claim of
the paper holds where each of its differences is over 0 with all of its interval, the same images
drawn for both sides; it does not where one is below 0 with all of it; else it cannot be told.
"""

import argparse
import csv
import html
import json
import pathlib
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy.stats

from data.files import write_json, write_text
from data.pictures import inline_png, write_page
from experiments import base, tables
from experiments.claims import CLAIMS, Claim
from experiments.compare import read_evaluation
from experiments.report_plots import plot
from experiments.run import evaluation_of, folder_of
from experiments.runs import flat, read_config
from model.evaluate import Counts
from model.metrics import interval, mean_iou, mean_over_classes, resampled_ious

ROOT = pathlib.Path(__file__).parent.parent
RESULTS = ROOT / "experiments" / "results"
MARKERS = ("<!-- results: made by python -m experiments.report -->", "<!-- end of results -->")
# What numbers in one column share. How they were predicted is what rows may differ in.
SHARED = ("dataset", "split", "ids_sha256", "labels_sha256", "label", "evaluator")
MAX_SEEDS = 100


def collect(table: str, scale: str, runs: pathlib.Path) -> dict[str, Any] | None:
    """A table's runs -> what its JSON holds; None where there is no run of it."""
    found = {
        name: seeds
        for name in tables.find_rows([table])
        if (seeds := evaluations(name, scale, runs))
    }
    if not found:
        return None
    shared = check_shared(found)
    draws = {name: drawn(seeds) for name, seeds in found.items()}
    rows = {}
    for name in tables.find_rows([table]):
        row = tables.row_of(name)
        entry = {"paper": row.paper_miou, "run": row.run or name}
        if name in found:
            entry |= {"status": "run", **summary(found[name], draws[name])}
        else:
            entry["status"] = why_missing(name, scale, runs)
        rows[name.partition("/")[2]] = entry
    by_row = {name.partition("/")[2]: value for name, value in draws.items()}
    means = {name: row["miou"] for name, row in rows.items() if "miou" in row}
    return {
        "table": table,
        "scale": scale,
        "shared_protocol": shared,
        "rows": rows,
        "claims": [judge(claim, by_row, means) for claim in CLAIMS.get(table, [])],
    }


def evaluations(
    name: str, scale: str, runs: pathlib.Path
) -> dict[int, tuple[dict[str, Any], Counts, float]]:
    """A row's name -> by seed: its evaluation, the counts, and the hours that its run took.

    Of runs that were trained with the row's config as it is now, and of no others.
    """
    row, found = tables.row_of(name), {}
    if row.why_not:
        return {}
    run = row.run or name
    trained = tables.config_of(run, scale)
    file, _ = evaluation_of(tables.config_of(name, scale), trained)
    for seed in range(MAX_SEEDS):
        folder = folder_of(runs, run, scale, seed)
        if not (folder / file).exists() or not file.endswith(".json"):
            continue
        config, trained.seed = flat(read_config(folder)), seed
        config.pop("init_from.path")
        if config == {k: v for k, v in flat(trained).items() if k != "init_from.path"}:
            found[seed] = (*read_evaluation(folder / file), hours(folder))
    return found


def hours(folder: pathlib.Path) -> float:
    """A run -> the hours that its steps took, evaluations left out, by its log.csv."""
    batch_size, before, seconds = read_config(folder).train_data.batch_size, 0, 0.0
    with (folder / "log.csv").open() as file:
        for line in csv.DictReader(file):
            step = int(line["step"])
            seconds += (step - before) * batch_size / float(line["images_per_second"])
            before = step
    return seconds / 3600


def check_shared(found: Mapping[str, Mapping[int, tuple]]) -> dict[str, Any]:
    """Evaluations -> what all of their protocols share.

    Raises ValueError, which names the first two that differ, where their numbers cannot stand in
    one column.
    """
    protocols = {
        f"{name}, seed {seed}": {field: result["protocol"][field] for field in SHARED}
        for name, seeds in found.items()
        for seed, (result, *_) in seeds.items()
    }
    (first, shared), *others = protocols.items()
    for name, theirs in others:
        if differ := [field for field in SHARED if shared[field] != theirs[field]]:
            raise ValueError(
                f"{first} and {name} were scored under different protocols, in "
                f"{', '.join(differ)}: evaluate them again."
            )
    return shared


def drawn(seeds: Mapping[int, tuple]) -> np.ndarray:
    """Evaluations of one row by seed -> [samples] mIoU over resampled images, the seeds' mean."""
    samples = [
        mean_over_classes(resampled_ious(counts.confusions)) for _, counts, _ in seeds.values()
    ]
    return np.mean(samples, axis=0)


def summary(seeds: Mapping[int, tuple], draws: np.ndarray) -> dict[str, Any]:
    """Evaluations of one row by seed, and their draws -> what the JSON says of the row."""
    mious = [mean_iou(counts.confusions.sum(0)) for _, counts, _ in seeds.values()]
    mean, spread = float(np.mean(mious)), None
    if len(mious) > 1:
        half = scipy.stats.t.ppf(0.975, len(mious) - 1) * scipy.stats.sem(mious)
        spread = [mean - half, mean + half]
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
        "miou": mean,
        "image_interval": list(interval(draws)),
        "seed_interval": spread,
        "seeds": each,
    }


def why_missing(name: str, scale: str, runs: pathlib.Path) -> str:
    """A row without a number -> why: not run, or what its run said when it failed."""
    row = tables.row_of(name)
    if row.why_not:
        return f"not run: {row.why_not}"
    folder = folder_of(runs, row.run or name, scale, 0)
    if (folder / "failure.json").exists():
        return f"failed: {json.loads((folder / 'failure.json').read_text())['said'][:200]}"
    if any(folder.glob("submission.*")):
        return "predicted: only the server has the labels"
    if row.devices > 1:
        return f"not run: it takes {row.devices} devices"
    return "not run"


def judge(
    claim: Claim, draws: Mapping[str, np.ndarray], means: Mapping[str, float]
) -> dict[str, Any]:
    """A claim, and rows' mIoU drawn over the same images -> whether it holds of our runs."""
    parts, missing = [], False
    for terms in claim.sums:
        if terms.keys() <= draws.keys():
            low, high = interval(sum(n * draws[row] for row, n in terms.items()))
            value = sum(n * means[row] for row, n in terms.items())
            parts.append({"of": dict(terms), "difference": value, "interval": [low, high]})
        else:
            missing = True
    verdict = "cannot be told"
    if any(part["interval"][1] < 0 for part in parts):
        verdict = "does not hold"
    elif not missing and all(part["interval"][0] > 0 for part in parts):
        verdict = "holds"
    return {"claim": claim.text, "verdict": verdict, "parts": parts}


def percent(value: float | None) -> str:
    """A fraction -> percent with two digits; `-` for None."""
    return "-" if value is None else f"{100 * value:.2f}"


def bounds(pair: Sequence[float] | None) -> str:
    """Two fractions -> `71.02 to 73.41`; `-` for None."""
    return "-" if pair is None else " to ".join(map(percent, pair))


def columns(scale: str) -> list[str]:
    """The header of a table, whose numbers are all of one scale."""
    ours = "ours" if scale == "paper" else f"ours, `{scale}`"
    return [
        "row",
        "paper",
        ours,
        "difference",
        "seeds",
        "over images",
        "over seeds",
        "hours",
        "status",
    ]


def cells(name: str, row: Mapping[str, Any], scale: str) -> list[str]:
    """A row of the JSON -> its cells. A difference is of numbers of the same scale alone."""
    paper = "-" if row["paper"] is None else f"{row['paper']:.2f}"
    if "miou" not in row:
        return [name, paper, *["-"] * 6, row["status"]]
    difference = "-"
    if scale == "paper" and row["paper"] is not None:
        difference = f"{100 * row['miou'] - row['paper']:+.2f}"
    spent = sum(seed["hours"] for seed in row["seeds"])
    return [
        name,
        paper,
        percent(row["miou"]),
        difference,
        str(len(row["seeds"])),
        bounds(row["image_interval"]),
        bounds(row["seed_interval"]),
        f"{spent:.2f}",
        row["status"],
    ]


def claim_line(claim: Mapping[str, Any]) -> str:
    """A claim of the JSON -> a line, with the weakest of its differences."""
    text = f"{claim['claim']}: **{claim['verdict']}**"
    if not claim["parts"]:
        return text
    weakest = min(claim["parts"], key=lambda part: part["difference"])
    low, high = (f"{100 * bound:+.2f}" for bound in weakest["interval"])
    terms = " ".join(
        f"{'+' if n > 0 else '-'} {f'{abs(n)} ' if abs(n) > 1 else ''}{row}"
        for row, n in weakest["of"].items()
    ).removeprefix("+ ")
    least = "least of them, " if len(claim["parts"]) > 1 else ""
    return f"{text} ({least}{terms}: {100 * weakest['difference']:+.2f}, {low} to {high})"


def markdown(results: Sequence[Mapping[str, Any]]) -> str:
    """What the JSONs hold -> the README's part between the markers.

    Tables of whose rows fewer than half have a number are a line at the end.
    """
    counts = [sum("miou" in row for row in result["rows"].values()) for result in results]
    parts, sparse = [], []
    for result, count in zip(results, counts, strict=True):
        if 2 * count >= len(result["rows"]):
            parts += table_in_markdown(result)
        else:
            number = result["table"].removeprefix("table")
            file = f"experiments/results/{result['scale']}_{result['table']}.json"
            sparse.append(f"[{number}]({file}) ({count} of {len(result['rows'])} rows)")
    if sparse:
        parts.append(f"Of these tables little has been run yet: {', '.join(sparse)}.")
    return "\n\n".join(part for part in parts if part)


def table_in_markdown(result: Mapping[str, Any]) -> list[str]:
    """What a table's JSON holds -> its title, table and claims in Markdown."""
    number, scale = result["table"].removeprefix("table"), result["scale"]
    commits = {s["commit"] for row in result["rows"].values() for s in row.get("seeds", [])}
    lines = [columns(scale), ["---"] * len(columns(scale))]
    lines += [cells(name, row, scale) for name, row in result["rows"].items()]
    return [
        f"**Table {number}**, scale `{scale}`, {result['shared_protocol']['dataset']} "
        f"{result['shared_protocol']['split']}, commit {', '.join(sorted(map(str, commits)))} "
        f"([json](experiments/results/{scale}_{result['table']}.json))",
        "\n".join(f"| {' | '.join(line)} |" for line in lines),
        "\n".join(f"- {claim_line(claim)}" for claim in result["claims"]),
    ]


def write_report_page(file: pathlib.Path, results: Sequence[Mapping[str, Any]]) -> None:
    """What the JSONs hold -> a page that needs no other file: tables, claims and plots."""
    sections = []
    for result in results:
        scale = result["scale"]
        lines = [cells(name, row, scale) for name, row in result["rows"].items()]
        head = "".join(f"<th>{html.escape(cell.replace('`', ''))}</th>" for cell in columns(scale))
        body = "".join(
            f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in line)}</tr>"
            for line in lines
        )
        claims = "".join(
            f"<li>{html.escape(claim_line(claim)).replace('**', '')}</li>"
            for claim in result["claims"]
        )
        protocol = ", ".join(f"{k} {v}" for k, v in result["shared_protocol"].items())
        sections.append(
            f"<h2>Table {result['table'].removeprefix('table')}, scale {scale}</h2>"
            f"<table><tr>{head}</tr>{body}</table><ul>{claims}</ul>"
            + inline_png(plot(result), f"{result['table']} at scale {scale}")
            + f"<p><small>{html.escape(protocol)}</small></p>"
        )
    write_page(file, "DeepLabv3: the paper's tables and ours", "".join(sections))


def between_markers(text: str, part: str) -> str:
    """A README -> the same with another part between its markers.

    Raises ValueError where it does not have them.
    """
    first, last = MARKERS
    if text.count(first) != 1 or text.count(last) != 1:
        raise ValueError(f"README.md should hold these lines once each:\n{first}\n{last}")
    pattern = f"{re.escape(first)}.*{re.escape(last)}"
    return re.sub(pattern, lambda _: f"{first}\n\n{part}\n\n{last}", text, flags=re.DOTALL)


def read_results() -> list[dict[str, Any]]:
    """All JSONs that are there, the paper's scale first, tables in its order."""
    results = [json.loads(file.read_text()) for file in RESULTS.glob("*_table*.json")]
    scales = list(base.SCALES)
    return sorted(results, key=lambda r: (scales.index(r["scale"]), int(r["table"][5:])))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs"))
    parser.add_argument("--page", type=pathlib.Path, help="an HTML; RUNS/report.html if not given")
    arguments = parser.parse_args()
    page = arguments.page or arguments.runs / "report.html"
    try:
        for scale in base.SCALES:
            for table in tables.TABLES:
                if (result := collect(table, scale, arguments.runs)) is not None:
                    file = RESULTS / f"{scale}_{table}.json"
                    write_json(file, result)
                    print(f"{table}, {scale} -> {file.relative_to(ROOT)}")
        results = read_results()
        if not results:
            sys.exit("error: there is no run yet: python -m experiments.run table1 --scale=shapes")
        readme = ROOT / "README.md"
        write_text(readme, between_markers(readme.read_text(), markdown(results)))
        page.parent.mkdir(parents=True, exist_ok=True)
        write_report_page(page, results)
        print(f"-> README.md, {page}")
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
