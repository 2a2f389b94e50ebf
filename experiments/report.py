"""Runs -> the paper's tables with our numbers: JSON, Markdown in README.md and docs/, and a page.

    python -m experiments.report                    all tables and scales that have runs
    python -m experiments.report --runs=/shared/runs --page=report.html

It reads the runs that experiments.run has left in runs/ and writes, for each table with a run, its
JSON in experiments/results/. From all JSONs in that folder it writes the tables in docs/results.md
and their summary in README.md, both between markers, and a page with plots. Nothing is trained or
evaluated.

Columns: `ours` is the mean over seeds. The 95% CI (images) comes from a bootstrap over images, the
same ones for all seeds; the 95% CI (seeds) is Student's. A claim of the paper holds if the interval
of each of its differences is above 0, with the same images drawn for both sides. It does not hold
if one of them is below 0. Otherwise it is inconclusive. Only seeds that both sides have count.
Between different training runs with several seeds the differences' interval over seeds must agree;
with one seed each, the verdict is marked "single seed", because it does not include seed variance.
"""

import html
import json
import pathlib
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from data.files import between_markers, write_json, write_text
from data.pictures import embed_png, write_page
from data.terminal import (
    errors_in_a_line,
    interval_text,
    make_parser,
    markdown_table,
    percent,
    signed_percent,
)
from experiments import base, tables
from experiments.collect import collect
from experiments.plots import plot
from experiments.verdicts import INCONCLUSIVE, VERDICTS, significant_sign

ROOT = pathlib.Path(__file__).parent.parent
RESULTS = ROOT / "experiments" / "results"
DOCS_PAGE = "docs/results.md"
SUMMARY_SCALE = "shapes"  # The one that README.md summarizes.
MARKERS = ("<!-- results: made by python -m experiments.report -->", "<!-- end of results -->")


def columns(scale: str) -> list[str]:
    """A scale -> the header of a table at that scale."""
    ours = "ours" if scale == "paper" else f"ours, `{scale}`"
    names = ["row", "paper", ours, "difference", "seeds", "95% CI (images)", "95% CI (seeds)"]
    return [*names, "training hours", "status"]


def cells(result: Mapping[str, Any]) -> list[list[str]]:
    """The contents of a table's JSON -> the cells of its rows.

    A difference is reported only at the paper's scale and for the whole split. The hours of a
    training run that several rows share are shown at the first of them.
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
        hours = f"{sum(seed['hours'] for seed in row['seeds']):.2f}"
        numbers = [percent(row["miou"]), difference, str(len(row["seeds"]))]
        numbers += [interval_text(row["image_interval"]), interval_text(row["seed_interval"])]
        numbers.append("shared" if row["run"] in trained else hours)
        lines.append([name, paper, *numbers, status])
        trained.add(row["run"])
    return lines


def claim_line(claim: Mapping[str, Any]) -> str:
    """A claim in the JSON -> a line with its verdict and the difference that decided it."""
    single = any(part["seeds"] == 1 and not part["one_training"] for part in claim["parts"])
    note = " (single seed)" if single and claim["verdict"] != INCONCLUSIVE else ""
    text = f"{claim['claim']}: **{claim['verdict']}{note}**"
    if claim["parts"]:
        parts = sorted(claim["parts"], key=lambda part: part["interval"][0])
        decisive = [part for part in parts if significant_sign(part) == -1] or parts
        text += f" ({difference_text(decisive[0])}"
        text += f"; the smallest of {len(parts)})" if len(parts) > 1 else ")"
    if claim["parts_not_run"]:
        text += f"; not run: {claim['parts_not_run']} of its differences"
    return text


def difference_text(part: Mapping[str, Any]) -> str:
    """One difference of a claim -> `mg121 - mg111: +1.72, +0.74 to +2.73, one seed`."""
    terms = " ".join(
        f"{'+' if n > 0 else '-'} {f'{abs(n)} ' if abs(n) > 1 else ''}{row}"
        for row, n in part["of"].items()
    ).removeprefix("+ ")
    bounds = interval_text(part["interval"], signed=True)
    text = f"{terms}: {signed_percent(part['difference'])}, {bounds}"
    if part["one_training"]:
        return text
    return f"{text}, {'one seed' if part['seeds'] == 1 else str(part['seeds']) + ' seeds'}"


def markdown(results: Sequence[Mapping[str, Any]]) -> str:
    """The contents of the JSONs -> all tables, for docs/results.md.

    Tables with fewer than half of their rows run are listed in a line at the end.
    """
    parts, sparse = [], []
    for result in results:
        if 2 * num_rows_run(result) >= len(result["rows"]):
            parts += table_in_markdown(result)
        else:
            rows_run = f"{num_rows_run(result)} of {len(result['rows'])} rows"
            sparse.append(f"[{table_number(result)}]({json_link(result)}) ({rows_run})")
    if sparse:
        parts.append(f"Tables with fewer than half of their rows run: {', '.join(sparse)}.")
    return "\n\n".join(part for part in parts if part)


def summary_in_markdown(results: Sequence[Mapping[str, Any]]) -> str:
    """The contents of the JSONs -> rows run and claims by verdict of each table, for README.md."""
    lines = [["table", "rows run", "claims: hold", "do not hold", "inconclusive", "not run"]]
    for result in results:
        if result["scale"] != SUMMARY_SCALE:
            continue
        verdicts = ["not run" if c["parts_not_run"] else c["verdict"] for c in result["claims"]]
        rows_run = f"{num_rows_run(result)} of {len(result['rows'])}"
        counts = [str(verdicts.count(each)) for each in (*VERDICTS, "not run")]
        lines.append([f"{table_number(result)}: {topic_of(result['table'])}", rows_run, *counts])
    return (
        f"{markdown_table(lines)}\n\n"
        '"Not run" counts claims whose rows have not all been run. Every number, with its '
        f"interval, and every claim: [{DOCS_PAGE}]({DOCS_PAGE})."
    )


def topic_of(table: str) -> str:
    """`table5` -> `ASPP with multi-grid and image-level features`, from its file's docstring."""
    return re.match(r"Table \d+: ([^.;]+)", tables.TABLES[table].__doc__)[1]


def num_rows_run(result: Mapping[str, Any]) -> int:
    """The contents of a table's JSON -> how many of its rows have a number."""
    return sum("miou" in row for row in result["rows"].values())


def table_number(result: Mapping[str, Any]) -> str:
    """The contents of a table's JSON -> `5`."""
    return result["table"].removeprefix("table")


def json_link(result: Mapping[str, Any]) -> str:
    """The contents of a table's JSON -> the path of that JSON from docs/."""
    return f"../experiments/results/{result['scale']}_{result['table']}.json"


def table_in_markdown(result: Mapping[str, Any]) -> list[str]:
    """The contents of a table's JSON -> its title, table and claims in Markdown."""
    scale = result["scale"]
    commits = {s["commit"] for row in result["rows"].values() for s in row.get("seeds", [])}
    shared = result["shared_protocol"]
    return [
        f"**Table {table_number(result)}**, scale `{scale}`, {shared['dataset']} "
        f"{shared['split']}, trained and scored by commit {', '.join(sorted(map(str, commits)))} "
        f"([json]({json_link(result)}))",
        markdown_table([columns(scale), *cells(result)]),
        "\n".join(f"- {claim_line(claim)}" for claim in result["claims"]),
    ]


def write_report_page(file: pathlib.Path, results: Sequence[Mapping[str, Any]]) -> None:
    """The contents of the JSONs -> a self-contained page of tables, claims and plots."""
    write_page(file, "DeepLabv3: the paper's tables and ours", "".join(map(table_in_html, results)))


def table_in_html(result: Mapping[str, Any]) -> str:
    """The contents of a table's JSON -> its title, table, claims and plot in HTML."""
    scale = result["scale"]
    head = "".join(f"<th>{html.escape(cell.replace('`', ''))}</th>" for cell in columns(scale))
    body = "".join(
        f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in line)}</tr>"
        for line in cells(result)
    )
    claims = "".join(
        f"<li>{html.escape(claim_line(claim)).replace('**', '')}</li>" for claim in result["claims"]
    )
    protocol = ", ".join(f"{k} {v}" for k, v in result["shared_protocol"].items())
    published = ", ".join(f"{method} {miou}" for method, miou in result["published"].items())
    if published:
        published = f"<p>Other methods, as the paper lists them: {html.escape(published)}.</p>"
    return (
        f"<h2>Table {table_number(result)}, scale {scale}</h2>"
        f"<table><tr>{head}</tr>{body}</table><ul>{claims}</ul>"
        + embed_png(plot(result), f"{result['table']} at scale {scale}")
        + published
        + f"<p><small>{html.escape(protocol)}</small></p>"
    )


def read_results() -> list[dict[str, Any]]:
    """The contents of all JSONs in RESULTS, the paper's scale first, tables in its order."""
    results = [json.loads(file.read_text()) for file in RESULTS.glob("*_table*.json")]
    scales = list(base.SCALES)
    return sorted(results, key=lambda r: (scales.index(r["scale"]), int(r["table"][5:])))


def collect_all(runs: pathlib.Path) -> None:
    """Writes the JSON of every table and scale that has runs.

    All are collected before the first is written, so that an error leaves the files as they were.
    """
    results = [
        result
        for scale in base.SCALES
        for table in tables.TABLES
        if (result := collect(table, scale, runs)) is not None
    ]
    for result in results:
        file = RESULTS / f"{result['scale']}_{result['table']}.json"
        write_json(file, result)
        print(f"{result['table']}, {result['scale']} -> {file.relative_to(ROOT)}")


def main() -> None:
    parser = make_parser("experiments.report", __doc__)
    parser.add_argument(
        "--runs", type=pathlib.Path, default=pathlib.Path("runs"), help="the folder of all runs"
    )
    parser.add_argument(
        "--page", type=pathlib.Path, help="HTML page to write (default: RUNS/report.html)"
    )
    arguments = parser.parse_args()
    page = arguments.page or arguments.runs / "report.html"
    with errors_in_a_line():
        if not arguments.runs.is_dir():
            raise NotADirectoryError(f"--runs={arguments.runs}: not a directory.")
        collect_all(arguments.runs)
        results = read_results()
        if not results:
            sys.exit("error: no run found; try python -m experiments.run table1 --scale=shapes")
        docs_page = ROOT / DOCS_PAGE
        write_text(docs_page, between_markers(docs_page.read_text(), markdown(results), MARKERS))
        readme = ROOT / "README.md"
        text = between_markers(readme.read_text(), summary_in_markdown(results), MARKERS)
        write_text(readme, text)
        page.parent.mkdir(parents=True, exist_ok=True)
        write_report_page(page, results)
        print(f"-> README.md, {DOCS_PAGE}, {page}")


if __name__ == "__main__":
    main()
