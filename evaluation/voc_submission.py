"""What VOC's evaluation server takes: a tar of palette PNGs, and nothing it would refuse."""

import io
import pathlib
import tarfile
from collections.abc import Iterable, Mapping

import numpy as np
from PIL import Image

from data.classes import VOC_CLASS_NAMES, voc_palette
from data.files import beside
from data.pictures import mask_png

# comp6: segmentation, with training data beyond VOC's own, as ImageNet's weights are.
FOLDER = "results/VOC2012/Segmentation/comp6_test_cls"


def write_submission(
    file: pathlib.Path,
    predictions: Iterable[tuple[str, np.ndarray]],
    sizes: Mapping[str, tuple[int, int]],
) -> None:
    """(id, [H, W] uint8 class ids) of each image -> a .tgz for the server, once it is validated.

    sizes: height and width of all images that must be there, by id. Written beside the file, then
    renamed. Raises ValueError, and leaves the file as it was, where check_submission does.
    """
    with beside(file) as new:
        with tarfile.open(new, "w:gz") as tar:
            for name, class_ids in predictions:
                png = mask_png(class_ids, voc_palette())
                member = tarfile.TarInfo(f"{FOLDER}/{name}.png")
                member.size = len(png)
                tar.addfile(member, io.BytesIO(png))
        check_submission(new, sizes)


def check_submission(file: pathlib.Path, sizes: Mapping[str, tuple[int, int]]) -> None:
    """Raises ValueError for the first thing in a .tgz that the server would refuse, or misread."""
    palette, missing = voc_palette().ravel().tolist(), set(sizes)
    with tarfile.open(file) as tar:
        for member in tar:
            path = pathlib.PurePosixPath(member.name)
            if str(path.parent) != FOLDER or path.suffix != ".png" or path.stem not in missing:
                raise ValueError(f"{member.name} does not belong there, or is there twice.")
            missing.remove(path.stem)
            with Image.open(tar.extractfile(member)) as picture:
                if picture.mode != "P" or picture.getpalette() != palette:
                    raise ValueError(f"{member.name} has not VOC's palette.")
                if picture.size[::-1] != tuple(sizes[path.stem]):
                    raise ValueError(
                        f"{member.name} is of size {picture.size}, not {sizes[path.stem][::-1]}."
                    )
                if np.max(picture) >= len(VOC_CLASS_NAMES):
                    raise ValueError(f"{member.name} holds {np.max(picture)}, which is no class.")
    if missing:
        raise ValueError(f"{len(missing)} images are not there: {', '.join(sorted(missing)[:5])}.")
