"""The contents of the tables' JSONs -> rows of text, lines on claims, and Markdown."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from data.terminal import interval_text, markdown_table, percent, signed_percent
from experiments import tables
from experiments.verdicts import INCONCLUSIVE, VERDICTS, significant_sign

RESULTS_PAGE = "docs/results.md"  # Where the README's summary points.
SUMMARY_SCALE = "shapes"  # The one that README.md summarizes.


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
    text = f"{claim['claim']}: **{verdict_of(claim)}{note}**"
    if claim["parts"]:
        parts = sorted(claim["parts"], key=lambda part: part["interval"][0])
        decisive = [part for part in parts if significant_sign(part) == -1] or parts
        text += f" ({difference_text(decisive[0])}"
        text += f"; the smallest of {len(parts)})" if len(parts) > 1 else ")"
    if claim["parts_not_run"]:
        text += f"; differences not run: {claim['parts_not_run']}"
    return text


def verdict_of(claim: Mapping[str, Any]) -> str:
    """A claim in the JSON -> its verdict; `not run` if that is for want of rows."""
    if claim["parts_not_run"] and claim["verdict"] == INCONCLUSIVE:
        return "not run"
    return claim["verdict"]


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
        verdicts = [verdict_of(claim) for claim in result["claims"]]
        rows_run = f"{num_rows_run(result)} of {len(result['rows'])}"
        counts = [str(verdicts.count(each)) for each in (*VERDICTS, "not run")]
        lines.append([f"{table_number(result)}: {topic_of(result['table'])}", rows_run, *counts])
    return (
        f"{markdown_table(lines)}\n\n"
        '"Not run" counts claims whose rows have not all been run. Every number, with its '
        f"interval, and every claim: [{RESULTS_PAGE}]({RESULTS_PAGE})."
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
