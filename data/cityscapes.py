"""TFDS builder: Cityscapes, the data set of Tables 12 and 13.

--manual_dir holds leftImg8bit/ and gtFine/, and for train_coarse gtCoarse/, as unpacked from the
archives of https://www.cityscapes-dataset.com, with their labelIds. The splits are train_fine,
val_fine, test (its labels are not published: all 255) and train_coarse; splits without folders are
left out.
"""

import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from data.classes import CITYSCAPES_CLASSES, CITYSCAPES_SPLIT_SIZES, IGNORE_LABEL, ORIGINALS
from data.features import make_example, read_label, segmentation_info
from data.photos import is_leftover
from data.terminal import track

SPLIT_FOLDERS = {  # Folder of the labels; subfolder there and in leftImg8bit.
    "train_fine": ("gtFine", "train"),
    "val_fine": ("gtFine", "val"),
    "test": ("gtFine", "test"),
    "train_coarse": ("gtCoarse", "train_extra"),
}
CLASS_NAMES, PALETTE = zip(*CITYSCAPES_CLASSES.values(), strict=True)


class Cityscapes(tfds.core.GeneratorBasedBuilder):
    """Street scenes, 1024 x 2048, with 19 class ids 0..18 and 255."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = ORIGINALS["cityscapes"]
    SPLIT_SIZES = CITYSCAPES_SPLIT_SIZES

    def _info(self) -> tfds.core.DatasetInfo:
        return segmentation_info(self, __doc__, CLASS_NAMES, PALETTE)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        root = pathlib.Path(dl_manager.manual_dir)
        splits = {
            split: self._generate_examples(root, kind, folder)
            for split, (kind, folder) in SPLIT_FOLDERS.items()
            if (root / kind / folder).is_dir() and (root / "leftImg8bit" / folder).is_dir()
        }
        if not splits:
            raise FileNotFoundError(
                f"{root} is not Cityscapes: it should hold leftImg8bit/train and gtFine/train, or "
                "the same for val or test, or leftImg8bit/train_extra and gtCoarse/train_extra."
            )
        return splits

    def _generate_examples(
        self, root: pathlib.Path, kind: str, folder: str
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        found = sorted((root / "leftImg8bit" / folder).glob("*/*_leftImg8bit.png"))
        images = [image for image in found if not is_leftover(image)]
        if not images:
            raise FileNotFoundError(f"No CITY/*_leftImg8bit.png in {root}/leftImg8bit/{folder}.")
        for image in track(images, f"reading {kind}/{folder}", len(images)):
            name = image.name.removesuffix("_leftImg8bit.png")
            label_file = root / kind / folder / image.parent.name / f"{name}_{kind}_labelIds.png"
            label = to_train_ids(read_label(label_file), label_file)
            yield name, make_example(name, image, label, label_file)


def to_train_ids(label_ids: np.ndarray, file: pathlib.Path) -> np.ndarray:
    """[H, W] labelIds 0..33 -> [H, W] uint8 ids of the 19 scored classes, or 255.

    Raises ValueError, which names the file, for other values: it may hold trainIds instead.
    """
    if wrong := np.setdiff1d(label_ids, range(34)).tolist():
        raise ValueError(
            f"{file} holds the ids {wrong}; labelIds are 0 to 33. Use a --manual_dir with the "
            "original labelIds."
        )
    table = np.full(256, IGNORE_LABEL, np.uint8)
    table[list(CITYSCAPES_CLASSES)] = range(len(CITYSCAPES_CLASSES))
    return table[label_ids]
