"""eval.html: scores, confusion, boundaries, and the worst, median and best images."""

import html
import pathlib
from collections.abc import Iterable
from typing import Any

import matplotlib.figure
import numpy as np

from data.classes import IGNORE_LABEL
from data.pictures import embed_image, embed_label, embed_png, figure_png, full_palette, write_page
from data.terminal import interval_text, percent
from evaluation.counts import Counts
from evaluation.metrics import iou_per_class, mean_iou
from evaluation.scores import image_count_text

NUM_SHOWN = 6  # Images of each kind.
ERROR_COLORS = full_palette([[32, 32, 32], [255, 64, 32]])  # Right, wrong; 255 as in labels.

# Shows the figures of a class, or all of them, and hides headings that have none.
FILTER_SCRIPT = """
<p id="none" hidden>None of the images shown here has it.</p>
<script>
document.getElementById("class").onchange = event => {
  const wanted = event.target.value, has = figure => figure.dataset.classes.split("|").includes(wanted);
  for (const section of document.querySelectorAll("section")) {
    for (const figure of section.querySelectorAll("figure")) figure.hidden = wanted && !has(figure);
    section.hidden = !section.querySelector("figure:not([hidden])");
  }
  document.getElementById("none").hidden = document.querySelector("section:not([hidden])");
};
</script>
"""  # noqa: E501


def select_examples(counts: Counts) -> dict[str, list[str]]:
    """The counts of a split -> the ids of images to show, by kind: worst, median, best.

    By each image's mIoU over the classes seen in it; images without a valid pixel are left out.
    """
    each = np.array([mean_iou(confusion) for confusion in counts.confusions])
    order = [counts.ids[i] for i in np.argsort(each, kind="stable") if not np.isnan(each[i])]
    middle = max(0, len(order) // 2 - NUM_SHOWN // 2)
    return {
        "Worst": order[:NUM_SHOWN],
        "Median": order[middle : middle + NUM_SHOWN],
        "Best": order[::-1][:NUM_SHOWN],
    }


def write_gallery(
    file: pathlib.Path,
    result: dict[str, Any],
    counts: Counts,
    shown: Iterable[tuple[dict[str, Any], np.ndarray]],
    palette: np.ndarray,
) -> None:
    """Writes the page, which needs no other file.

    Args:
      file: eval.html.
      result: the content of eval.json.
      counts: behind it.
      shown: (example, [H, W] class ids) of the images that select_examples names, in any order.
      palette: [256, 3], the colors of the ids.
    """
    names = list(result["iou_per_class"])
    confusion = counts.confusions.sum(0)
    figures = {
        example["id"].decode(): _figure(example, prediction, names, palette, counts)
        for example, prediction in shown
    }
    options = "".join(f"<option>{html.escape(name)}</option>" for name in names)
    sections = "".join(
        f"<section><h2>{kind}</h2>{''.join(figures[name] for name in ids)}</section>"
        for kind, ids in select_examples(counts).items()
    )
    protocol = ", ".join(f"{field} {value}" for field, value in result["protocol"].items())
    made_by = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    body = (
        f"<p>Step {result['step']}, {image_count_text(result)}. {made_by}. Protocol: "
        f"{html.escape(protocol)}.</p>"
        + _scores(result, palette)
        + embed_png(_confusion_plot(confusion, names), "row-normalized confusion")
        + embed_png(_trimap_plot(result), "mIoU near boundaries")
        + "<h2>Images</h2><p>Image, label, prediction, errors in red. Show only those with "
        f'<select id="class"><option value="">any class</option>{options}</select></p>'
        + sections
        + FILTER_SCRIPT
    )
    title = f"{result['config']['name']}: mIoU {percent(result['miou'])} %"
    write_page(file, title, body)


def _figure(example, prediction, names, palette, counts):
    """One image as HTML: image, label, prediction, errors, and its mIoU."""
    name, label = example["id"].decode(), example["label"]
    confusion = counts.confusions[counts.ids.index(name)]
    errors = np.where(label == IGNORE_LABEL, IGNORE_LABEL, label != prediction)
    seen = np.flatnonzero(confusion.sum(0) + confusion.sum(1))
    pictures = [
        embed_image(example["image"]),
        embed_label(label, palette),
        embed_label(prediction, palette, "prediction"),
        embed_label(errors, ERROR_COLORS, "errors"),
    ]
    classes = html.escape("|".join(names[k] for k in seen))
    caption = f"{name}: {100 * mean_iou(confusion):.1f} %"
    worst = names[int(np.nanargmin(iou_per_class(confusion)))]
    return (
        f'<figure class="row" data-classes="{classes}">{"".join(pictures)}'
        f"<figcaption>{html.escape(caption)}, lowest: {html.escape(worst)}</figcaption></figure>"
    )


def _scores(result, palette):
    """The classes' scores, and the overall ones, as two HTML tables."""

    def cell(value):
        return f"<td>{percent(value)}</td>"

    rows = [
        f'<tr><td><i style="background: rgb{tuple(palette[i].tolist())}"></i>{html.escape(name)}'
        f"</td>{cell(iou)}{cell(result['boundary_iou_per_class'][name])}</tr>"
        for i, (name, iou) in enumerate(result["iou_per_class"].items())
    ]
    overall = {
        f"mIoU (95% CI over images: {interval_text(result['miou_interval'])})": result["miou"],
        "pixel accuracy": result["pixel_accuracy"],
        "mean accuracy": result["mean_accuracy"],
        "frequency-weighted IoU": result["frequency_weighted_iou"],
        "mean boundary IoU": result["boundary_iou"],
    }
    overall |= {
        f"mIoU within {width} pixels of a boundary": miou
        for width, miou in result["trimap_miou"].items()
    }
    means = [f"<tr><td>{name}</td>{cell(value)}</tr>" for name, value in overall.items()]
    return (
        f"<table><tr><th>overall</th><th>%</th></tr>{''.join(means)}</table><br>"
        "<table><tr><th>class</th><th>IoU %</th><th>boundary IoU %</th></tr>"
        f"{''.join(rows)}</table>"
    )


def _confusion_plot(confusion, names):
    """The confusion matrix, each row divided by its sum -> a PNG."""
    size = 3 + 0.28 * len(names)
    figure = matplotlib.figure.Figure(figsize=(size, size), layout="constrained")
    axes = figure.subplots()
    shares = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    figure.colorbar(axes.imshow(shares, vmin=0, vmax=1, cmap="Blues"), ax=axes, shrink=0.6)
    axes.set(xlabel="prediction", ylabel="label", title="share of the label's pixels")
    names = [name.replace("$", r"\$") for name in names]  # Else it is mathematics.
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    return figure_png(figure)


def _trimap_plot(result):
    """mIoU near boundaries, by how near -> a PNG."""
    figure = matplotlib.figure.Figure(figsize=(5, 4), layout="constrained")
    axes = figure.subplots()
    curve = {int(width): miou for width, miou in result["trimap_miou"].items() if miou is not None}
    axes.plot(list(curve), [100 * miou for miou in curve.values()], marker="o", label="near")
    axes.axhline(100 * result["miou"], linestyle=":", color="grey", label="everywhere")
    axes.set(xlabel="pixels from a boundary, at most", ylabel="mIoU, %", title="near boundaries")
    axes.legend()
    return figure_png(figure)
