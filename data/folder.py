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
import json
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from data.classes import IGNORE_LABEL, voc_palette
from data.features import (
    class_metadata,
    example,
    open_picture,
    read_ids,
    segmentation_info,
)

KINDS = {"P": "palette", "L": "indices", "1": "indices", "RGB": "colours"}  # By Pillow's mode.
VAL_SHARE = 10  # One image in so many, where nobody says which.
MOST_CLASSES = 255  # 255 itself is taken.

Pairs = dict[str, tuple[pathlib.Path, pathlib.Path]]  # By name: the image's and the mask's file.


class ClassesProposed(Exception):
    """classes.json was written, and is to be looked over before anything is built by it."""


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
            split: self._generate_examples(pairs, classes, class_file)
            for split, pairs in splits.items()
        }

    def _generate_examples(
        self, pairs: Pairs, classes: dict[str, Any], class_file: pathlib.Path
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for name, (image_file, mask_file) in pairs.items():
            refuse_rotation(image_file)
            label = class_ids(read_mask(mask_file), classes, mask_file, class_file)
            yield name, example(name, image_file, label, mask_file)


def find_splits(folder: pathlib.Path) -> dict[str, Pairs]:
    """A folder -> the pairs of each split. ValueError or FileNotFoundError say what is amiss."""
    if (folder / "pairs.csv").exists():
        pairs, splits = read_pairs(folder / "pairs.csv")
    else:
        pairs, splits = match_names(folder / "images", folder / "masks"), None
    if splits is None and (folder / "train.txt").exists() and (folder / "val.txt").exists():
        splits = {split: read_ids(folder / f"{split}.txt") for split in ("train", "val")}
        for split, names in splits.items():
            if unknown := [name for name in names if name not in pairs]:
                raise ValueError(f"{folder / split}.txt lists {unknown[0]}, of which is no pair.")
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
    with csv_file.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows or not {"image", "mask"} <= set(rows[0]):
        raise ValueError(f"{csv_file} needs a first line `image,mask` or `image,mask,split`.")
    pairs: Pairs = {}
    splits: dict[str, list[str]] = {}
    for line, row in enumerate(rows, start=2):
        if not row["image"] or not row["mask"] or not row.get("split", "train"):
            raise ValueError(f"{csv_file}, line {line}: a field is empty.")
        name = pathlib.PurePath(row["image"]).with_suffix("").as_posix()
        if name in pairs:
            raise ValueError(f"{csv_file}, line {line}: {name} is there twice; delete one line.")
        pairs[name] = (csv_file.parent / row["image"], csv_file.parent / row["mask"])
        splits.setdefault(row.get("split", ""), []).append(name)
    return pairs, splits if "split" in rows[0] else None


def match_names(images: pathlib.Path, masks: pathlib.Path) -> Pairs:
    """Two folders -> the pairs of files of one name; ValueError where one is without the other."""
    files = {}
    for folder in (images, masks):
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder} is missing. {Folder.MANUAL_DOWNLOAD_INSTRUCTIONS}")
        files[folder] = {}
        for file in sorted(folder.iterdir()):
            if file.name.startswith("."):
                continue
            if other := files[folder].get(file.stem):
                raise ValueError(f"{other} and {file} have one name; rename or delete one of them.")
            files[folder][file.stem] = file
    if alone := sorted(files[images].keys() ^ files[masks].keys()):
        other = masks if alone[0] in files[images] else images
        raise ValueError(f"{alone[0]} has no partner in {other}, as {len(alone)} in all.")
    return {name: (files[images][name], files[masks][name]) for name in files[images]}


def refuse_rotation(image_file: pathlib.Path) -> None:
    """Raises ValueError for a photo that a viewer turns: nobody knows which way its mask is."""
    if (orientation := open_picture(image_file).getexif().get(0x0112, 1)) != 1:
        raise ValueError(
            f"{image_file} is to be rotated when shown (EXIF orientation {orientation}), so that "
            "its mask may be turned against its pixels. Rotate the pixels and drop the tag: "
            "ImageOps.exif_transpose(image), or `jpegtran`."
        )


def read_mask(file: pathlib.Path) -> np.ndarray:
    """A mask -> its values: [H, W] uint8 indices, or for colours [H, W] int32 of 0xRRGGBB."""
    mask = open_picture(file)
    if mask.mode not in KINDS:
        raise ValueError(
            f"{file} is a {mask.format} of mode {mask.mode}; masks are 8-bit: class ids, a "
            "palette, or RGB colours without transparency. Convert it: "
            'Image.open(file).convert("RGB") for colours, .convert("L") for ids.'
        )
    values = np.array(mask)
    if mask.mode != "RGB":
        return values.astype(np.uint8)
    return values.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)


def kind_of(file: pathlib.Path) -> str:
    """A mask's file -> palette, indices or colours."""
    read_mask(file)  # Which refuses all else.
    return KINDS[open_picture(file).mode]


def propose_classes(masks: Iterable[pathlib.Path], class_file: pathlib.Path) -> str:
    """Masks -> what was found in them, in words; the proposal is in class_file then.

    Raises ValueError where the masks are not all of a kind, or have too many values.
    """
    kinds: dict[str, pathlib.Path] = {}
    pixels: dict[int, int] = {}
    for file in masks:
        kinds.setdefault(kind_of(file), file)
        if len(kinds) > 1:
            raise ValueError(f"Masks are of more than one kind: {kinds}. Convert one of them.")
        for value, count in zip(*np.unique(read_mask(file), return_counts=True), strict=True):
            pixels[int(value)] = pixels.get(int(value), 0) + int(count)
        if len(pixels) > MOST_CLASSES + 1:
            raise ValueError(
                f"{file}: {len(pixels)} values up to here; there can be {MOST_CLASSES} classes. "
                "Masks saved as JPEG, or resized smoothly, have mixtures at the edges: save them "
                "as PNG, and resize with the nearest neighbour."
            )
    ((kind, first),) = kinds.items()
    proposal = _proposal(kind, sorted(pixels), first)
    class_file.write_text(json.dumps(proposal, indent=2) + "\n")
    meanings = {one["value"]: f"{i:3} {one['name']}" for i, one in enumerate(proposal["classes"])}
    meanings |= {value: "ignored" for value in proposal["ignored"]}
    total = sum(pixels.values())
    lines = [
        f"  {value:>8}  {100 * pixels[_number(value)] / total:6.2f} %  {meaning}"
        for value, meaning in meanings.items()
    ]
    return (
        f"The masks have {len(pixels)} {'colours' if kind == 'colours' else 'values'} ({kind}); "
        "proposed ids:\n" + "\n".join(lines) + f"\nThis is in {class_file}. Look it over (names, "
        "order, what is ignored), then give the same command again to build by it."
    )


def _proposal(kind, values, first_mask):
    """The content of classes.json, for values of masks in their order: black or 0 comes first."""
    void = {0xE0E0C0} if kind == "colours" else {IGNORE_LABEL}  # VOC's border, in both forms.
    if kind != "colours" and set(values) == {0, IGNORE_LABEL}:
        void = set()  # Black and white: two classes.
    if kind == "palette":
        palette = np.array(open_picture(first_mask).getpalette("RGB")).reshape(-1, 3)
        palette = np.pad(palette, ((0, 256 - len(palette)), (0, 0)))
    classes = []
    for value in (value for value in values if value not in void):
        if kind == "colours":
            colour = [value >> 16, value >> 8 & 255, value & 255]
        else:
            colour = (palette[value] if kind == "palette" else voc_palette()[len(classes)]).tolist()
        name = f"class_{len(classes)}"
        classes.append({"name": name, "colour": colour, "value": _written(kind, value)})
    ignored = [_written(kind, value) for value in values if value in void]
    return {"kind": kind, "classes": classes, "ignored": ignored}


def _written(kind, value):
    """A value of a mask -> as classes.json has it: an id, or #rrggbb."""
    return f"#{value:06x}" if kind == "colours" else value


def _number(value):
    """A value of classes.json -> as read_mask gives it."""
    return int(value[1:], 16) if isinstance(value, str) else value


def read_classes(class_file: pathlib.Path) -> dict[str, Any]:
    """classes.json -> its content. ValueError, which names it, where it is not as proposed."""
    try:
        classes = json.loads(class_file.read_text())
        values = [one["value"] for one in classes["classes"]] + classes["ignored"]
        numbers = [_number(value) for value in values]
        names = [one["name"] for one in classes["classes"]]
        for one in classes["classes"]:
            red, green, blue = one["colour"]
            bytes([red, green, blue])  # ValueError outside 0..255.
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{class_file} is not as it was proposed: {error!r}. Mend it, or delete it to have it "
            "proposed again."
        ) from error
    if len(set(numbers)) < len(numbers) or len(set(names)) < len(names):
        raise ValueError(f"{class_file} has a value or a name twice.")
    return classes


def class_ids(
    mask: np.ndarray, classes: dict[str, Any], mask_file: pathlib.Path, class_file: pathlib.Path
) -> np.ndarray:
    """A mask's values -> [H, W] uint8 class ids. ValueError, which names both, for an unknown."""
    known = {_number(one["value"]): i for i, one in enumerate(classes["classes"])}
    known |= {_number(value): IGNORE_LABEL for value in classes["ignored"]}
    values, inverse = np.unique(mask, return_inverse=True)
    if unknown := [int(value) for value in values if int(value) not in known]:
        shown = ", ".join(str(_written(classes["kind"], value)) for value in unknown[:5])
        raise ValueError(
            f"{mask_file} holds {shown}, which {class_file} does not know. Add it there as a class "
            "or under ignored, or mend the mask."
        )
    ids = np.array([known[int(value)] for value in values], np.uint8)
    return ids[inverse].reshape(mask.shape)
