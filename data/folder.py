"""TFDS builder: anyone's photos and masks, from a folder.

--manual_dir holds images/ and masks/, whose files have the same names but for the ending, or a
pairs.csv with the columns image, mask and, if wanted, split, the files named from the folder on.
Without that column, train.txt and val.txt list the splits by name, if they are there; else a tenth
of the images, which their names' hash decides, are val, and the others train.

Masks are PNGs of class ids, or with a palette, or in colours. Which it is, and which values there
are, is found out the first time, proposed in classes.json, and to be looked over; the second time
the data set is built by it. A class has a name, a colour for pictures, and the value that masks
have for it; `ignored` lists the values that are neither trained nor scored.
"""

import csv
import hashlib
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

from data.features import class_metadata, example, open_picture, read_ids, segmentation_info
from data.mask_classes import ClassesProposed, class_ids, propose_classes, read_classes, read_mask
from data.terminal import track

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
VAL_SHARE = 10  # One image in so many, where nobody says which.

Pairs = dict[str, tuple[pathlib.Path, pathlib.Path]]  # By name: the image's and the mask's file.


class Folder(tfds.core.GeneratorBasedBuilder):
    """Photos and masks of one's own, as the config that is named after them."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = "--manual_dir holds images/ and masks/, or pairs.csv."

    def _info(self) -> tfds.core.DatasetInfo:
        return segmentation_info(self, __doc__)  # Classes: with the shards, or when they are built.

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        folder = pathlib.Path(dl_manager.manual_dir)
        splits = find_splits(folder)
        class_file = folder / "classes.json"
        if not class_file.exists():
            masks = [mask for pairs in splits.values() for _, mask in pairs.values()]
            raise ClassesProposed(propose_classes(masks, class_file))
        classes = read_classes(class_file)
        self.info.metadata.update(
            class_metadata(
                [one["name"] for one in classes["classes"]],
                [one["colour"] for one in classes["classes"]],
            )
        )
        return {
            split: self._generate_examples(split, pairs, classes, class_file)
            for split, pairs in splits.items()
        }

    def _generate_examples(
        self, split: str, pairs: Pairs, classes: dict[str, Any], class_file: pathlib.Path
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for name, (image_file, mask_file) in track(pairs.items(), f"reading {split}", len(pairs)):
            refuse_rotation(image_file)
            label = class_ids(read_mask(mask_file), classes, mask_file, class_file)
            yield name, example(name, image_file, label, mask_file)


def find_splits(folder: pathlib.Path) -> dict[str, Pairs]:
    """A folder -> the pairs of each split. ValueError or FileNotFoundError say what is amiss."""
    lists = {split: folder / f"{split}.txt" for split in ("train", "val")}
    if (folder / "pairs.csv").exists():
        pairs, splits = read_pairs(folder / "pairs.csv")
    else:
        pairs, splits = match_names(folder / "images", folder / "masks"), None
    if splits is None and any(file.exists() for file in lists.values()):
        splits = {split: read_ids(file) for split, file in lists.items()}
        for split, names in splits.items():
            if unknown := [name for name in names if name not in pairs]:
                raise ValueError(
                    f"{lists[split]} lists {unknown[0]}, of which is no pair. Add the pair, or "
                    "delete the line."
                )
        if both := sorted({*splits["train"]} & {*splits["val"]}):
            raise ValueError(f"{both[0]} is in {lists['train']} and in {lists['val']}; choose one.")
        if left := len(pairs) - sum(map(len, splits.values())):
            print(f"{left} pairs are in neither train.txt nor val.txt, and are left out.")
    if splits is None:
        by_hash = sorted(pairs, key=lambda name: hashlib.sha256(name.encode()).digest())
        num_val = max(1, len(pairs) // VAL_SHARE)
        splits = {"train": sorted(by_hash[num_val:]), "val": sorted(by_hash[:num_val])}
    for split, names in splits.items():
        if not names:
            raise ValueError(
                f"{folder} has {len(pairs)} pairs, and none for {split}. Add some, or write "
                "train.txt and val.txt with their names."
            )
    return {split: {name: pairs[name] for name in names} for split, names in splits.items()}


def read_pairs(csv_file: pathlib.Path) -> tuple[Pairs, dict[str, list[str]] | None]:
    """pairs.csv -> its pairs, and the names of each split where it has that column."""
    try:
        with csv_file.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, skipinitialspace=True))
    except UnicodeDecodeError as error:
        raise ValueError(f"{csv_file} is no text in UTF-8: {error}. Save it so.") from error
    if not rows or not {"image", "mask"} <= set(rows[0]):
        raise ValueError(
            f"{csv_file} needs a first line `image,mask` or `image,mask,split`, with commas."
        )
    pairs: Pairs = {}
    splits: dict[str, list[str]] = {}
    for line, row in enumerate(rows, start=2):
        where = f"{csv_file}, line {line}"
        if not row["image"] or not row["mask"]:
            raise ValueError(f"{where}: a field is empty. Fill it, or delete the line.")
        split = row.get("split", "train") or ""
        if not re.fullmatch(r"\w+", split) or split == "all":
            raise ValueError(f"{where}: no name of a split, {split!r}. Name it train or val, say.")
        name = pathlib.PurePath(row["image"]).with_suffix("").as_posix()
        if name in pairs:
            raise ValueError(f"{where}: {name} is there twice; delete one line.")
        pairs[name] = (csv_file.parent / row["image"], csv_file.parent / row["mask"])
        for file in pairs[name]:
            if not file.exists():
                raise FileNotFoundError(f"{where}: {file} is missing. Mend the line.")
        splits.setdefault(split, []).append(name)
    return pairs, splits if "split" in rows[0] else None


def match_names(images: pathlib.Path, masks: pathlib.Path) -> Pairs:
    """Two folders -> the pairs of files of one name; ValueError where one is without the other."""
    files = {}
    for folder in (images, masks):
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder} is missing. {Folder.MANUAL_DOWNLOAD_INSTRUCTIONS}")
        files[folder] = {}
        for file in sorted(folder.iterdir()):
            if file.suffix.lower() not in ENDINGS:
                continue
            if other := files[folder].get(file.stem):
                raise ValueError(f"{other} and {file} have one name; rename or delete one of them.")
            files[folder][file.stem] = file
    if alone := sorted(files[images].keys() ^ files[masks].keys()):
        other = masks if alone[0] in files[images] else images
        raise ValueError(
            f"{alone[0]} has no partner in {other}, and {len(alone) - 1} more. Add them, or take "
            "away what is alone."
        )
    return {name: (files[images][name], files[masks][name]) for name in files[images]}


def refuse_rotation(image_file: pathlib.Path) -> None:
    """Raises ValueError for a photo that a viewer turns: nobody knows which way its mask is."""
    if (orientation := open_picture(image_file).getexif().get(0x0112, 1)) != 1:
        raise ValueError(
            f"{image_file} is to be rotated when shown (EXIF orientation {orientation}), so that "
            "its mask may be turned against its pixels. Rotate the pixels and drop the tag: "
            "ImageOps.exif_transpose(image), or `jpegtran`."
        )
