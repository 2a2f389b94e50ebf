"""What VOC's evaluation server takes: a tar of palette PNGs, and nothing it would refuse."""

import io
import pathlib
import tarfile
from collections.abc import Iterable, Mapping

import numpy as np
from PIL import Image

from data.classes import VOC_CLASS_NAMES, voc_palette
from data.pictures import mask_png

SUFFIX = ".tgz"
# comp6: segmentation, with training data beyond VOC's own, as ImageNet's weights are.
FOLDER = "results/VOC2012/Segmentation/comp6_test_cls"


def write_archive(file: pathlib.Path, predictions: Iterable[tuple[str, np.ndarray]]) -> None:
    """(id, [H, W] uint8 class ids) of each image -> a .tgz of palette PNGs."""
    with tarfile.open(file, "w:gz") as tar:
        for name, class_ids in predictions:
            png = mask_png(class_ids, voc_palette())
            member = tarfile.TarInfo(f"{FOLDER}/{name}.png")
            member.size = len(png)
            tar.addfile(member, io.BytesIO(png))


def check_archive(file: pathlib.Path, sizes: Mapping[str, tuple[int, int]]) -> None:
    """Raises ValueError for the first thing in a .tgz that the server would refuse, or misread."""
    palette, missing = voc_palette().ravel().tolist(), set(sizes)
    with tarfile.open(file) as tar:
        for member in tar:
            path = pathlib.PurePosixPath(member.name)
            if str(path.parent) != FOLDER or path.suffix != ".png" or path.stem not in missing:
                raise ValueError(f"{member.name} does not belong there, or occurs twice.")
            missing.remove(path.stem)
            with Image.open(tar.extractfile(member)) as picture:
                if picture.mode != "P" or picture.getpalette() != palette:
                    raise ValueError(f"{member.name} does not have VOC's palette.")
                if picture.size[::-1] != tuple(sizes[path.stem]):
                    raise ValueError(
                        f"{member.name} is of size {picture.size}, not {sizes[path.stem][::-1]}."
                    )
                if np.max(picture) >= len(VOC_CLASS_NAMES):
                    raise ValueError(
                        f"{member.name} holds {np.max(picture)}, which is not a class."
                    )
    if missing:
        raise ValueError(f"{len(missing)} images are missing: {', '.join(sorted(missing)[:5])}.")
