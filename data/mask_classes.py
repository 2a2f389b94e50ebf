"""Masks of your own -> classes.json, and masks and classes.json -> class ids."""

import json
import pathlib
from typing import Any, NamedTuple

import numpy as np

from data.classes import IGNORE_LABEL, voc_palette
from data.features import open_picture
from data.files import write_json
from data.terminal import track

KINDS = {"P": "palette", "L": "indices", "1": "indices", "RGB": "colours"}  # By Pillow's mode.
MOST_CLASSES = 255  # 255 itself is taken.


class ClassesProposed(Exception):
    """classes.json was written, and is to be looked over before anything is built by it."""


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
