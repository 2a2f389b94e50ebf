"""Runs -> the paper's tables with ours beside them: JSON, Markdown in the README, and a page.

    python -m experiments.report                    all tables and scales that have runs
    python -m experiments.report --runs=/shared/runs --page=report.html

It reads what experiments.run has left in runs/, writes experiments/results/SCALE_TABLE.json for
each table of which there is a run, and from all JSONs that are there the tables of the README,
between its markers, and a page with plots; the README's tables of speed, too, from what
experiments.benchmark has left. Nothing is run.

Columns: `ours` is the mean over seeds. The interval over images holds 95 % of what other images
would give (a bootstrap, the same images for all seeds); that over seeds is Student's. A claim of
the paper holds where each of its differences is over 0 with all of its interval, the same images
drawn for both sides; it does not where one is below 0 with all of it; else it cannot be told. Only
seeds that both sides have count; between different trainings of several seeds the differences'
interval over seeds has to agree, and with one seed the line says so: it is told of these two alone.
"""

import argparse
import csv
import html
import json
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.stats

from data.files import between_markers, write_json, write_text
from data.pictures import inline_png, write_page
from data.terminal import markdown_table
from evaluation.counts import Counts
from evaluation.metrics import interval, mean_over_classes, resampled_ious
from evaluation.results import read_evaluation
from experiments import base, tables
from experiments.benchmark_cases import in_markdown
from experiments.claims import CLAIMS, Claim
from experiments.report_plots import plot
from experiments.run import Work, evaluation_of, folder_of, is_of, is_there, plan
from training.run_folder import read_config

ROOT = pathlib.Path(__file__).parent.parent
RESULTS = ROOT / "experiments" / "results"
MARKERS = ("<!-- results: made by python -m experiments.report -->", "<!-- end of results -->")
BENCHMARK_MARKERS = (
    "<!-- speed: made by python -m experiments.report -->",
    "<!-- end of speed -->",
)
# What numbers in one column share. How they were predicted is what rows may differ in.
SHARED = ("dataset", "split", "num_images", "ids_sha256", "labels_sha256", "label", "evaluator")
MAX_SEEDS = 100


class Scored(NamedTuple):
    """A row's number for one seed."""

    result: dict[str, Any]  # What eval.json holds.
    counts: Counts
    hours: float  # That the steps of its training took.


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


def students(values: Sequence[float]) -> list[float] | None:
    """What seeds gave -> Student's 95 % interval of their mean; None for a single one."""
    if len(values) < 2:
        return None
    half = scipy.stats.t.ppf(0.975, len(values) - 1) * scipy.stats.sem(values)
    return [float(np.mean(values) - half), float(np.mean(values) + half)]


def judge(
    claim: Claim,
    table: str,
    found: Mapping[str, Mapping[int, Scored]],
    draws: Mapping[str, Mapping[int, np.ndarray]],
) -> dict[str, Any]:
    """A claim, and numbers of rows by seed with their drawn mIoU -> whether it holds of them."""
    parts = []
    for terms in claim.sums:
        rows = {f"{table}/{row}": n for row, n in terms.items()}
        seeds = set.intersection(*(set(found.get(name, {})) for name in rows))
        if not seeds:
            continue
        each = [sum(n * found[r][s].result["miou"] for r, n in rows.items()) for s in sorted(seeds)]
        drawn = [sum(n * draws[r][s] for r, n in rows.items()) for s in sorted(seeds)]
        one_training = len({tables.row_of(name).run or name for name in rows}) == 1
        part = {"of": dict(terms), "seeds": len(seeds), "one_training": one_training}
        part["difference"] = float(np.mean(each))
        part["interval"] = list(interval(np.mean(drawn, axis=0)))
        part["seed_interval"] = students(each)
        parts.append(part)
    signs = [sign_of(part) for part in parts]
    verdict = "cannot be told"
    if -1 in signs:
        verdict = "does not hold"
    elif len(parts) == len(claim.sums) and all(sign == 1 for sign in signs):
        verdict = "holds"
    missing = len(claim.sums) - len(parts)
    return {"claim": claim.text, "verdict": verdict, "parts": parts, "parts_not_run": missing}


def sign_of(part: Mapping[str, Any]) -> int:
    """A difference -> 1 or -1 where its intervals say so, else 0.

    That over images always; that over seeds where there are several, and different trainings.
    """
    bounds = [part["interval"]]
    if part["seed_interval"] and not part["one_training"]:
        bounds.append(part["seed_interval"])
    if all(low > 0 for low, _ in bounds):
        return 1
    return -1 if all(high < 0 for _, high in bounds) else 0


def percent(value: float | None) -> str:
    """A fraction -> percent with two digits; `-` for None."""
    return "-" if value is None else f"{100 * value:.2f}"


def bounds(pair: Sequence[float] | None) -> str:
    """Two fractions -> `71.02 to 73.41`; `-` for None."""
    return "-" if pair is None else " to ".join(map(percent, pair))


def columns(scale: str) -> list[str]:
    """The header of a table, whose numbers are all of one scale."""
    ours = "ours" if scale == "paper" else f"ours, `{scale}`"
    names = ["row", "paper", ours, "difference", "seeds", "over images", "over seeds"]
    return [*names, "training hours", "status"]


def cells(result: Mapping[str, Any]) -> list[list[str]]:
    """What a table's JSON holds -> the cells of its rows.

    A difference is of numbers of the same scale alone, and of the whole split. A training that
    several rows share has its hours at the first of them.
    """
    lines, trained = [], set()
    for name, row in result["rows"].items():
        paper = "-" if row["paper"] is None else f"{row['paper']:.2f}"
        status = row["status"].replace("|", "/")
        if "miou" not in row:
            lines.append([name, paper, *["-"] * 6, status])
            continue
        difference = "-"
        if result["scale"] == "paper" and row["paper"] is not None and row["whole_split"]:
            difference = f"{100 * row['miou'] - row['paper']:+.2f}"
        spent = f"{sum(seed['hours'] for seed in row['seeds']):.2f}"
        numbers = [percent(row["miou"]), difference, str(len(row["seeds"]))]
        numbers += [bounds(row["image_interval"]), bounds(row["seed_interval"])]
        numbers.append("the same" if row["run"] in trained else spent)
        lines.append([name, paper, *numbers, status])
        trained.add(row["run"])
    return lines


def claim_line(claim: Mapping[str, Any]) -> str:
    """A claim of the JSON -> a line, with the difference that decided it, or the least."""
    alone = any(part["seeds"] == 1 and not part["one_training"] for part in claim["parts"])
    of_these = ", of these trainings" if alone and claim["verdict"] != "cannot be told" else ""
    text = f"{claim['claim']}: **{claim['verdict']}{of_these}**"
    if claim["parts"]:
        parts = sorted(claim["parts"], key=lambda part: part["interval"][0])
        decisive = [part for part in parts if sign_of(part) == -1] or parts
        text += f" ({difference_said(decisive[0])}"
        text += f"; the least of {len(parts)})" if len(parts) > 1 else ")"
    if claim["parts_not_run"]:
        text += f"; {claim['parts_not_run']} of its differences have not been run"
    return text


def difference_said(part: Mapping[str, Any]) -> str:
    """One difference of a claim -> `mg121 - mg111: +1.72, +0.74 to +2.73, one seed`."""
    terms = " ".join(
        f"{'+' if n > 0 else '-'} {f'{abs(n)} ' if abs(n) > 1 else ''}{row}"
        for row, n in part["of"].items()
    ).removeprefix("+ ")
    low, high = (f"{100 * bound:+.2f}" for bound in part["interval"])
    said = f"{terms}: {100 * part['difference']:+.2f}, {low} to {high}"
    if part["one_training"]:
        return said
    return f"{said}, {'one seed' if part['seeds'] == 1 else str(part['seeds']) + ' seeds'}"


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
    shared = result["shared_protocol"]
    return [
        f"**Table {number}**, scale `{scale}`, {shared['dataset']} {shared['split']}, trained and "
        f"scored by commit {', '.join(sorted(map(str, commits)))} "
        f"([json](experiments/results/{scale}_{result['table']}.json))",
        markdown_table([columns(scale), *cells(result)]),
        "\n".join(f"- {claim_line(claim)}" for claim in result["claims"]),
    ]


def write_report_page(file: pathlib.Path, results: Sequence[Mapping[str, Any]]) -> None:
    """What the JSONs hold -> a page that needs no other file: tables, claims and plots."""
    sections = []
    for result in results:
        scale = result["scale"]
        lines = cells(result)
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
        others = ", ".join(f"{method} {miou}" for method, miou in result["published"].items())
        others = others and f"<p>Others, as the paper lists them: {html.escape(others)}.</p>"
        sections.append(
            f"<h2>Table {result['table'].removeprefix('table')}, scale {scale}</h2>"
            f"<table><tr>{head}</tr>{body}</table><ul>{claims}</ul>"
            + inline_png(plot(result), f"{result['table']} at scale {scale}")
            + others
            + f"<p><small>{html.escape(protocol)}</small></p>"
        )
    write_page(file, "DeepLabv3: the paper's tables and ours", "".join(sections))


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
        if not arguments.runs.is_dir():
            raise FileNotFoundError(f"--runs={arguments.runs} is no folder.")
        found = [
            result
            for scale in base.SCALES
            for table in tables.TABLES
            if (result := collect(table, scale, arguments.runs)) is not None
        ]
        for result in found:
            file = RESULTS / f"{result['scale']}_{result['table']}.json"
            write_json(file, result)
            print(f"{result['table']}, {result['scale']} -> {file.relative_to(ROOT)}")
        results = read_results()
        if not results:
            sys.exit("error: there is no run yet: python -m experiments.run table1 --scale=shapes")
        readme = ROOT / "README.md"
        text = between_markers(readme.read_text(), markdown(results), MARKERS)
        speed = in_markdown(json.loads((RESULTS / "benchmark.json").read_text()))
        write_text(readme, between_markers(text, speed, BENCHMARK_MARKERS))
        page.parent.mkdir(parents=True, exist_ok=True)
        write_report_page(page, results)
        print(f"-> README.md, {page}")
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
