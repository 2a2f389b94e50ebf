"""TFDS builder: PASCAL VOC 2012 segmentation with SBD's labels, from a VOCdevkit folder.

The folder is the one that VOC's own archive unpacks to. To train on the paper's trainaug it also
needs `VOC2012/SegmentationClassAug`, SBD's labels as palette or grey PNGs, and the list
`ImageSets/Segmentation/trainaug.txt` (also found as `train_aug.txt`).
"""

import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from data.classes import IGNORE_LABEL, VOC_CLASS_NAMES
from data.features import segmentation_info

# Where a split's ids are listed, and the folders that may have a label, the first one first: where
# an image has both, VOC's own label wins, which is the finer one.
SPLITS = {
    "train": (("train.txt",), ("SegmentationClass",)),
    "val": (("val.txt",), ("SegmentationClass",)),
    "trainval": (("trainval.txt",), ("SegmentationClass",)),
    "trainaug": (
        ("trainaug.txt", "train_aug.txt"),
        ("SegmentationClass", "SegmentationClassAug"),
    ),
}


class Voc2012(tfds.core.GeneratorBasedBuilder):
    """VOC 2012 images with class ids 0..20 and 255; splits train, val, trainval, trainaug."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Name the VOCdevkit folder, which holds VOC2012/JPEGImages, VOC2012/SegmentationClass and "
        "VOC2012/ImageSets/Segmentation."
    )

    def _info(self) -> tfds.core.DatasetInfo:
        return segmentation_info(self, VOC_CLASS_NAMES, __doc__)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        voc = find_voc2012(pathlib.Path(dl_manager.manual_dir))
        lists = voc / "ImageSets" / "Segmentation"
        splits = {}
        for split, (list_names, label_folders) in SPLITS.items():
            for list_name in list_names:
                if (lists / list_name).exists():
                    folders = [voc / folder for folder in label_folders]
                    splits[split] = self._generate_examples(voc, lists / list_name, folders)
                    break
        if not splits:
            raise FileNotFoundError(f"No train.txt or val.txt in {lists}.")
        return splits

    def _generate_examples(
        self, voc: pathlib.Path, list_file: pathlib.Path, label_folders: list[pathlib.Path]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for name in list_file.read_text().split():
            image_file = voc / "JPEGImages" / f"{name}.jpg"
            label_file = find_label(name, label_folders)
            yield name, {**read_example(image_file, label_file), "id": name}


def find_voc2012(folder: pathlib.Path) -> pathlib.Path:
    """The folder that was named, VOCdevkit or VOC2012 itself -> VOC2012.

    Raises FileNotFoundError where neither is one.
    """
    for voc in (folder / "VOC2012", folder):
        if (voc / "JPEGImages").is_dir() and (voc / "ImageSets" / "Segmentation").is_dir():
            return voc
    raise FileNotFoundError(
        f"{folder} is no VOCdevkit: it should hold VOC2012/JPEGImages and "
        "VOC2012/ImageSets/Segmentation."
    )


def find_label(name: str, folders: list[pathlib.Path]) -> pathlib.Path:
    """An image's id -> its label in the first folder that has one; else FileNotFoundError."""
    for folder in folders:
        if (folder / f"{name}.png").exists():
            return folder / f"{name}.png"
    raise FileNotFoundError(f"No label {name}.png in {' or '.join(map(str, folders))}.")


def read_example(image_file: pathlib.Path, label_file: pathlib.Path) -> dict[str, Any]:
    """A JPEG and its label's PNG -> {image: the JPEG as it is, label: [H, W, 1] uint8 class ids}.

    Raises FileNotFoundError or ValueError, which name the file, where one is missing, cannot be
    read, is no palette or grey PNG, differs in size, or holds an id that is no class.
    """
    with _open(image_file) as image:
        size = image.size
    with _open(label_file) as picture:
        if picture.mode not in ("P", "L"):
            raise ValueError(
                f"{label_file} is a PNG of mode {picture.mode}; labels are palette or 8-bit grey "
                "PNGs, whose values are the class ids."
            )
        if picture.size != size:
            raise ValueError(
                f"{label_file} has {picture.size[0]} x {picture.size[1]} pixels, but {image_file} "
                f"has {size[0]} x {size[1]}."
            )
        label = np.array(picture)  # Of a palette PNG, the indices.
    wrong = np.setdiff1d(label, [*range(len(VOC_CLASS_NAMES)), IGNORE_LABEL])
    if wrong.size:
        raise ValueError(
            f"{label_file} holds the ids {wrong.tolist()}; classes are 0 to "
            f"{len(VOC_CLASS_NAMES) - 1}, and {IGNORE_LABEL} is ignored."
        )
    return {"image": image_file, "label": label[..., None]}


def _open(file):
    """A picture, read to its last pixel, so that what is cut short shows here."""
    try:
        picture = Image.open(file)
        picture.load()
    except FileNotFoundError:
        raise FileNotFoundError(f"{file} is missing.") from None
    except (OSError, SyntaxError, ValueError) as error:  # Pillow raises all three.
        raise ValueError(f"{file} cannot be read: {error}") from error
    return picture
