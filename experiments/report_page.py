"""report.html: the list of runs, and the paper's tables with our numbers, claims and plots."""

import html
import os
import pathlib
import re
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

from data.pictures import embed_png, write_page
from experiments import base
from experiments.plots import plot_pair
from experiments.result_tables import cells, claim_line, columns, table_number, topic_of
from experiments.run_list import HEADER, Run, page_of

# The words of a table, explained below each.
COLUMN_WORDS = {
    "run": "the folder of the training run. Rows that share one differ in evaluation only.",
    "paper": "the paper's mIoU, in percent.",
    "ours": "our mIoU, in percent: the mean over seeds.",
    "difference": "ours minus the paper's; only at the paper's size and on the whole split.",
    "seeds": "how many training runs there are, which differ in their random numbers.",
    "95% CI (images)": (
        "the interval over images: how far our mIoU would vary if other images had been drawn for "
        "the validation set. 95 of 100 such draws (a bootstrap) lie within it."
    ),
    "95% CI (seeds)": (
        "the interval over seeds: where the mean over many training runs is expected to lie "
        "(Student's t). A single seed has none."
    ),
    "training hours": "summed over seeds, without evaluations; shared: see the row above.",
}
VERDICT_WORDS = {
    "holds": "the interval over images of every difference of the claim is above 0.",
    "does not hold": "that of one difference is below 0.",
    "inconclusive": "neither: more images or seeds are needed, or rows have not been run.",
    "single seed": (
        "both sides are one training run each, so another seed could turn the verdict. With "
        "several seeds, the interval over seeds must agree."
    ),
}


def write_report_page(
    file: pathlib.Path,
    runs: pathlib.Path,
    found: Sequence[Run],
    results: Sequence[Mapping[str, Any]],
    *,
    published: bool,
) -> None:
    """Writes a self-contained page, which links to the runs' own pages.

    Args:
      file: where to write it.
      runs: the folder of all runs.
      found: all runs in it.
      results: the contents of the tables' JSONs, by scale.
      published: whether they are the published ones, and not collected from those runs.
    """
    page_dir = file.parent
    parts = [_runs_in_html(found, page_dir)]
    if published:
        parts.append(
            "<h2>Published results</h2><p>No run here is of a row of the paper's tables, so these "
            "are the results in <code>experiments/results/</code>.</p>"
        )
    for scale in dict.fromkeys(result["scale"] for result in results):
        parts.append(f"<h2>Scale {scale}</h2><p>{html.escape(scale_text(scale))}</p>")
        of_scale = [result for result in results if result["scale"] == scale]
        parts += [_table_in_html(result, runs, page_dir) for result in of_scale]
    title = f"{runs}: {'published results' if published and not found else 'runs and results'}"
    write_page(file, title, "".join(parts))


def scale_text(scale: str) -> str:
    """A key of base.SCALES -> what the scale is, from its config."""
    config = base.get_config(scale)
    size = (
        f"backbone {config.model.backbone}, crops of {config.train_data.crop_size} pixels, batches "
        f"of {config.train_data.batch_size}, {config.steps:,} steps, on {config.train_data.dataset}"
    )
    if scale == "paper":
        return f"The paper's own size. Its base: {size}."
    return (
        f"A scale is a size at which all rows are run. At {scale}, the base has {size}. Its "
        "numbers cannot be compared with the paper's, which only identify the rows."
    )


def _runs_in_html(found, page_dir):
    """Runs -> a table of them that links to their pages."""
    if not found:
        return "<p>There are no runs in this folder yet.</p>"
    rows = []
    for run in found:
        name, *cells_, page = map(html.escape, run.cells())
        link = _link(run.page, page_dir, page) if run.page else page
        rows.append([f"<code>{name}</code>", *cells_, link])
    return (
        f"<h2>Runs</h2>{_table(HEADER, rows)}<p><small>Steps: those taken, of those planned. Last "
        "and best mIoU, in percent: of the evaluations during training, on the evaluation split; "
        "the best one was chosen on that split. Date: of the last step. Page: scores and images of "
        "the last evaluation.</small></p>"
    )


def _table_in_html(result, runs, page_dir):
    """The contents of a table's JSON -> its title, table, claims and plots."""
    head = [column.replace("`", "") for column in columns(result["scale"])]
    rows = []
    for row, (name, *texts) in zip(result["rows"].values(), cells(result), strict=True):
        run = _link_run(runs, base.run_name(row["run"], result["scale"]), page_dir)
        rows.append([html.escape(name), run, *map(html.escape, texts)])
    lines = "".join(f"<li>{html.escape(claim_line(claim))}</li>" for claim in result["claims"])
    claims = re.sub(r"[*]{2}(.*?)[*]{2}", r"<b>\1</b>", lines)  # Bold in Markdown.
    plots = "".join(
        embed_png(png, f"{result['table']}: {title}") for title, png in plot_pair(result).items()
    )
    if plots:
        plots = (
            f"<p>{plots}</p><p><small>Both axes have the same limits. Bars around our numbers: "
            "95% CI (images). Rows that have not been run are left out.</small></p>"
        )
    published = ", ".join(f"{method} {miou}" for method, miou in result["published"].items())
    if published:
        published = f"<p>Other methods, as the paper lists them: {html.escape(published)}.</p>"
    protocol = ", ".join(f"{k} {v}" for k, v in result["shared_protocol"].items())
    return (
        f"<h3>Table {table_number(result)}: {html.escape(topic_of(result['table']))}</h3>"
        + _table([head[0], "run", *head[1:]], rows)
        + (f"<p>What the paper concludes from it:</p><ul>{claims}</ul>" if claims else "")
        + plots
        + published
        + f"<details><summary>What the words mean, and the protocol</summary>{_words()}"
        f"<p><small>Protocol of all rows: {html.escape(protocol)}.</small></p></details>"
    )


def _words():
    """The explanations of columns and verdicts -> HTML."""
    lines = [f"<li><b>{word}</b>: {text}</li>" for word, text in COLUMN_WORDS.items()]
    lines += [f"<li>A claim <b>{word}</b>: {text}</li>" for word, text in VERDICT_WORDS.items()]
    return f"<ul>{''.join(lines)}</ul>"


def _table(head, rows):
    """Texts, and rows of HTML -> an HTML table in a box of its own, which scrolls."""
    names = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{names}</tr>{body}</table></div>'


def _link_run(runs, name, page_dir):
    """The folder of all runs, and a run's name in it -> the name, linked to the run's page."""
    page = page_of(runs / name)
    return _link(page, page_dir, html.escape(name)) if page else html.escape(name)


def _link(page, page_dir, text):
    """A run's page, the folder of the report and HTML -> a relative link."""
    path = pathlib.Path(os.path.relpath(page, page_dir)).as_posix()
    return f'<a href="{urllib.parse.quote(path)}">{text}</a>'
