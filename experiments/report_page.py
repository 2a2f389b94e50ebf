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
from experiments.result_tables import (
    SUMMARY_WORDS,
    cells,
    claim_line,
    columns,
    scales_of,
    shared_notes,
    summary,
    table_number,
    topic_of,
    without_empty_columns,
)
from experiments.run_list import HEADER, Run, page_of

# The words of a table, explained below it.
COLUMN_WORDS = {
    "changed": "what the scale changes of the fields that rows of this table set.",
    "paper": "the paper's mIoU, in percent.",
    "ours": "our mIoU, in percent: the mean over seeds.",
    "difference": "ours minus the paper's; only at the paper's scale and on the whole split.",
    "seeds": "the number of training runs, which differ in their random numbers only.",
    "95% CI (images)": (
        "the interval over images: how far our mIoU depends on which images are in the split. It "
        "covers 95% of a bootstrap, which draws the split's images anew, some several times."
    ),
    "95% CI (seeds)": (
        "the interval over seeds: where the mean of many training runs is expected (Student's t). "
        "A single seed has none."
    ),
    "training hours": "the sum over seeds, without evaluations; shared: counted in a row above.",
    "run": "the folder of the training run. Rows that share one differ in evaluation only.",
    "status": "run, not run, or failed, with the error; and which seeds or images are missing.",
}
PARENTHESES = (
    "after a verdict, the difference of rows that it rests on, in percentage points, its interval "
    "over seeds and images together (95%, if not said otherwise), and the paper's difference. It "
    "is over the seeds that all of its rows have, so it may differ from that of the rows' means. "
    "Of several, it is the one that decides: the clearest against the claim, or the weakest for "
    "it; of an inconclusive claim, the one that would decide it with the fewest seeds or images."
)
CLAIMS_TITLE = "What the paper concludes from it, and whether our numbers support it:"
VERDICT_WORDS = {
    "holds": "the interval of each of its differences is above 0.",
    "does not hold": (
        "the interval of one of them is below 0: for a negative one of m differences, that of "
        "1 - 5% / m, since each may be below 0 by chance."
    ),
    "is inconclusive": (
        "neither is the case. In parentheses, about how many seeds would decide it, if the "
        "differences stay as they are; where none would with these images, how many images it "
        "needs at least, and seeds with any number of them. One seed does not say how seeds differ."
    ),
    "is not run": "some of its rows have not been run.",
}
WORDS = (
    "<details open><summary>What the words mean</summary><ul>"
    + "".join(f"<li><b>{word}</b>: {text}</li>" for word, text in COLUMN_WORDS.items())
    + f"<li><b>in parentheses</b>: {PARENTHESES}</li>"
    + "".join(f"<li>a claim <b>{word}</b>: {text}</li>" for word, text in VERDICT_WORDS.items())
    + "</ul></details>"
)


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
    parts = [_runs_in_html(runs, found, file.parent)] if found else []
    if published:
        parts.append(
            ("<h2>Published results</h2>" if found else "")
            + f"<p>No run in <code>{html.escape(str(runs))}/</code> is of a row of the paper's "
            "tables. These are the results in <code>experiments/results/</code>.</p>"
        )
    if results:
        if found:
            parts.insert(0, '<p><a href="#claims">The paper\'s claims, and its tables</a></p>')
        parts += [_claims_in_html(results), WORDS]
    for scale in scales_of(results):
        parts.append(f'<h2 id="{scale}">Scale {scale}</h2><p>{html.escape(scale_text(scale))}</p>')
        for result in results:
            if result["scale"] == scale:
                parts.append(_table_in_html(result, runs, file.parent))
    write_page(file, f"Report of {runs}" if found else "Published results", "".join(parts))


def scale_text(scale: str) -> str:
    """A key of base.SCALES -> what the scale is, from its config."""
    config = base.get_config(scale)
    size = (
        f"backbone {config.model.backbone}, crops of {config.train_data.crop_size} pixels, batches "
        f"of {config.train_data.batch_size}, {config.steps:,} steps, data set "
        f"{config.train_data.dataset}"
    )
    text = f"A scale is a size at which the paper's rows are run. The base row at this one: {size}."
    if scale == "paper":
        return f"{text} This is the paper's own size."
    return (
        f"{text} Numbers at different scales cannot be compared. The paper's numbers only "
        "identify the rows; no difference from them is shown."
    )


def _runs_in_html(runs, found, page_dir):
    """Runs -> a table of them, whose names link to their pages."""
    rows = []
    for run in found:
        name = f"<code>{html.escape(str(run.folder.relative_to(runs)))}</code>"
        cells_ = dict(zip(HEADER, map(html.escape, run.cells()), strict=True))
        del cells_["run"], cells_["page"]
        rows.append([_link(run.page, page_dir, name) if run.page else name, *cells_.values()])
    head = [name for name in HEADER if name != "page"]
    return (
        f"<h2>Runs</h2>{_table(head, rows)}<p><small>Run: its folder below {html.escape(str(runs))}"
        "; the link leads to the scores and images of its evaluation. Steps: those taken, of those "
        "planned. Last and best mIoU, in percent: of the evaluations during training, so the best "
        "one was chosen on the evaluation split. Date: when its log was last written.</small></p>"
    )


def _claims_in_html(results):
    """The contents of the JSONs -> every claim with its verdict at each scale."""
    head, *rows = summary(results)
    head = [
        f'<a href="#{name}">{name}</a>' if name in scales_of(results) else name for name in head
    ]
    rows = [[html.escape(cell) for cell in row] for row in rows]
    return f'<h2 id="claims">Claims</h2><p>{SUMMARY_WORDS}</p>{_table(head, rows)}'


def _table_in_html(result, runs, page_dir):
    """The contents of a table's JSON -> its title, table, claims and plots."""
    head = [column.replace("`", "") for column in columns(result["scale"])]
    rows = []
    for row, (name, *texts) in zip(result["rows"].values(), cells(result), strict=True):
        run = _link_run(runs, base.run_name(row["run"], result["scale"]), page_dir)
        *texts, status = map(html.escape, texts)
        rows.append([html.escape(name), *texts, run, status])
    head = [*head[:-1], "run", head[-1]]
    head, *rows = without_empty_columns([head, *rows])
    notes = shared_notes(result)
    lines = "".join(f"<li>{html.escape(claim_line(claim))}</li>" for claim in result["claims"])
    claims = re.sub(r"[*]{2}(.*?)[*]{2}", r"<b>\1</b>", lines)  # Bold in Markdown.
    plots = "".join(embed_png(png, title) for title, png in plot_pair(result).items())
    if plots:
        plots = (
            f"<p>{plots}</p><p><small>Both axes have the same limits. Bars around our numbers: the "
            "95% intervals over images and over seeds, together; paler dots: the seeds. Rows that "
            "have not been run are left out.</small></p>"
        )
    published = ", ".join(f"{method} {miou}" for method, miou in result["published"].items())
    if published:
        published = f"<p>Other methods, as the paper lists them: {html.escape(published)}.</p>"
    return (
        f"<h3>Table {table_number(result)}: {html.escape(topic_of(result['table']))}</h3>"
        + (f"<p>All rows with a number: {html.escape('; '.join(notes))}.</p>" if notes else "")
        + _table(head, rows)
        + (f"<p>{CLAIMS_TITLE}</p><ul>{claims}</ul>" if claims else "")
        + plots
        + published
        + _protocol(result)
    )


def _protocol(result):
    """The contents of a table's JSON -> what all its rows share, folded away."""
    protocol = ", ".join(f"{k} {v}" for k, v in result["shared_protocol"].items())
    return f"<details><summary>Protocol</summary><p>{html.escape(protocol)}</p></details>"


def _table(head, rows):
    """Texts, and rows of HTML -> an HTML table, which scrolls in its own box if it is wide."""
    names = "".join(f"<th>{name}</th>" for name in head)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<table class="numbers"><tr>{names}</tr>{body}</table>'


def _link_run(runs, name, page_dir):
    """The folder of all runs, and a run's name in it -> the name, linked to the run's page."""
    page = page_of(runs / name)
    return _link(page, page_dir, html.escape(name)) if page else html.escape(name)


def _link(page, page_dir, text):
    """A run's page, the folder of the report and HTML -> a relative link."""
    path = pathlib.Path(os.path.relpath(page, page_dir)).as_posix()
    return f'<a href="{urllib.parse.quote(path)}">{text}</a>'
