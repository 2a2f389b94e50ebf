"""The contents of the tables' JSONs -> rows of text, lines on claims, and Markdown."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from data.terminal import interval_text, markdown_table, percent, signed_percent
from experiments import tables
from experiments.claims import CLAIMS
from experiments.publish import json_name
from experiments.verdicts import (
    FAILED,
    INCONCLUSIVE,
    MAX_SEEDS_NEEDED,
    NOT_RUN,
    RUN,
    VERDICTS,
    paper_difference,
)

RESULTS_PAGE = "docs/results.md"  # Where the README's summary points.
SUMMARY_WORDS = (
    "Differences in points of mIoU, positive if the claim holds, ± half of their 95% interval over "
    "seeds and images. Of a claim with several, the paper's are a range, and ours is the one that "
    "the verdict rests on; if that is negative, its interval is wider (Bonferroni). Claims are not "
    "corrected for one another."
)


def columns(scale: str) -> list[str]:
    """A scale -> the header of a table at that scale."""
    ours = "ours" if scale == "paper" else f"ours, `{scale}`"
    names = ["row", "changed", "paper", ours, "difference", "seeds"]
    names += ["95% CI (images)", "95% CI (seeds)"]
    return [*names, "training hours", "status"]


def cells(result: Mapping[str, Any]) -> list[list[str]]:
    """The contents of a table's JSON -> the cells of its rows.

    A difference is reported only at the paper's scale and for the whole split. The hours of a
    training run that several rows share are shown at the first of them.
    """
    lines, trained, shared = [], set(), shared_notes(result)
    for name, row in result["rows"].items():
        paper = "-" if row["paper"] is None else f"{row['paper']:.2f}"
        status = status_text(row, shared).replace("|", "/")
        if "miou" not in row:
            lines.append([name, "-", paper, *["-"] * 6, status])
            continue
        difference = "-"
        if result["scale"] == "paper" and row["paper"] is not None and row["whole_split"]:
            difference = f"{100 * row['miou'] - row['paper']:+.2f}"
        hours = f"{sum(seed['hours'] for seed in row['seeds']):.2f}"
        numbers = [percent(row["miou"]), difference, str(len(row["seeds"]))]
        numbers += [interval_text(row["image_interval"]), interval_text(row["seed_interval"])]
        numbers.append("shared" if row["run"] in trained else hours)
        lines.append([name, changed_text(row["changed"]), paper, *numbers, status])
        trained.add(row["run"])
    return lines


def changed_text(changed: Mapping[str, Any]) -> str:
    """A row's fields that a scale changes -> `batch_size 2` or `atrous_rates (2,4,6)`; or `-`."""
    texts = []
    for field, value in changed.items():
        text = f"({','.join(map(str, value))})" if isinstance(value, (list, tuple)) else value
        texts.append(f"{field.rpartition('.')[2]} {text}")
    return ", ".join(texts) or "-"


def shared_notes(result: Mapping[str, Any]) -> list[str]:
    """The contents of a table's JSON -> the notes that all of its rows with a number have.

    Empty if fewer than two rows have one.
    """
    if num_rows_run(result) < 2:
        return []
    first, *others = [row["notes"] for row in result["rows"].values() if "miou" in row]
    return [note for note in first if all(note in notes for notes in others)]


def status_text(row: Mapping[str, Any], shared: Sequence[str]) -> str:
    """A row in the JSON, and notes that the table's title has -> the row's status and its notes."""
    status, notes = row["status"], [note for note in row["notes"] if note not in shared]
    if status == FAILED:
        return "; ".join(notes)  # One of which says so, and of which seed.
    if not notes:
        return status
    return f"{status}{'; ' if status == RUN else ': '}{'; '.join(notes)}"


def without_empty_columns(lines: Sequence[Sequence[str]]) -> list[list[str]]:
    """A header and rows -> the same without the columns that have `-` in every row."""
    filled = [
        column for column in zip(*lines, strict=True) if any(cell != "-" for cell in column[1:])
    ]
    return [list(line) for line in zip(*filled, strict=True)]


def claim_line(claim: Mapping[str, Any]) -> str:
    """A claim in the JSON -> a line with its verdict and the difference that it rests on."""
    text = f"{claim['claim']}: **{verdict_text(claim)}**"
    if claim["parts"]:
        part, count = claim["parts"][claim["decisive"]], len(claim["parts"])
        text += f" ({difference_text(part)}"
        text += f"; the decisive one of {count})" if count > 1 else ")"
    if claim["parts_not_run"]:
        text += f"; differences not run: {claim['parts_not_run']}"
    return text


def verdict_of(claim: Mapping[str, Any]) -> str:
    """A claim in the JSON -> its verdict; `not run` if that is for want of rows."""
    if claim["parts_not_run"] and claim["verdict"] == INCONCLUSIVE:
        return NOT_RUN
    return claim["verdict"]


def verdict_text(claim: Mapping[str, Any]) -> str:
    """A claim in the JSON -> its verdict; if it is inconclusive, with what would decide it.

    Also whether it is of one seed: of two evaluations, that decides about one training alone.
    """
    said = verdict_of(claim)
    if said == NOT_RUN:
        return said
    part = claim["parts"][claim["decisive"]]
    if said != INCONCLUSIVE:
        return f"{said} (one seed)" if part["seeds"] == 1 else said
    if part["seed_error"] is None:
        return f"{said} (one seed)"
    seeds, images = claim["seeds_needed"], claim["images_needed"]
    if not images:
        need = f"over {MAX_SEEDS_NEEDED}" if seeds is None else f"about {seeds}"
        return f"{said} (needs {need} seeds)"
    more_seeds = "" if seeds == part["seeds"] else f" and {seeds or MAX_SEEDS_NEEDED} seeds"
    return f"{said} (needs over {images:,} images{more_seeds})"


def difference_text(part: Mapping[str, Any]) -> str:
    """One difference of a claim -> `mg121 - mg111: +1.72, +0.74 to +2.73, 3 seeds, paper +0.57`.

    The level of an interval that is not of 95% stands behind it.
    """
    terms = " ".join(
        f"{'+' if n > 0 else '-'} {f'{abs(n)} ' if abs(n) > 1 else ''}{row}"
        for row, n in part["of"].items()
    ).removeprefix("+ ")
    bounds = f", {interval_text(part['interval'], signed=True)}" if part["interval"] else ""
    if part["interval"] and (level := f"{100 * part['confidence']:.3g}%") != "95%":
        bounds += f" ({level} interval)"
    seeds = "one seed" if part["seeds"] == 1 else f"{part['seeds']} seeds"
    paper = signed_percent(part["paper"])
    return f"{terms}: {signed_percent(part['difference'])}{bounds}, {seeds}, paper {paper}"


def markdown(results: Sequence[Mapping[str, Any]]) -> str:
    """The contents of the JSONs -> all tables, for docs/results.md."""
    parts = [part for result in results for part in table_in_markdown(result)]
    return "\n\n".join(part for part in parts if part)


def summary_in_markdown(results: Sequence[Mapping[str, Any]]) -> str:
    """The contents of the JSONs -> every claim with its verdict at each scale, for README.md."""
    scales = scales_of(results)
    by_scale = {s: [result for result in results if result["scale"] == s] for s in scales}
    counts = "\n".join(f"- {counts_text(scale, ours)}" for scale, ours in by_scale.items())
    efforts = "\n".join(f"- {effort_text(scale, ours)}" for scale, ours in by_scale.items())
    head, *lines = summary(results)
    head[-len(scales) :] = [f"`{scale}`" for scale in scales]
    return (
        f"{counts}\n\n{SUMMARY_WORDS} [{RESULTS_PAGE}]({RESULTS_PAGE}) says what would decide the "
        f"inconclusive ones.\n\n{markdown_table([head, *lines])}\n\n{efforts}"
    )


def scales_of(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """The contents of the JSONs -> their scales."""
    return list(dict.fromkeys(result["scale"] for result in results))


def summary(results: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """The contents of the JSONs -> a header, and a row for every claim: its verdict at each scale.

    SUMMARY_WORDS explain it.
    """
    scales = scales_of(results)
    found = {
        (result["table"], claim["claim"], result["scale"]): claim
        for result in results
        for claim in result["claims"]
    }
    lines = [["table", "claim", "paper", *scales]]
    for table, claims in CLAIMS.items():
        for claim in claims:
            ours = [found.get((table, claim.text, scale)) for scale in scales]
            if any(ours):
                paper = range_text([paper_difference(table, terms) for terms in claim.differences])
                cells_ = [claim_cell(each) if each else "-" for each in ours]
                lines.append([table.removeprefix("table"), claim.text, paper, *cells_])
    return lines


def counts_text(scale: str, results: Sequence[Mapping[str, Any]]) -> str:
    """A scale and its results -> how many of the claims have which verdict."""
    said = [verdict_of(claim) for result in results for claim in result["claims"]]
    holds, not_holds, is_open = (said.count(verdict) for verdict in VERDICTS)
    text = (
        f"`{scale}`: of {len(said)} claims, {holds} {'holds' if holds == 1 else 'hold'}, "
        f"{not_holds} {'does' if not_holds == 1 else 'do'} not, "
        f"{is_open} {'is' if is_open == 1 else 'are'} inconclusive"
    )
    return text + (f", {said.count(NOT_RUN)} not run." if NOT_RUN in said else ".")


def effort_text(scale: str, results: Sequence[Mapping[str, Any]]) -> str:
    """A scale and its results -> how many runs and hours they took, their commit, and the commands.

    A command for each number of seeds, if tables differ in it.
    """
    scored = [
        (row["run"], seed)
        for result in results
        for row in result["rows"].values()
        for seed in row.get("seeds", [])
    ]
    trainings = {(run, seed["seed"]): seed for run, seed in scored}
    hours = sum(training["hours"] for training in trainings.values())
    commits = sorted({str(seed["commit"]) for _, seed in scored})
    by_seeds = {}
    for result in results:
        if num_rows_run(result) > 1:
            seeds = min(len(row["seeds"]) for row in result["rows"].values() if "seeds" in row)
            by_seeds.setdefault(seeds, []).append(rows_flag(result))
    commands = []
    for seeds, names in by_seeds.items():
        command = ["python -m experiments.run", *names, f"--scale={scale}"]
        command += [f"--seeds={seeds}"] * (seeds > 1)
        if any(training["weights"] for training in trainings.values()):
            command.append("--imagenet=FILE")
        commands.append(f"`{' '.join(command)}`")
    count = f"{len(trainings)} training {'run' if len(trainings) == 1 else 'runs'}"
    return f"{count}, {hours:.1f} hours, commit {', '.join(commits)}: {', '.join(commands)}"


def rows_flag(result: Mapping[str, Any]) -> str:
    """The contents of a table's JSON -> `table5`; `table6:os16 table6:os8` if more are not run.

    Those that the scale does not offer are not meant.
    """
    table, scale = result["table"], result["scale"]
    run = [name for name, row in result["rows"].items() if "miou" in row]
    there = [n for n in result["rows"] if not tables.row_of(f"{table}/{n}", scale).unavailable]
    return table if run == there else " ".join(f"{table}:{name}" for name in run)


def claim_cell(claim: Mapping[str, Any]) -> str:
    """A claim in the JSON -> `holds, +1.72 ± 0.99`: the difference that it rests on.

    Without what would decide it: RESULTS_PAGE has that.
    """
    said, parts = verdict_of(claim), claim["parts"]
    if said == NOT_RUN:
        return said
    part = parts[claim["decisive"]]
    text = f"{said}, {signed_percent(part['difference'])}"
    text += f" ± {percent(part['interval'][1] - part['difference'])}" if part["interval"] else ""
    return f"{text} (one seed)" if part["seeds"] == 1 else text


def range_text(points: Sequence[float]) -> str:
    """Differences in points -> `+0.42`, or `+0.42 to +4.82`."""
    return " to ".join(f"{each:+.2f}" for each in sorted({min(points), max(points)}))


def topic_of(table: str) -> str:
    """`table5` -> `ASPP with multi-grid and image-level features`, from its file's docstring."""
    topic = re.match(r"Table \d+: ([^.;]+)", tables.TABLES[table].__doc__)[1]
    return topic.replace("`", "")


def num_rows_run(result: Mapping[str, Any]) -> int:
    """The contents of a table's JSON -> how many of its rows have a number."""
    return sum("miou" in row for row in result["rows"].values())


def table_number(result: Mapping[str, Any]) -> str:
    """The contents of a table's JSON -> `5`."""
    return result["table"].removeprefix("table")


def plot_titles(result: Mapping[str, Any]) -> dict[str, str]:
    """The contents of a table's JSON -> the titles of its two plots, by the names of their files.

    Empty if fewer than two rows have a number.
    """
    if num_rows_run(result) < 2:
        return {}
    scale, title = result["scale"], f"Table {table_number(result)}"
    file = json_name(result).removesuffix(".json")
    return {
        f"{file}_paper.png": f"{title}, the paper",
        f"{file}_ours.png": f"{title}, ours, scale {scale}",
    }


def json_link(result: Mapping[str, Any]) -> str:
    """The contents of a table's JSON -> the path of that JSON from docs/."""
    return f"../experiments/results/{json_name(result)}"


def title_in_markdown(result: Mapping[str, Any]) -> str:
    """The contents of a table's JSON -> its title, and what all of its numbers share."""
    parts = [f"**Table {table_number(result)}**, scale `{result['scale']}`"]
    if protocol := result["shared_protocol"]:  # Empty if no row has a number.
        parts += [f"{protocol['dataset']} {protocol['split']}", *shared_notes(result)]
    if commits := {s["commit"] for row in result["rows"].values() for s in row.get("seeds", [])}:
        parts.append(f"scored by commit {', '.join(sorted(map(str, commits)))}")
    return f"{', '.join(parts)} ([json]({json_link(result)}))"


def table_in_markdown(result: Mapping[str, Any]) -> list[str]:
    """The contents of a table's JSON -> its title, table, claims and plots in Markdown."""
    return [
        title_in_markdown(result),
        markdown_table(without_empty_columns([columns(result["scale"]), *cells(result)])),
        "\n".join(f"- {claim_line(claim)}" for claim in result["claims"]),
        " ".join(
            f"![{title}](../experiments/results/plots/{file})"
            for file, title in plot_titles(result).items()
        ),
    ]
