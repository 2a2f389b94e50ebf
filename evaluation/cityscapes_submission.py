"""What Cityscapes' evaluation server takes: a zip of gray PNGs, whose values are labelIds."""

import io
import pathlib
import zipfile
from collections.abc import Iterable, Mapping

import numpy as np
from PIL import Image

from data.classes import CITYSCAPES_CLASSES

SUFFIX = ".zip"
LABEL_IDS = np.array(list(CITYSCAPES_CLASSES), np.uint8)  # Of the 19 classes, in our order.


def write_archive(file: pathlib.Path, predictions: Iterable[tuple[str, np.ndarray]]) -> None:
    """(id, [H, W] uint8 class ids) of each image -> a .zip of gray PNGs of labelIds."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, class_ids in predictions:
            png = io.BytesIO()
            Image.fromarray(LABEL_IDS[class_ids]).save(png, "PNG")
            archive.writestr(f"{name}.png", png.getvalue())


def check_archive(file: pathlib.Path, sizes: Mapping[str, tuple[int, int]]) -> None:
    """Raises ValueError for the first thing in a .zip that the server would refuse, or misread."""
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        if sorted(names) != sorted(f"{name}.png" for name in sizes):
            raise ValueError(f"{len(names)} PNGs are not one for each of {len(sizes)} images.")
        for name in names:
            label_ids = np.array(Image.open(io.BytesIO(archive.read(name))))
            if label_ids.shape != tuple(sizes[name.removesuffix(".png")]):
                raise ValueError(f"{name} is of size {label_ids.shape[::-1]}, unlike its image.")
            if not np.isin(label_ids, LABEL_IDS).all():
                raise ValueError(f"{name} holds a value that is not a labelId of a scored class.")
