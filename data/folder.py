"""TFDS builder: your own images and masks, from a folder.

--manual_dir holds images/ and masks/, with the same file names up to the suffix, or a pairs.csv
with the columns image, mask and optionally split; its paths are relative to the folder. An ending
that all masks share, such as _mask, or all images, such as _img, is not part of the name. Without a
split column, train.txt and val.txt list the names of each split. Without these files, images/train/
and images/val/ are the splits, or a tenth of the images, chosen by the hash of their names, are
val, and the others train.

Masks are PNGs of class ids, with a palette, or of RGB colors. classes.json gives each class a name,
a color to display it in, and its value in the masks, or a list of values; `ignored` lists values
that are neither trained on nor scored; data/class_file.py has an example. Without classes.json, the
build detects what the masks hold and proposes one with placeholders for the names; the same command
builds the data set once it is there. --accept builds with the placeholders.
"""

import csv
import hashlib
import pathlib
import re
import unicodedata
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from data.class_file import Classes, map_to_class_ids, read_classes
from data.classes import IGNORE_LABEL, ORIGINALS
from data.features import class_metadata, make_example, read_ids, segmentation_info
from data.mask_classes import (
    ClassesProposed,
    Palettes,
    find_unique_runs,
    propose_classes,
    read_mask,
)
from data.pairing import Pairs, find_file, match_names, pair_name, split_by_folder
from data.terminal import track

PAIRS_PER_VAL_PAIR = 10  # Without lists of the splits. Ours.
CLASS_FILE = "classes.json"
COLUMNS = ("image", "mask", "split")  # Of pairs.csv.
MISSING_VALUES = ("nan", "none", "null", "na")  # As spreadsheets and pandas write them.


class Folder(tfds.core.GeneratorBasedBuilder):
    """Your own images and masks; the config's name is the name of your data set."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = ORIGINALS["folder"]

    def _info(self) -> tfds.core.DatasetInfo:
        return segmentation_info(self, __doc__)  # Classes are read from the shards, or set below.

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        folder = pathlib.Path(dl_manager.manual_dir)
        splits = find_splits(folder)
        classes = read_classes(folder / CLASS_FILE)
        self.info.metadata.update(class_metadata(classes.names, classes.colors))
        seen: dict[str, set[int]] = {split: set() for split in splits}
        palettes = None if classes.palette is None else Palettes()
        return {
            split: check_seen(
                self._generate_examples(split, pairs, classes, seen[split], palettes),
                split,
                seen,
                classes,
            )
            for split, pairs in splits.items()
        }

    def _generate_examples(
        self,
        split: str,
        pairs: Pairs,
        classes: Classes,
        seen: set[int],
        palettes: Palettes | None,
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for name, (image_file, mask_file) in track(pairs.items(), f"reading {split}", len(pairs)):
            mask = read_mask(mask_file)
            label = map_to_class_ids(mask, classes, mask_file)
            if mask.kind == "palette" and palettes is not None:
                palettes.add(mask, find_unique_runs(mask.values)[0].tolist(), mask_file)
            seen.update(np.flatnonzero(np.bincount(label.ravel())).tolist())
            yield name, make_example(name, image_file, label, mask_file)


def check_seen(
    examples: Iterator[tuple[str, dict[str, Any]]],
    split: str,
    seen: dict[str, set[int]],
    classes: Classes,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields a split's examples, and then checks which classes they have.

    Args:
      examples: the split's examples.
      split: its name. Splits are read in the order of `seen`.
      seen: by split, the class ids of its examples so far.
      classes: content of classes.json.

    Yields:
      The examples. Then a single class is printed, and after the last split the classes that no
      mask has.

    Raises:
      ValueError: `train`, or all splits together, have a single class.
    """
    yield from examples
    is_last = split == list(seen)[-1]
    of_all = set().union(*seen.values()) - {IGNORE_LABEL}
    few = split if len(seen[split] - {IGNORE_LABEL}) < 2 else None
    if few == "train" or (is_last and len(of_all) < 2):
        ids, which = (seen[split], f" of {split}") if few == "train" else (of_all, "")
        raise ValueError(
            f"The masks{which} hold a single class of {classes.file}: {_names_of(ids, classes)}. "
            "With one class there is nothing to learn. Add masks of another class, or make an "
            "ignored value a class."
        )
    if few:
        print(
            f"warning: the masks of {split} hold a single class: {_names_of(seen[split], classes)}."
            " Training on it would learn nothing, and its scores say little.",
            flush=True,
        )
    if is_last and (absent := {*range(len(classes.names))} - of_all):
        print(
            f"warning: no mask has these classes of {classes.file}: {_names_of(absent, classes)}.",
            flush=True,
        )


def _names_of(ids, classes):
    """Class ids -> the names of the first five, as a text; `none` without."""
    names = [classes.names[k] for k in sorted(ids - {IGNORE_LABEL})]
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{', '.join(names[:5]) or 'none'}{more}"


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
    splits = (
        splits or read_split_lists(folder, pairs) or split_by_folder(pairs) or split_by_hash(pairs)
    )
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
    pairs: Pairs = {}
    splits: dict[str, list[str]] = {}
    rows = _read_rows(csv_file)
    for line, row in rows:
        where = f"{csv_file}, line {line}"
        if not row["image"] or not row["mask"]:
            raise ValueError(f"{where}: a field is empty. Fill it in, or delete the line.")
        if None in row:
            raise ValueError(
                f"{where}: it has more fields than the first line. Put a name with a comma into "
                "double quotes."
            )
        split = _check_split_name(row.get("split", "train"), splits, where)
        name = pair_name(pathlib.PurePath(row["image"]))
        if name in pairs:
            raise ValueError(f"{where}: {name} is listed twice; delete one line.")
        pairs[name] = tuple(find_file(csv_file.parent / row[part]) for part in ("image", "mask"))
        for file in pairs[name]:
            if not file.exists():
                raise FileNotFoundError(f"{where}: {file} is missing. Fix that line.")
        splits.setdefault(split, []).append(name)
    return pairs, splits if "split" in rows[0][1] else None


def _read_rows(csv_file):
    """pairs.csv -> (line number, fields by column) of each row; ValueError if it is invalid."""
    try:
        with csv_file.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            rows = [(reader.line_num, row) for row in reader]
            columns = reader.fieldnames or []
    except UnicodeDecodeError as error:
        raise ValueError(f"{csv_file} is not valid UTF-8: {error}. Save it as UTF-8.") from error
    except csv.Error as error:
        raise ValueError(f"{csv_file} is not a valid CSV file: {error}. Save it again.") from error
    for column in columns:
        if column not in COLUMNS and (plain := column.strip().lower()) in COLUMNS:
            raise ValueError(f"{csv_file}, line 1: write {plain} for the column {column!r}.")
    if not rows or not {"image", "mask"} <= {*columns}:
        raise ValueError(
            f"{csv_file} needs a first line `image,mask` or `image,mask,split`, with commas, and a "
            "line for each pair."
        )
    if unknown := [column for column in columns if column not in COLUMNS]:
        raise ValueError(
            f"{csv_file}, line 1: the column {unknown[0]!r} is not one of image, mask and split. "
            "Rename it, or delete it."
        )
    return rows


def _check_split_name(split, others, where):
    """A split of pairs.csv -> the same; ValueError for none, or another one's in another case."""
    if split is None or not split.strip() or split.strip().lower() in MISSING_VALUES:
        raise ValueError(
            f"{where}: the split is {split or ''!r}, as where a value is missing. Fill it in, for "
            "example train or val, or delete the line."
        )
    if not re.fullmatch(r"\w+", split) or split == "all":
        raise ValueError(
            f"{where}: invalid split name {split!r}. Use letters, digits and _ without spaces, for "
            "example train or val."
        )
    for other in others:
        if split != other and split.lower() == other.lower():
            raise ValueError(
                f"{where}: the split {split} differs from {other} only by case. Write {other}."
            )
    return split


def read_split_lists(folder: pathlib.Path, pairs: Pairs) -> dict[str, list[str]] | None:
    """train.txt and val.txt -> the names of each split; None if neither exists."""
    lists = {split: folder / f"{split}.txt" for split in ("train", "val")}
    if not any(file.exists() for file in lists.values()):
        return None
    splits = {
        split: [unicodedata.normalize("NFC", name) for name in read_ids(file)]  # As pair_name.
        for split, file in lists.items()
    }
    for split, names in splits.items():
        if unknown := [name for name in names if name not in pairs]:
            if (plain := pair_name(pathlib.PurePath(unknown[0]))) in pairs:
                raise ValueError(
                    f"{lists[split]} lists {unknown[0]}. Write names without their suffix: {plain}."
                )
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
