"""Classes of your own masks: masks -> a proposed classes.json; masks and classes.json -> class ids.

classes.json holds {kind, classes: [{name, color, value}], ignored: [value]}; a value is an index,
or #rrggbb where kind is "colors".
"""

import json
import pathlib
from typing import Any, NamedTuple

import numpy as np

from data.classes import IGNORE_LABEL, voc_palette
from data.files import write_json
from data.image_files import read_samples
from data.terminal import percent, table, track

# By kind of masks: what their values are.
VALUES_TEXT = {"colors": "colors", "indices": "gray values", "palette": "values of a palette"}
MAX_CLASSES = 255  # Ids 0 to 254; 255 is IGNORE_LABEL.
VOC_BORDER_COLOR = 0xE0E0C0  # Of VOC's palette, as 0xRRGGBB.


class ClassesProposed(Exception):
    """classes.json was written; only the user knows the names that belong into it."""


class Mask(NamedTuple):
    """A mask as its file has it."""

    kind: str  # A key of VALUES_TEXT.
    values: np.ndarray  # [H, W] int32: indices, or 0xRRGGBB.
    palette: np.ndarray  # [256, 3] uint8; black if the file has none.


class MaskValues(NamedTuple):
    """The values of a set of masks."""

    kind: str  # A key of VALUES_TEXT.
    pixels: dict[int, int]  # By value: number of pixels.
    palette: dict[int, list[int]]  # By value: its color in the masks' palettes.


def read_mask(file: pathlib.Path) -> Mask:
    """A mask's file -> the mask, with its samples as stored. Raises what read_samples raises."""
    values, palette = read_samples(file)
    if palette is not None:
        return Mask("palette", values.astype(np.int32), palette)
    black = np.zeros((256, 3), np.uint8)
    if values.ndim == 2:
        return Mask("indices", values.astype(np.int32), black)
    return Mask("colors", values @ np.array([1 << 16, 1 << 8, 1], np.int32), black)


def propose_classes(masks: list[pathlib.Path], class_file: pathlib.Path) -> str:
    """Masks -> a description of the classes that it proposes and writes to class_file.

    Args:
      masks: the masks' files.
      class_file: where to write the proposal.

    Returns:
      Text for the user: each value, its color, its share of the pixels, and its proposed name.

    Raises:
      ValueError: No classes can be proposed; see count_values.
    """
    found = count_values(masks)
    classes = assign_classes(found)
    write_json(class_file, classes)
    return _describe_proposal(classes, found.pixels, class_file)


def count_values(masks: list[pathlib.Path]) -> MaskValues:
    """Masks' files -> the values in all of them.

    Args:
      masks: the masks' files, at least one.

    Returns:
      The kind of the masks; each value's number of pixels, and its color in the palettes.

    Raises:
      ValueError: The masks differ in kind, have contradictory palettes, or have too many values.
    """
    kind = None
    pixels: dict[int, int] = {}
    first_seen: dict[int, tuple[pathlib.Path, np.ndarray]] = {}  # By value: its file and color.
    for file in track(masks, "reading masks", len(masks)):
        mask = read_mask(file)
        kind = kind or mask.kind
        if mask.kind != kind:
            raise ValueError(
                f"{file} is a mask of {mask.kind}, but {masks[0]} of {kind}. Convert one of them."
            )
        values, inverse, lengths = _unique_runs(mask.values)
        counts = np.bincount(inverse, lengths).astype(int)
        for value, count in zip(values.tolist(), counts.tolist(), strict=True):
            pixels[value] = pixels.get(value, 0) + count
            color = mask.palette[value % 256]  # Without a palette, all are black.
            first_file, first_color = first_seen.setdefault(value, (file, color))
            if (first_color != color).any():
                raise ValueError(
                    f"{file} and {first_file} have different colors for the value {value}, so the "
                    "values cannot be class ids. Convert all masks to colors: "
                    'Image.open(file).convert("RGB").'
                )
        if len(pixels) > MAX_CLASSES + 1:
            raise ValueError(
                f"{file}: {len(pixels)} values so far; there can be at most {MAX_CLASSES} classes. "
                "Masks that were once saved as JPEG or resized with interpolation have blended "
                "colors at edges: save them as PNG, and resize with nearest neighbor."
            )
    return MaskValues(kind, pixels, {v: color.tolist() for v, (_, color) in first_seen.items()})


def assign_classes(found: MaskValues) -> dict[str, Any]:
    """Values of masks -> the content of classes.json: ids in the order of values, 0 or black first.

    That one is named background; the names of the others are for the user to give. VOC's border is
    ignored: 255, or its color.
    """
    ignored = VOC_BORDER_COLOR if found.kind == "colors" else IGNORE_LABEL
    if found.kind != "colors" and found.pixels.keys() == {0, IGNORE_LABEL}:
        ignored = None  # Black and white: two classes.
    classes = []
    for value in sorted(found.pixels.keys() - {ignored}):
        if found.kind == "colors":
            color = [value >> 16, value >> 8 & 255, value & 255]
        elif found.kind == "palette":
            color = found.palette[value]
        else:
            color = voc_palette()[len(classes)].tolist()
        name = f"class_{len(classes)}" if value else "background"
        classes.append({"name": name, "color": color, "value": _format_value(found.kind, value)})
    return {
        "kind": found.kind,
        "classes": classes,
        "ignored": [_format_value(found.kind, ignored)] if ignored in found.pixels else [],
    }


def _describe_proposal(classes, pixels, class_file):
    """Content of classes.json, and pixels by value -> text for the user, with a table."""
    entries = [
        (one["value"], f"#{bytes(one['color']).hex()}", one["name"]) for one in classes["classes"]
    ]
    entries += [(value, "-", "(ignored)") for value in classes["ignored"]]
    total = sum(pixels.values())
    rows = [
        (str(value), color, f"{percent(pixels[_parse_value(value)] / total)} %", name)
        for value, color, name in entries
    ]
    return (
        f"The masks have {len(pixels)} {VALUES_TEXT[classes['kind']]}. Proposed classes:\n"
        f"{table([('value', 'color', 'pixels', 'name'), *rows])}\n"
        f"The proposal is in {class_file}."
    )


def read_classes(class_file: pathlib.Path) -> dict[str, Any]:
    """classes.json -> its content. Raises ValueError, which names the file, if it is invalid."""
    try:
        classes = json.loads(class_file.read_text())
        if classes["kind"] not in VALUES_TEXT:
            raise ValueError(f"unknown kind {classes['kind']!r}")
        values = [one["value"] for one in classes["classes"]] + classes["ignored"]
        numbers = [_parse_value(value) for value in values]
        names = [one["name"] for one in classes["classes"]]
        for one in classes["classes"]:
            red, green, blue = one["color"]
            bytes([red, green, blue])  # ValueError outside 0..255.
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{class_file} is invalid: {error!r}. Fix it, or delete it and run the command again "
            "for a new proposal."
        ) from error
    if len(set(numbers)) < len(numbers) or len(set(names)) < len(names):
        raise ValueError(f"{class_file} has a value or a name twice; delete one of them.")
    if not 0 < len(names) <= MAX_CLASSES:
        raise ValueError(f"{class_file} has {len(names)} classes; there can be 1 to {MAX_CLASSES}.")
    return classes


def map_to_class_ids(
    mask: Mask, classes: dict[str, Any], mask_file: pathlib.Path, class_file: pathlib.Path
) -> np.ndarray:
    """A mask -> [H, W] uint8 class ids or 255.

    Args:
      mask: the mask.
      classes: content of classes.json.
      mask_file: the mask's file, for error messages.
      class_file: the file of classes, for error messages.

    Returns:
      [H, W] uint8: positions in classes["classes"], or IGNORE_LABEL for ignored values.

    Raises:
      ValueError: The mask is of another kind, or has values that classes.json does not list.
    """
    if mask.kind != classes["kind"]:
        raise ValueError(
            f"{mask_file} is a mask of {mask.kind}, but {class_file} is of {classes['kind']}. "
            "Convert the mask, or delete the file and run the command again for a new proposal."
        )
    known = {_parse_value(one["value"]): i for i, one in enumerate(classes["classes"])}
    known |= {_parse_value(value): IGNORE_LABEL for value in classes["ignored"]}
    values, inverse, lengths = _unique_runs(mask.values)
    if unknown := [int(value) for value in values if int(value) not in known]:
        shown = ", ".join(str(_format_value(classes["kind"], value)) for value in unknown[:5])
        raise ValueError(
            f"{mask_file} holds {shown}, which {class_file} does not list. Add it there as a class "
            "or under ignored, or fix the mask."
        )
    ids = np.array([known[int(value)] for value in values], np.uint8)
    return np.repeat(ids[inverse], lengths).reshape(mask.values.shape)


def _unique_runs(values):
    """[H, W] -> its distinct values, and of each run of equal pixels the value's index and length.

    Runs go row after row. There are far fewer of them than pixels, which makes np.unique fast.
    """
    line = values.ravel()
    starts = np.flatnonzero(np.concatenate([[True], line[1:] != line[:-1]]))
    unique, inverse = np.unique(line[starts], return_inverse=True)
    return unique, inverse, np.diff(np.concatenate([starts, [line.size]]))


def _format_value(kind, value):
    """A value of a mask -> its form in classes.json: an index, or #rrggbb."""
    return f"#{value:06x}" if kind == "colors" else value


def _parse_value(value):
    """A value of classes.json -> its form in Mask.values."""
    return int(value[1:], 16) if isinstance(value, str) else value
