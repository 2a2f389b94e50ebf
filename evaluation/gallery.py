"""eval.html: mIoU, worst, typical and best images, classes and confusion, boundaries, protocol."""

import html
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import matplotlib.figure
import numpy as np

from data.classes import IGNORE_LABEL
from data.drawing import ERROR_COLOR, comparison_panels
from data.pictures import embed_image, embed_png, figure_png, image_png, swatch, write_page
from data.terminal import interval_text, percent
from evaluation.boundary import BAND_WIDTH
from evaluation.counts import Counts
from evaluation.metrics import iou_per_class, mean_iou
from evaluation.scores import image_count_text

NUM_SHOWN = 6  # Images of each kind.
KINDS = {
    "Worst": "The images with the lowest mIoU.",
    "Typical": "The images whose mIoU is nearest the median of all images.",
    "Best": "The images with the highest mIoU, the best one first.",
}
MIN_SHARE = 0.005  # Of a label's pixels; smaller ones are an empty cell of the confusion matrix.

STYLE = """
<style>
h1 { font-size: clamp(1.4rem, 5vw, 2.4rem); line-height: 1.2; margin-bottom: .5rem;
  overflow-wrap: anywhere }
h2 { margin: 2.5rem 0 .5rem }
.lead { font-size: 1.15rem; margin: 0 0 1rem }
.note { color: #555; max-width: 46rem }
.row div span { color: #555; font-size: .85rem }
.row img { display: block; background: #eee }
.row figcaption { color: inherit }
.chip { white-space: nowrap; margin-right: 1em; font-size: .85rem }
i { outline: 1px solid #888 }
.columns { display: grid; grid-template-columns: auto minmax(0, 1fr); gap: 0 3rem }
.columns img + .note { width: 0; min-width: 100% }
@media (max-width: 60rem) { .columns { grid-template-columns: minmax(0, 1fr) } }
td + td, th + th { text-align: right }
td.word { text-align: left; color: #555 }
.matrix { font-size: .75rem; line-height: 1.4 }
.matrix th { font-weight: normal; border: 0; padding: 0 .4rem; white-space: nowrap }
.matrix th:first-child { position: sticky; left: 0; background: white; text-align: right }
.matrix tr:first-child th + th { writing-mode: vertical-rl; text-align: left; padding: .4rem 0;
  text-orientation: sideways; transform: rotate(180deg) }
.matrix td { min-width: 1.7rem; padding: 0; text-align: center; border: 1px solid #eee;
  background: rgb(8 81 156 / var(--share, 0)) }
.matrix .dark { color: white }
summary { cursor: pointer; font-size: 1.2rem; margin-top: 2rem }
details td { text-align: left; white-space: nowrap }
details td + td { overflow-wrap: anywhere; white-space: normal }
</style>
"""

# Shows the figures of a class, or all of them, and hides headings that have none.
FILTER_SCRIPT = """
<p id="none" hidden>None of the images shown here has it.</p>
<script>
document.getElementById("class").onchange = event => {
  const wanted = event.target.value, has = figure => figure.dataset.classes.split(" ").includes(wanted);
  for (const section of document.querySelectorAll("section")) {
    for (const figure of section.querySelectorAll("figure")) figure.hidden = wanted && !has(figure);
    section.hidden = !section.querySelector("figure:not([hidden])");
  }
  document.getElementById("none").hidden = document.querySelector("section:not([hidden])");
};
</script>
"""  # noqa: E501


def select_examples(counts: Counts) -> dict[str, list[str]]:
    """The counts of a split -> the ids of images to show, by kind: worst, typical, best.

    By each image's mIoU over the classes of its label; images without a valid pixel are left out.
    No image is in two kinds. A small split is divided into the three.
    """
    each = np.array([mean_iou(confusion) for confusion in counts.confusions])
    order = [counts.ids[i] for i in np.argsort(each, kind="stable") if not np.isnan(each[i])]
    if len(order) <= 3 * NUM_SHOWN:
        worst, typical, best = (list(part) for part in np.array_split(order, 3))
    else:
        middle = len(order) // 2 - NUM_SHOWN // 2
        worst, typical = order[:NUM_SHOWN], order[middle : middle + NUM_SHOWN]
        best = order[-NUM_SHOWN:]
    return dict(zip(KINDS, (worst, typical, best[::-1]), strict=True))


def write_gallery(
    file: pathlib.Path,
    result: Mapping[str, Any],
    counts: Counts,
    shown: Iterable[tuple[dict[str, Any], np.ndarray]],
    palette: np.ndarray,
) -> None:
    """Writes the page, which needs no other file.

    Args:
      file: eval.html; its title is the folder that it is in.
      result: the content of eval.json.
      counts: behind it.
      shown: (example, [H, W] class ids) of the images that select_examples names, in any order.
      palette: [256, 3], the colors of the ids.
    """
    names = list(result["iou_per_class"])
    figures = {
        example["id"].decode(): _figure(example, prediction, names, palette, counts)
        for example, prediction in shown
    }
    body = (
        STYLE
        + _lead(result)
        + _images(figures, select_examples(counts), names, palette)
        + '<div class="columns">'
        + f"<div><h2>Classes</h2>{_class_table(result, palette)}</div>"
        + f"<div><h2>Confusion</h2>{_confusion_table(counts.confusions.sum(0), names)}</div>"
        + '</div><div class="columns">'
        + f"<div><h2>Near boundaries</h2>{_boundary_curve(result)}</div>"
        + f"<div><h2>Other scores</h2>{_score_table(result)}</div></div>"
        + _protocol(result)
    )
    write_page(file, f"{file.parent}: mIoU {percent(result['miou'])} %", body)


def _lead(result):
    """What was scored and how sure the mean is, as HTML, with what the words mean."""
    protocol = result["protocol"]
    scales = ", ".join(f"{scale:g}" for scale in protocol["scales"])
    facts = (
        f"95% interval {interval_text(result['miou_interval'])}, "
        f"{image_count_text(result)} of {protocol['dataset']}, {protocol['split']}"
    )
    inference = (
        f"Checkpoint {result['checkpoint']}, step {result['step']}, "
        f"output stride {protocol['output_stride']}, scales {scales}, "
        f"{'flip' if protocol['flip'] else 'no flip'}."
    )
    return (
        f'<p class="lead">{html.escape(facts)}.<br>{html.escape(inference)}</p>'
        '<p class="note">The IoU (intersection over union) of a class is the number of pixels that '
        "both the label and the prediction give to it, divided by the number that either gives to "
        "it. mIoU is the mean over the classes that the labels have. The interval says how far "
        "mIoU depends on which images were scored: they were resampled 1000 times. It does not "
        "say what training with another seed would give.</p>"
    )


def _images(figures, kinds, names, palette):
    """Figures by id, and ids by kind -> the part of the page that shows images, as HTML."""
    options = "".join(
        f'<option value="{k}">{html.escape(name)}</option>' for k, name in enumerate(names)
    )
    sections = "".join(
        f'<section><h2>{kind}</h2><p class="note">{KINDS[kind]}</p>'
        f"{''.join(figures[name] for name in ids)}</section>"
        for kind, ids in kinds.items()
        if ids
    )
    return (
        f"<p>In the errors: {swatch(ERROR_COLOR)}wrong &ensp; "
        f"{swatch(palette[IGNORE_LABEL])}not scored; what is right is dark gray. Regions are "
        "outlined in white inside and black outside. Below each image: its mIoU, and the IoU of "
        'each class in it.</p><p>Show only images with <select id="class"><option value="">any '
        f"class</option>{options}</select></p>{sections}{FILTER_SCRIPT}"
    )


def _figure(example, prediction, names, palette, counts):
    """One image as HTML: image, label, prediction and errors, its mIoU, and its classes."""
    name = example["id"].decode()
    confusion = counts.confusions[counts.ids.index(name)]
    panels = comparison_panels(example["image"], example["label"], prediction, palette)
    # Photos are JPEGs; flat colors are smaller and sharper as PNGs.
    pictures = "".join(
        f"<div><span>{title}</span>"
        + (
            embed_image(panel, f"{title} of {name}")
            if title in ("image", "errors")
            else embed_png(image_png(panel), f"{title} of {name}")
        )
        + "</div>"
        for title, panel in panels.items()
    )
    ious = iou_per_class(confusion)
    seen = np.flatnonzero(confusion.sum(0) + confusion.sum(1))
    chips = "".join(
        f'<span class="chip">{swatch(palette[k])}{html.escape(names[k])} '
        f"{'predicted only' if np.isnan(ious[k]) else percent(ious[k])}</span>"
        for k in seen
    )
    classes = " ".join(map(str, seen))
    return (
        f'<figure class="row" data-classes="{classes}">{pictures}<figcaption>'
        f"{html.escape(name)}: mIoU {percent(mean_iou(confusion))} % &emsp; {chips}"
        "</figcaption></figure>"
    )


def _class_table(result, palette):
    """The classes' scores as an HTML table."""
    rows = "".join(
        f"<tr><td>{swatch(palette[i])}{html.escape(name)}</td><td>{percent(iou)}</td>"
        f"<td>{percent(result['boundary_iou_per_class'][name])}</td></tr>"
        for i, (name, iou) in enumerate(result["iou_per_class"].items())
    )
    absent = '<p class="note">-: no label has the class.</p>'
    return (
        f"<table><tr><th>class</th><th>IoU %</th><th>boundary IoU %</th></tr>{rows}</table>"
        f"{absent if None in result['iou_per_class'].values() else ''}"
    )


def _confusion_table(confusion, names):
    """The confusion matrix as an HTML table, in percent of the label's pixels."""
    shares = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    rows = "".join(
        f"<tr><th>{html.escape(name)}</th>{''.join(map(_confusion_cell, row))}</tr>"
        for name, row in zip(names, shares, strict=True)
    )
    return (
        '<p class="note">Each row: of the pixels with this label, the percentage that was '
        "predicted as the class of the column. The diagonal is right. Less than "
        f"{100 * MIN_SHARE:g} % is left empty.</p>"
        f'<table class="matrix"><tr><th>label &#92; prediction</th>{head}</tr>{rows}</table>'
    )


def _confusion_cell(share):
    """A fraction -> a cell, the darker the larger."""
    if share < MIN_SHARE:
        return "<td></td>"
    dark = ' class="dark"' if share > 0.5 else ""
    return f'<td{dark} style="--share: {share:.2f}">{100 * share:.0f}</td>'


def _score_table(result):
    """The scores beside mIoU as an HTML table, with what each means."""
    scores = {
        "pixel accuracy": ("pixel_accuracy", "pixels whose class is right"),
        "mean accuracy": ("mean_accuracy", "the same in each class, mean over the classes"),
        "frequency-weighted IoU": (
            "frequency_weighted_iou",
            "mean of the classes' IoU, weighted by their pixels",
        ),
        "mean boundary IoU": (
            "boundary_iou",
            f"IoU of the bands along the edges of the regions, {100 * BAND_WIDTH:g} % of the "
            "image's diagonal wide",
        ),
    }
    rows = "".join(
        f'<tr><td>{name}</td><td>{percent(result[field])}</td><td class="word">{words}</td></tr>'
        for name, (field, words) in scores.items()
    )
    return f'<table><tr><th>score</th><th>%</th><th class="word"></th></tr>{rows}</table>'


def _boundary_curve(result):
    """mIoU of the pixels near boundaries, by how near they are, as an HTML image."""
    figure = matplotlib.figure.Figure(figsize=(5, 3.6), layout="constrained")
    axes = figure.subplots()
    curve = {int(width): miou for width, miou in result["trimap_miou"].items() if miou is not None}
    axes.plot(list(curve), [100 * miou for miou in curve.values()], marker="o", label="near")
    axes.axhline(100 * result["miou"], linestyle=":", color="grey", label="all pixels")
    axes.set(xlabel="distance from a boundary, pixels (at most)", ylabel="mIoU, %")
    axes.set_ylim(bottom=0)
    axes.legend(loc="lower right")
    return (
        embed_png(figure_png(figure), "mIoU near boundaries")
        + '<p class="note">mIoU over the pixels near a boundary between two classes of the label. '
        "A curve that rises steeply says that most errors are along the edges.</p>"
    )


def _protocol(result):
    """All that comparable numbers must share, and what made this one, as HTML, folded away."""
    facts = {
        **result["protocol"],
        **{f"version of {name}": version for name, version in result["versions"].items()},
        "commit": result["commit"],
    }
    facts["scales"] = ", ".join(map(str, facts["scales"]))
    rows = "".join(
        f"<tr><td>{html.escape(field)}</td><td>{html.escape(str(value))}</td></tr>"
        for field, value in facts.items()
    )
    return (
        "<details><summary>Protocol</summary>"
        '<p class="note">Two numbers are comparable if they have the same hash: it covers the '
        f"images, their labels and how they were scored.</p><table>{rows}</table></details>"
    )
