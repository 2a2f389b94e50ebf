"""Labels one can look at: class ids -> colours, and images beside what was predicted for them."""

import pathlib
from collections.abc import Sequence

import matplotlib.figure
import matplotlib.patches
import numpy as np

from data.classes import voc_palette


def colour(label: np.ndarray) -> np.ndarray:
    """[H, W] class ids -> [H, W, 3] uint8 in the colours of VOC."""
    return voc_palette()[label]


def side_by_side(
    path: pathlib.Path,
    examples: Sequence[tuple[str, np.ndarray, np.ndarray, np.ndarray]],
    class_names: Sequence[str],
) -> None:
    """Writes a PNG with one line for each (title, image, label, prediction), and a legend."""
    figure = matplotlib.figure.Figure(figsize=(9, 0.6 + 2.4 * len(examples)), layout="constrained")
    axes = figure.subplots(len(examples), 3, squeeze=False)
    present = set()
    for line, (title, image, label, prediction) in zip(axes, examples, strict=True):
        present |= set(np.unique(label)) | set(np.unique(prediction))
        pictures = {title: image, "label": colour(label), "prediction": colour(prediction)}
        for cell, (heading, picture) in zip(line, pictures.items(), strict=True):
            cell.imshow(picture, interpolation="nearest")
            cell.set_title(heading, fontsize=8)
            cell.axis("off")
    patches = [
        matplotlib.patches.Patch(
            color=voc_palette()[i] / 255,
            label=class_names[i] if i < len(class_names) else "ignored",
        )
        for i in sorted(present)
    ]
    figure.legend(handles=patches, loc="outside lower center", ncols=5, fontsize=7)
    beside = path.with_name(f".{path.name}")
    figure.savefig(beside, dpi=110, format="png")
    beside.replace(path)
