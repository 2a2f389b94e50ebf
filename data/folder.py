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
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from data.classes import IGNORE_LABEL, voc_palette
from data.features import class_metadata, example, open_picture, read_ids, segmentation_info
from data.files import write_json
from data.progress import track

KINDS = {"P": "palette", "L": "indices", "1": "indices", "RGB": "colours"}  # By Pillow's mode.
ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
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


class Mask(NamedTuple):
    """A mask as it was read."""

    kind: str  # A value of KINDS.
    values: np.ndarray  # [H, W] int32: indices, or 0xRRGGBB.
    palette: np.ndarray  # [256, 3] uint8; black where the file has none.


def read_mask(file: pathlib.Path) -> Mask:
    """A mask's file -> the mask. ValueError, which names it, for all but a PNG of 8 bits."""
    mask = open_picture(file)
    if mask.format != "PNG" or mask.mode not in KINDS:
        raise ValueError(
            f"{file} is a {mask.format} of mode {mask.mode}; masks are PNGs of 8 bits: class ids, "
            "a palette, or RGB colours without transparency. Convert it: "
            'Image.open(file).convert("RGB").save("mask.png") for colours, "L" for ids; a JPEG\'s '
            "values are not to be trusted: make it again from the original."
        )
    palette = np.zeros((256, 3), np.uint8)
    if mask.mode == "P":
        colours = np.array(mask.getpalette("RGB"), np.uint8).reshape(-1, 3)
        palette[: len(colours)] = colours
    values = np.array(mask).astype(np.int32)
    if mask.mode == "RGB":
        values = values @ np.array([1 << 16, 1 << 8, 1], np.int32)
    return Mask(KINDS[mask.mode], values, palette)


def runs(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[H, W] -> the values of its runs of equal pixels, row after row, and their lengths.

    There are far fewer of them than pixels.
    """
    line = values.ravel()
    starts = np.flatnonzero(np.concatenate([[True], line[1:] != line[:-1]]))
    return line[starts], np.diff(np.concatenate([starts, [line.size]]))


def propose_classes(masks: list[pathlib.Path], class_file: pathlib.Path) -> str:
    """Masks -> what was found in them, in words; the proposal is in class_file then.

    Raises ValueError where the masks are not all of a kind, have palettes that contradict each
    other, or have too many values.
    """
    first: Mask | None = None
    seen: dict[int, tuple[pathlib.Path, np.ndarray]] = {}  # By value: where first, and its colour.
    pixels: dict[int, int] = {}
    for file in track(masks, "looking at masks", len(masks)):
        mask = read_mask(file)
        first = first or mask
        if mask.kind != first.kind:
            raise ValueError(
                f"{file} is a mask of {mask.kind}, but {masks[0]} of {first.kind}. Convert one."
            )
        line, lengths = runs(mask.values)
        values, inverse = np.unique(line, return_inverse=True)
        counts = np.bincount(inverse, lengths).astype(int)
        for value, count in zip(values.tolist(), counts.tolist(), strict=True):
            pixels[value] = pixels.get(value, 0) + count
            own = mask.palette[value % 256]  # Without a palette, all are black.
            where, colour = seen.setdefault(value, (file, own))
            if (colour != own).any():
                raise ValueError(
                    f"{file} and {where} have other colours for the value {value}, so that values "
                    'mean nothing. Convert all to colours: Image.open(file).convert("RGB").'
                )
        if len(pixels) > MOST_CLASSES + 1:
            raise ValueError(
                f"{file}: {len(pixels)} values up to here; there can be {MOST_CLASSES} classes. "
                "Masks that were saved as JPEG once, or resized smoothly, have mixtures at the "
                "edges: save them as PNG, and resize with the nearest neighbour."
            )
    palette = {value: colour.tolist() for value, (_, colour) in seen.items()}
    proposal = _proposal(first.kind, sorted(pixels), palette)
    write_json(class_file, proposal)
    meanings = {one["value"]: f"{i:3} {one['name']}" for i, one in enumerate(proposal["classes"])}
    meanings |= {value: "ignored" for value in proposal["ignored"]}
    total = sum(pixels.values())
    lines = [
        f"  {value:>8}  {100 * pixels[_number(value)] / total:6.2f} %  {meaning}"
        for value, meaning in meanings.items()
    ]
    what = "colours" if first.kind == "colours" else "values"
    return "\n".join(
        [
            f"The masks have {len(pixels)} {what} ({first.kind}); proposed ids:",
            *lines,
            f"This is in {class_file}. Look it over (names, order, what is ignored), then give the "
            "same command again to build by it.",
        ]
    )


def _proposal(kind, values, palette):
    """The content of classes.json, for values of masks in their order: black or 0 comes first."""
    void = {0xE0E0C0} if kind == "colours" else {IGNORE_LABEL}  # VOC's border, in both forms.
    if kind != "colours" and set(values) == {0, IGNORE_LABEL}:
        void = set()  # Black and white: two classes.
    classes = []
    for value in (value for value in values if value not in void):
        if kind == "colours":
            colour = [value >> 16, value >> 8 & 255, value & 255]
        else:
            colour = palette[value] if kind == "palette" else voc_palette()[len(classes)].tolist()
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
        if classes["kind"] not in KINDS.values():
            raise ValueError(f"no kind {classes['kind']!r}")
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
        raise ValueError(f"{class_file} has a value or a name twice; take one out.")
    if not 0 < len(names) <= MOST_CLASSES:
        raise ValueError(f"{class_file} has {len(names)} classes; there can be {MOST_CLASSES}.")
    return classes


def class_ids(
    mask: Mask, classes: dict[str, Any], mask_file: pathlib.Path, class_file: pathlib.Path
) -> np.ndarray:
    """A mask -> [H, W] uint8 class ids. ValueError, which names the files, for unknown values."""
    if mask.kind != classes["kind"]:
        raise ValueError(
            f"{mask_file} is a mask of {mask.kind}, but {class_file} is of {classes['kind']}. "
            "Convert the mask, or delete the file to have it proposed again."
        )
    known = {_number(one["value"]): i for i, one in enumerate(classes["classes"])}
    known |= {_number(value): IGNORE_LABEL for value in classes["ignored"]}
    line, lengths = runs(mask.values)
    values, inverse = np.unique(line, return_inverse=True)
    if unknown := [int(value) for value in values if int(value) not in known]:
        shown = ", ".join(str(_written(classes["kind"], value)) for value in unknown[:5])
        raise ValueError(
            f"{mask_file} holds {shown}, which {class_file} does not know. Add it there as a class "
            "or under ignored, or mend the mask."
        )
    ids = np.array([known[int(value)] for value in values], np.uint8)
    return np.repeat(ids[inverse], lengths).reshape(mask.values.shape)
