"""Runs -> the paper's tables with ours beside them: JSON, Markdown in the README, and a page.

    python -m experiments.report                    all tables and scales that have runs
    python -m experiments.report --runs=/shared/runs --page=report.html

It reads what experiments.run has left in runs/, writes experiments/results/SCALE_TABLE.json for
each table of which there is a run, and from all JSONs that are there the tables of the README,
between its markers, and a page with plots. Nothing is run.

Columns: `ours` is the mean over seeds. The interval over images holds 95 % of what other images
would give (a bootstrap, the same images for all seeds); that over seeds is Student's. A claim of
the paper holds where each of its differences is over 0 with all of its interval, the same images
drawn for both sides; it does not where one is below 0 with all of it; else it cannot be told. Only
seeds that both sides have count; between different trainings of several seeds the differences'
interval over seeds has to agree, and with one seed the line says so: it is told of these two alone.
"""

import argparse
import html
import json
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from data.files import between_markers, write_json, write_text
from data.pictures import embed_png, write_page
from data.terminal import markdown_table
from experiments import base, tables
from experiments.collect import collect
from experiments.plots import plot
from experiments.verdicts import sign_of

ROOT = pathlib.Path(__file__).parent.parent
RESULTS = ROOT / "experiments" / "results"
MARKERS = ("<!-- results: made by python -m experiments.report -->", "<!-- end of results -->")


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
            + embed_png(plot(result), f"{result['table']} at scale {scale}")
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
        write_text(readme, between_markers(readme.read_text(), markdown(results), MARKERS))
        page.parent.mkdir(parents=True, exist_ok=True)
        write_report_page(page, results)
        print(f"-> README.md, {page}")
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
