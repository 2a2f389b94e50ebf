"""audit.html: what an audit found, with images."""

import html
import io
import pathlib
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from data.pictures import inline, inline_ids, whole_palette
from data.pipeline import ENCODED, READ
from data.sbd_agreement import WORST, labels_of_both, read_both


def pictures(
    builder: tfds.core.DatasetBuilder, result: dict[str, Any], manual_dir: pathlib.Path | None
) -> str:
    """The worst cases of what audit found -> HTML, pictures and all."""
    palette = whole_palette(builder.info.metadata["palette"])
    wanted: dict[str, list[tuple[str, ...]]] = {}
    for split, facts in result["splits"].items():
        for kind in ("all_ignored", "out_of_range", "size_mismatch"):
            if kind != "all_ignored" or len(facts[kind]) < facts["images"]:
                cases = [(name,) for name in [*facts[kind]][:WORST]]
                wanted[f"{split}: {kind.replace('_', ' ')}"] = cases
    for pair, found in result["shared"].items():
        wanted[f"{pair}: like photos"] = [(one, other) for one, other, _ in found["near"][:WORST]]
    needed = {name for cases in wanted.values() for case in cases for name in case}
    against = result["sbd_against_voc"] or {"least": []}
    needed |= {name for name, _ in against["least"]}
    shown = dict(_decoded(builder, needed))
    sections = []
    for title, cases in wanted.items():
        rows = [
            "".join(
                f"<figure>{inline(shown[name][0])}{inline_ids(shown[name][1], palette)}"
                f"<figcaption>{html.escape(name)}</figcaption></figure>"
                for name in case
            )
            for case in cases
        ]
        if rows:
            sections.append(f"<h2>{html.escape(title)}</h2>" + "<br>".join(rows))
    if against["least"]:
        own, sbd = labels_of_both(manual_dir)
        sections.append("<h2>Least agreement: photo, VOC's label, SBD's label</h2>")
        for name, share in against["least"]:
            labels = "".join(inline_ids(label, palette) for label in read_both(name, own, sbd))
            photo = inline(shown[name][0]) if name in shown else ""
            caption = f"<figcaption>{html.escape(name)}: {100 * share:.1f} %</figcaption>"
            sections.append(f"<figure>{photo}{labels}{caption}</figure>")
    return "".join(sections)


def _decoded(builder, names):
    """(id, (image, label)) of those ids, from whichever split has them."""
    left = set(names)
    for split in builder.info.splits:
        examples = builder.as_dataset(split=split, decoders=ENCODED, read_config=READ)
        for encoded in examples.as_numpy_iterator():
            if not left:
                return
            if (name := encoded["id"].decode()) in left:
                left.remove(name)
                parts = (Image.open(io.BytesIO(encoded[part])) for part in ("image", "label"))
                yield name, tuple(np.array(part) for part in parts)


def histogram(builder: tfds.core.DatasetBuilder, result: dict[str, Any]) -> str:
    """What audit found -> an HTML table of each class's share of the pixels, and images with it."""
    names = builder.info.metadata["class_names"]
    palette = whole_palette(builder.info.metadata["palette"])
    head = "".join(f"<th>{html.escape(split)}</th>" for split in result["splits"])
    rows = []
    for i, name in enumerate(names):
        cells = []
        for facts in result["splits"].values():
            share = 100 * facts["pixels"][i] / max(1, sum(facts["pixels"]))
            cells.append(f"<td>{share:.2f} % <small>{facts['images_with'][i]} images</small></td>")
        colour = "#" + bytes(palette[i]).hex()
        swatch = f'<i style="background:{colour}"></i>'
        rows.append(f"<tr><th>{swatch}{html.escape(name)}</th>{''.join(cells)}</tr>")
    return f"<table><tr><th>class</th>{head}</tr>{''.join(rows)}</table>"
