"""TFDS builder: your own images and masks, from a folder.

--manual_dir holds images/ and masks/, with the same file names up to the suffix, or a pairs.csv
with the columns image, mask and optionally split; its paths are relative to the folder. Without a
split column, train.txt and val.txt list the names of each split. Without these files, a tenth of
the images, chosen by the hash of their names, are val, and the others train.

Masks are PNGs of class ids, with a palette, or of RGB colors. classes.json gives each class a name,
a color to display it in, and its value in the masks; `ignored` lists values that are neither
trained on nor scored. Without classes.json, the build detects what the masks hold and proposes one
with placeholders for the names; the same command builds the data set once it is there. --accept
builds with the placeholders.
"""

import csv
import hashlib
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

from data.classes import ORIGINALS
from data.features import class_metadata, make_example, read_ids, segmentation_info
from data.mask_classes import (
    ClassesProposed,
    map_to_class_ids,
    propose_classes,
    read_classes,
    read_mask,
)
from data.photos import is_leftover
from data.terminal import track

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
PAIRS_PER_VAL_PAIR = 10  # Without lists of the splits. Ours.
CLASS_FILE = "classes.json"

Pairs = dict[str, tuple[pathlib.Path, pathlib.Path]]  # By name: the image's and the mask's file.


class Folder(tfds.core.GeneratorBasedBuilder):
    """Your own images and masks; the config's name is the name of your data set."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = ORIGINALS["folder"]

    def _info(self) -> tfds.core.DatasetInfo:
        return segmentation_info(self, __doc__)  # Classes are read from the shards, or set below.

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        folder = pathlib.Path(dl_manager.manual_dir)
        splits = find_splits(folder)
        class_file = folder / CLASS_FILE
        classes = read_classes(class_file)
        self.info.metadata.update(
            class_metadata(
                [one["name"] for one in classes["classes"]],
                [one["color"] for one in classes["classes"]],
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
            label = map_to_class_ids(read_mask(mask_file), classes, mask_file, class_file)
            yield name, make_example(name, image_file, label, mask_file)


def ensure_classes(folder: pathlib.Path, *, accept: bool) -> None:
    """Proposes classes where a folder has no classes.json.

    Args:
      folder: the images and masks.
      accept: whether to go on with the proposal, which is printed then.

    Raises:
      ClassesProposed: classes.json was missing and is to be reviewed.
      ValueError, FileNotFoundError: no classes can be proposed, because of bad input.
    """
    class_file = folder / CLASS_FILE
    if class_file.exists():
        return
    masks = [mask for pairs in find_splits(folder).values() for _, mask in pairs.values()]
    proposal = propose_classes(masks, class_file)
    if not accept:
        raise ClassesProposed(proposal)
    print(proposal, flush=True)


def find_splits(folder: pathlib.Path) -> dict[str, Pairs]:
    """A folder -> the pairs of each split. Raises ValueError or FileNotFoundError on bad input."""
    if (folder / "pairs.csv").exists():
        pairs, splits = read_pairs(folder / "pairs.csv")
    else:
        pairs, splits = match_names(folder / "images", folder / "masks"), None
    if splits is None:
        splits = read_split_lists(folder, pairs)
    if splits is None:
        splits = split_by_hash(pairs)
    for split, names in splits.items():
        if not names:
            raise ValueError(
                f"{folder} has {len(pairs)} pairs, but none for {split}. Add pairs, or write "
                "train.txt and val.txt with their names."
            )
    return {split: {name: pairs[name] for name in names} for split, names in splits.items()}


def read_pairs(csv_file: pathlib.Path) -> tuple[Pairs, dict[str, list[str]] | None]:
    """pairs.csv -> its pairs, and the names of each split.

    Args:
      csv_file: a file with the columns image, mask and optionally split.

    Returns:
      The pairs by name, which is the image's path without its suffix; the names by split, or None
      without a split column.

    Raises:
      ValueError: The file or one of its lines is invalid. The message names the line.
      FileNotFoundError: A line names a file that is missing.
    """
    try:
        with csv_file.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, skipinitialspace=True))
    except UnicodeDecodeError as error:
        raise ValueError(f"{csv_file} is not valid UTF-8: {error}. Save it as UTF-8.") from error
    if not rows or not {"image", "mask"} <= set(rows[0]):
        raise ValueError(
            f"{csv_file} needs a first line `image,mask` or `image,mask,split`, with commas."
        )
    pairs: Pairs = {}
    splits: dict[str, list[str]] = {}
    for line, row in enumerate(rows, start=2):
        where = f"{csv_file}, line {line}"
        if not row["image"] or not row["mask"]:
            raise ValueError(f"{where}: a field is empty. Fill it in, or delete the line.")
        split = row.get("split", "train") or ""
        if not re.fullmatch(r"\w+", split) or split == "all":
            raise ValueError(
                f"{where}: invalid split name {split!r}. Use, for example, train or val."
            )
        name = pathlib.PurePath(row["image"]).with_suffix("").as_posix()
        if name in pairs:
            raise ValueError(f"{where}: {name} is listed twice; delete one line.")
        pairs[name] = (csv_file.parent / row["image"], csv_file.parent / row["mask"])
        for file in pairs[name]:
            if not file.exists():
                raise FileNotFoundError(f"{where}: {file} is missing. Fix that line.")
        splits.setdefault(split, []).append(name)
    return pairs, splits if "split" in rows[0] else None


def match_names(images: pathlib.Path, masks: pathlib.Path) -> Pairs:
    """Two folders -> the pairs of files with one name; ValueError for a file without a partner."""
    files = {}
    for folder in (images, masks):
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder} is missing. {Folder.MANUAL_DOWNLOAD_INSTRUCTIONS}")
        files[folder] = {}
        for file in sorted(folder.iterdir()):
            if file.suffix.lower() not in IMAGE_SUFFIXES or is_leftover(file):
                continue
            if other := files[folder].get(file.stem):
                raise ValueError(
                    f"{other} and {file} have the same name; rename or delete one of them."
                )
            files[folder][file.stem] = file
    if unmatched := sorted(files[images].keys() ^ files[masks].keys()):
        other = masks if unmatched[0] in files[images] else images
        raise ValueError(
            f"{unmatched[0]} has no partner in {other}, and there are {len(unmatched) - 1} more "
            "such files. Add the partners, or remove the files without one."
        )
    return {name: (files[images][name], files[masks][name]) for name in files[images]}


def read_split_lists(folder: pathlib.Path, pairs: Pairs) -> dict[str, list[str]] | None:
    """train.txt and val.txt -> the names of each split; None if neither exists."""
    lists = {split: folder / f"{split}.txt" for split in ("train", "val")}
    if not any(file.exists() for file in lists.values()):
        return None
    splits = {split: read_ids(file) for split, file in lists.items()}
    for split, names in splits.items():
        if unknown := [name for name in names if name not in pairs]:
            raise ValueError(
                f"{lists[split]} lists {unknown[0]}, but there is no such pair. Add the pair, or "
                "delete the line."
            )
    if both := sorted({*splits["train"]} & {*splits["val"]}):
        raise ValueError(
            f"{both[0]} is in {lists['train']} and in {lists['val']}; delete it from one of them."
        )
    if omitted := len(pairs) - sum(map(len, splits.values())):
        print(f"{omitted} pairs are in neither train.txt nor val.txt and are left out.")
    return splits


def split_by_hash(pairs: Pairs) -> dict[str, list[str]]:
    """Pairs -> the names of train and val, decided by the hashes of the names."""
    by_hash = sorted(pairs, key=lambda name: hashlib.sha256(name.encode()).digest())
    num_val = max(1, len(pairs) // PAIRS_PER_VAL_PAIR)
    return {"train": sorted(by_hash[num_val:]), "val": sorted(by_hash[:num_val])}
