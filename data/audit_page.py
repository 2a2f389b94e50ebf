"""audit.html: samples of each class, and what an audit found with the images that it concerns."""

import html
import io
import pathlib
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from data.drawing import draw_outlines
from data.pictures import (
    MAX_THUMBNAIL_SIZE,
    embed_image,
    embed_label,
    full_palette,
    write_page,
)
from data.pipeline import READ_CONFIG, SKIP_DECODING
from data.sbd_agreement import find_both_labels, read_both_labels
from data.terminal import percent

MAX_CASES_SHOWN = 12  # Of each kind; audit.json lists them all.

STYLE = """
<style>
.samples { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 1rem }
@media (max-width: 40rem) { .samples { grid-template-columns: minmax(0, 1fr) } }
.samples figure { margin: 0 }
.samples img { width: 100%; height: auto; max-height: 20rem; object-position: left }
.samples span { white-space: nowrap; margin-right: 1em }
i { outline: 1px solid #888 }
</style>
"""

Examples = dict[str, tuple[np.ndarray, np.ndarray]]  # By id: the image and its label.


def write_audit_page(
    file: pathlib.Path,
    builder: tfds.core.DatasetBuilder,
    result: dict[str, Any],
    summary: str,
    manual_dir: pathlib.Path | None,
) -> None:
    """Writes audit.html.

    Args:
      file: where to write it.
      builder: the data set that was audited.
      result: content of audit.json.
      summary: the table that was printed.
      manual_dir: VOC's originals, if SBD's labels were compared to VOC's.
    """
    body = STYLE + f"<pre>{html.escape(summary)}</pre>" + _render_classes(builder, result)
    body += _render_samples(builder, result) + _render_cases(builder, result, manual_dir)
    write_page(file, f"Audit of {builder.info.full_name}", body)


def _render_classes(builder, result):
    """Content of audit.json -> an HTML table: each class's share of pixels, and its images."""
    names = builder.info.metadata["class_names"]
    palette = full_palette(builder.info.metadata["palette"])
    head = "".join(f"<th>{html.escape(split)}</th>" for split in result["splits"])
    rows = []
    for i, name in enumerate(names):
        cells = []
        for facts in result["splits"].values():
            share = percent(facts["pixels"][i] / max(1, sum(facts["pixels"])))
            cells.append(f"<td>{share} % <small>{facts['images_with'][i]} images</small></td>")
        rows.append(f"<tr><th>{_swatch(palette[i])}{html.escape(name)}</th>{''.join(cells)}</tr>")
    return f"<table><tr><th>class</th>{head}</tr>{''.join(rows)}</table>"


def _swatch(color):
    """[3] uint8 -> a square of that color, as HTML."""
    return f'<i style="background:#{bytes(color).hex()}"></i>'


def _render_samples(builder, result):
    """Content of audit.json -> HTML with images of each class, from the first split that has it."""
    names = builder.info.metadata["class_names"]
    palette = full_palette(builder.info.metadata["palette"])
    samples = [
        next(filter(None, (facts["samples"][k] for facts in result["splits"].values())), [])
        for k in range(len(names))
    ]
    examples = _read_examples(builder, {name for ids in samples for name in ids})
    sections = [
        "<h2>Samples of each class</h2><p>The images that the class covers most. It is tinted in "
        "its color; outlines show all classes. Below are the classes of each image.</p>"
    ]
    for k, ids in enumerate(samples):
        figures = [_render_sample(name, *examples[name], k, names, palette) for name in ids]
        sections.append(
            f"<h3>{_swatch(palette[k])}{html.escape(names[k])}</h3>"
            + (f'<div class="samples">{"".join(figures)}</div>' if ids else "<p>No image.</p>")
        )
    return "".join(sections)


def _render_sample(name, image, label, class_id, names, palette):
    """One image of a class -> HTML: the image with its label, and the classes in it."""
    thumbnail = Image.fromarray(image)
    thumbnail.thumbnail(MAX_THUMBNAIL_SIZE)
    pixels = np.array(thumbnail)
    ids = np.array(Image.fromarray(label).resize(thumbnail.size, Image.Resampling.NEAREST))
    pixels[ids == class_id] = pixels[ids == class_id] // 2 + palette[class_id] // 2
    present = [k for k in np.unique(label) if k < len(names)]
    legend = "".join(f"<span>{_swatch(palette[k])}{html.escape(names[k])}</span> " for k in present)
    drawn = embed_image(draw_outlines(pixels, ids), f"{names[class_id]} in {name}")
    return f"<figure>{drawn}<figcaption>{legend}<br>{html.escape(name)}</figcaption></figure>"


def _render_cases(builder, result, manual_dir):
    """Content of audit.json -> HTML with the images of its worst cases."""
    palette = full_palette(builder.info.metadata["palette"])
    cases = _select_cases(result)
    least = (result["sbd_against_voc"] or {"least": []})["least"]
    needed = {name for groups in cases.values() for group in groups for name in group}
    examples = _read_examples(builder, needed | {name for name, _ in least})
    sections = []
    for title, groups in cases.items():
        rows = [
            "".join(
                f"<figure>{embed_image(image)}{embed_label(label, palette)}"
                f"<figcaption>{html.escape(name)}</figcaption></figure>"
                for name, (image, label) in ((name, examples[name]) for name in group)
            )
            for group in groups
        ]
        if rows:
            sections.append(f"<h2>{html.escape(title)}</h2>" + "<br>".join(rows))
    if least:
        sections.append(_render_least_agreement(least, examples, palette, manual_dir))
    return "".join(sections)


def _select_cases(result):
    """Content of audit.json -> by title, the groups of ids that are shown side by side."""
    cases: dict[str, list[tuple[str, ...]]] = {}
    for split, facts in result["splits"].items():
        for kind in ("all_ignored", "out_of_range", "size_mismatch"):
            # If all are ignored, the split's labels are not published.
            if kind != "all_ignored" or len(facts[kind]) < facts["images"]:
                names = [*facts[kind]][:MAX_CASES_SHOWN]
                cases[f"{split}: {kind.replace('_', ' ')}"] = [(name,) for name in names]
    for pair, found in result["shared"].items():
        near = found["near"][:MAX_CASES_SHOWN]
        cases[f"{pair}: similar images"] = [(one, other) for one, other, _ in near]
    return cases


def _render_least_agreement(least, examples, palette, manual_dir):
    """(id, share of pixels that agree) of each image -> HTML with both of its labels."""
    own, sbd = find_both_labels(manual_dir)
    figures = []
    for name, share in least:
        labels = [embed_label(label, palette) for label in read_both_labels(name, own, sbd)]
        image = embed_image(examples[name][0]) if name in examples else ""
        caption = f"<figcaption>{html.escape(name)}: {100 * share:.1f} %</figcaption>"
        figures.append(f"<figure>{image}{''.join(labels)}{caption}</figure>")
    return "<h2>Least agreement: image, VOC's label, SBD's label</h2>" + "".join(figures)


def _read_examples(builder: tfds.core.DatasetBuilder, names: set[str]) -> Examples:
    """Ids -> their images and labels, from the first split that has them."""
    found: Examples = {}
    for split in builder.info.splits:
        dataset = builder.as_dataset(split=split, decoders=SKIP_DECODING, read_config=READ_CONFIG)
        for encoded in dataset.as_numpy_iterator():
            if len(found) == len(names):
                return found
            name = encoded["id"].decode()
            if name in names and name not in found:
                found[name] = tuple(
                    np.array(Image.open(io.BytesIO(encoded[part]))) for part in ("image", "label")
                )
    return found
