"""Your own masks: their files are read, and classes.json is proposed from the values in them."""

import collections
import functools
import itertools
import pathlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from data.classes import IGNORE_LABEL, voc_palette
from data.files import write_json
from data.image_files import read_samples
from data.soft_edges import find_soft_pixels
from data.terminal import percent, table, track

# By kind of masks: what their values are.
VALUES_TEXT = {"colors": "colors", "indices": "gray values", "palette": "values of a palette"}
MAX_CLASSES = 255  # Ids 0 to 254; 255 is IGNORE_LABEL.
VOC_BORDER_COLOR = 0xE0E0C0  # Of VOC's palette, as 0xRRGGBB.
VOC_BORDER_RGB = [*VOC_BORDER_COLOR.to_bytes(3, "big")]
MIN_SOFT_SHARE = 0.9  # Of a value's pixels; from here on it is a mixture, not a class. Ours.
# What a JPEG of high quality makes of a gray value: others near it, which are far rarer. Ours.
ROUNDING_DISTANCE = 8
ROUNDING_RATIO = 10
# Drops transparency first: Pillow would keep one transparent color in the new file.
TO_COLORS = 'Image.open(file).convert("RGBA").convert("RGB").save(file)'


class ClassesProposed(Exception):
    """classes.json was written; only the user knows the names that belong in it."""


class Mask(NamedTuple):
    """A mask as its file has it."""

    kind: str  # A key of VALUES_TEXT.
    values: np.ndarray  # [H, W] int32: indices, or 0xRRGGBB.
    palette: np.ndarray  # [256, 3] uint8; black if the file has none.


class Palettes:
    """The colors of values, by the palettes of the masks seen so far: one value, one color."""

    def __init__(self) -> None:
        self.first_seen: dict[int, tuple[pathlib.Path, np.ndarray]] = {}  # File and color by value.
        self.share = False  # Whether a mask has two values of one color.

    def add(self, mask: Mask, values: list[int], file: pathlib.Path) -> None:
        """A mask, its distinct values and its file; ValueError if another mask contradicts it.

        Masks without a palette have black for every value.
        """
        self.share = self.share or values_share_a_color(mask, values)
        for value in values:
            color = mask.palette[value % 256]
            first_file, first_color = self.first_seen.setdefault(value, (file, color))
            if (first_color != color).any():
                raise ValueError(
                    f"{file} and {first_file} have different colors for the value {value}. If the "
                    f"colors are right, {describe_to_colors(self.share)}, and run the command "
                    "again without a classes.json. If the values are right, write one that says "
                    '"palette": null; docs/data.md shows one.'
                )


def values_share_a_color(mask: Mask, values: Iterable[int]) -> bool:
    """A mask and its values -> whether two have one color of its palette: colors would merge them.

    An index that the palette has no color for is black.
    """
    colors = [bytes(mask.palette[value]) for value in values] if mask.kind == "palette" else []
    return len({*colors}) < len(colors)


def describe_to_colors(share: bool) -> str:
    """How to convert masks with a palette to colors, or to others where values share a color."""
    if share:
        return (
            "create all masks with a palette again, with another color for each class: values "
            "share a color, so a conversion to colors would merge classes"
        )
    return f"convert all masks with a palette to colors, {TO_COLORS}"


class MaskValues(NamedTuple):
    """The values of a set of masks."""

    kind: str  # A key of VALUES_TEXT.
    pixels: dict[int, int]  # By value: number of pixels.
    palette: dict[int, list[int]]  # By value: its color in the masks' palettes.
    soft: dict[int, int]  # By value: number of pixels that look like mixtures of two others.
    files: dict[int, pathlib.Path]  # By value: the first mask that has it.


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
      ValueError: No classes can be proposed: see count_values and check_soft_edges; or the masks
        hold a single value.
    """
    found = count_values(masks)
    if len(found.pixels) < 2:
        raise ValueError(
            f"All {len(masks)} masks hold the single value "
            f"{format_value(found.kind, next(iter(found.pixels)))}: with one class there is "
            "nothing to learn. Add masks of another class."
        )
    check_soft_edges(found, class_file)
    classes = assign_classes(found)
    write_json(class_file, classes)
    return _describe_proposal(classes, found, class_file)


def count_values(masks: list[pathlib.Path]) -> MaskValues:
    """Masks' files -> the values in all of them.

    Args:
      masks: the masks' files, at least one.

    Returns:
      The kind of the masks; each value's number of pixels, its color in the palettes, how many of
      its pixels look like mixtures, and the first mask that has it.

    Raises:
      ValueError: The masks differ in kind, have contradictory palettes, or have too many values.
    """
    kind = None
    pixels: collections.Counter[int] = collections.Counter()
    soft: collections.Counter[int] = collections.Counter()
    palettes = Palettes()
    for file in track(masks, "reading masks", len(masks)):
        mask = read_mask(file)
        kind = kind or mask.kind
        if mask.kind != kind:
            share = palettes.share or values_share_a_color(mask, np.unique(mask.values))
            raise ValueError(
                f"{file} is a mask of {VALUES_TEXT[mask.kind]}, but {masks[0]} of "
                f"{VALUES_TEXT[kind]}. {_describe_conversion({kind, mask.kind}, share)}"
            )
        values, inverse, lengths = find_unique_runs(mask.values)
        counts = np.bincount(inverse, lengths).astype(int)
        pixels.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
        palettes.add(mask, values.tolist(), file)
        if len(pixels) > MAX_CLASSES + 1:
            raise ValueError(
                f"{file}: {len(pixels)} values so far; there can be at most {MAX_CLASSES} classes. "
                "Masks that were once saved as JPEG or resized with interpolation have blended "
                "colors at edges: save them as PNG, and resize with nearest neighbor."
            )
        is_soft = find_soft_pixels(mask.values, functools.partial(_colors_of, mask))
        soft.update(mask.values[is_soft].tolist())
    return MaskValues(
        kind,
        pixels,
        {value: color.tolist() for value, (_, color) in palettes.first_seen.items()},
        soft,
        {value: file for value, (file, _) in palettes.first_seen.items()},
    )


def _describe_conversion(kinds, share):
    """Two kinds of masks in one folder -> how to make them one. `share`: see describe_to_colors."""
    if kinds == {"palette", "colors"}:
        return f"To make them one, {describe_to_colors(share)}."
    if kinds == {"palette", "indices"}:
        return (
            'If both hold the same class ids, write classes.json yourself, without "kind"; '
            "docs/data.md shows one."
        )
    return "Create them again in one form, or remove one kind with its images."


def _colors_of(mask, values):
    """A mask and some of its values, [N] -> [N, C]: their colors, or the gray values themselves."""
    if mask.kind == "palette":
        return mask.palette[values]
    if mask.kind == "colors":
        return (values[:, None] >> np.array([16, 8, 0])) & 255
    return values[:, None]


def check_soft_edges(found: MaskValues, class_file: pathlib.Path) -> None:
    """Raises ValueError, which names them, for values that are nothing but mixtures of others.

    They are where masks were drawn or resized with smoothing, or were once JPEGs. class_file is
    where the user may list them all the same.
    """
    mixtures = sorted(v for v, n in found.soft.items() if n >= MIN_SOFT_SHARE * found.pixels[v])
    if not mixtures:
        return
    shown = ", ".join(
        f"{format_value(found.kind, value)} in {found.files[value]}" for value in mixtures[:3]
    )
    raise ValueError(
        f"{len(mixtures)} of the {len(found.pixels)} {VALUES_TEXT[found.kind]} are mixtures of "
        f"others, found only where one value turns into another: {shown}. If they are classes, "
        f"which are thin, list all values in {class_file} by hand; docs/data.md shows one. If they "
        "are soft edges, from smoothing or from JPEG files, create the masks again: draw without "
        "antialiasing, resize with nearest neighbor. Or list them in that file too, each with the "
        'nearer class, as in "value": [1, 2], or under "ignored".'
    )


def assign_classes(found: MaskValues) -> dict[str, Any]:
    """Values of masks -> the content of classes.json: ids in the order of values, 0 or black first.

    That one is named background; the names of the others are for the user to give. VOC's border is
    ignored where the masks have one; see find_border. Where values share a color of the palette,
    the classes have VOC's colors; `palette` keeps the masks' own.
    """
    border, is_ignored = find_border(found)
    ignored = [border] if is_ignored else []
    classes = []
    for value in sorted(found.pixels.keys() - {*ignored}):
        if found.kind == "colors":
            color = [value >> 16, value >> 8 & 255, value & 255]
        elif found.kind == "palette" and not _share_a_color(found):
            color = found.palette[value]
        else:
            color = voc_palette()[len(classes)].tolist()
        name = f"class_{len(classes)}" if value else "background"
        classes.append({"name": name, "color": color, "value": format_value(found.kind, value)})
    content = {
        "kind": found.kind,
        "classes": classes,
        "ignored": [format_value(found.kind, value) for value in ignored],
    }
    if found.kind == "palette":
        colors = {str(v): f"#{bytes(found.palette[v]).hex()}" for v in sorted(found.palette)}
        content["palette"] = colors
    return content


def _share_a_color(found):
    """Values of masks with a palette -> whether two of them have one color."""
    colors = [bytes(color) for color in found.palette.values()]
    return found.kind == "palette" and len({*colors}) < len(colors)


def find_border(found: MaskValues) -> tuple[int | None, bool]:
    """Values of masks -> the one that may be VOC's border, or None, and whether it is ignored.

    VOC's border is 255, or VOC's color of it. A border is thin: without that color, 255 is a class
    where it is the most frequent value beside black. So it is beside a single other value, as in
    masks of black and white.
    """
    border = VOC_BORDER_COLOR if found.kind == "colors" else IGNORE_LABEL
    if border not in found.pixels or len(found.pixels) == 2:
        return None, False
    has_color = border == VOC_BORDER_COLOR or found.palette[border] == VOC_BORDER_RGB
    others = [count for value, count in found.pixels.items() if value not in (0, border)]
    return border, has_color or found.pixels[border] < max(others)


def _describe_proposal(classes, found, class_file):
    """Content of classes.json, and what it is made from -> text for the user, with a table."""
    pixels = found.pixels
    entries = [
        (one["value"], f"#{bytes(one['color']).hex()}", one["name"]) for one in classes["classes"]
    ]
    entries += [(value, "-", "(ignored)") for value in classes["ignored"]]
    total = sum(pixels.values())
    shares = {str(format_value(found.kind, v)): percent(n / total) for v, n in pixels.items()}
    rows = [(str(value), color, f"{shares[str(value)]} %", name) for value, color, name in entries]
    return (
        f"The masks have {len(pixels)} {VALUES_TEXT[classes['kind']]}. Proposed classes:\n"
        f"{table([('value', 'color', 'pixels', 'name'), *rows])}\n"
        f"{_describe_border(found)}{_describe_colors(found)}{_describe_rounding(found)}"
        f"The proposal is in {class_file}."
    )


def _describe_border(found):
    """Values of masks -> a line on the value that may be VOC's border; empty without one."""
    border, is_ignored = find_border(found)
    if border is None:
        return ""
    value = format_value(found.kind, border)
    if is_ignored:
        return (
            f"{value} is ignored, as VOC's border between objects: its pixels are neither trained "
            "on nor scored.\nIf it is a class, move it to the classes.\n"
        )
    return (
        f"{value} is a class, as it is the most frequent value beside black. If it is a border, "
        "move it to ignored:\nits pixels are then neither trained on nor scored.\n"
    )


def _describe_colors(found):
    """Values of masks -> a line on colors that are not the masks' own; empty without."""
    if not _share_a_color(found):
        return ""
    return (
        "Values share a color in the masks' palettes, so the classes are displayed in VOC's colors."
        "\n"
    )


def _describe_rounding(found):
    """Values of masks -> a line on those that a JPEG may have made; empty without."""
    rounded = find_rounded(found)
    if not rounded:
        return ""
    kept = ", ".join(str(value) for value in sorted(found.pixels.keys() - {*rounded})[:5])
    return (
        f"warning: {len(rounded)} values, such as {rounded[-1]}, look like rounding of {kept}, as "
        "in masks that were once JPEGs.\nIf so, create the masks again, or move these values into "
        'the list of the nearer class, as in "value": [254, 255].\n'
    )


def find_rounded(found: MaskValues) -> list[int]:
    """Values of gray masks -> those that a JPEG may have made of the others, in order.

    They are rare and near a frequent value, while frequent values are far from each other: ids of
    classes are not. Without such values over 128 there are none.
    """
    pixels = found.pixels
    rounded = [
        value
        for value in sorted(pixels)
        if any(
            pixels.get(other, 0) >= ROUNDING_RATIO * pixels[value]
            for other in range(value - ROUNDING_DISTANCE, value + ROUNDING_DISTANCE + 1)
        )
    ]
    kept = sorted(pixels.keys() - {*rounded})
    is_apart = all(b - a > 2 * ROUNDING_DISTANCE for a, b in itertools.pairwise(kept))
    is_suspicious = found.kind == "indices" and rounded and rounded[-1] > 128 and is_apart
    return rounded if is_suspicious else []


def find_unique_runs(values):
    """[H, W] -> its distinct values, and of each run of equal pixels the value's index and length.

    Runs go row after row. There are far fewer of them than pixels, which makes np.unique fast.
    """
    line = values.ravel()
    starts = np.flatnonzero(np.concatenate([[True], line[1:] != line[:-1]]))
    unique, inverse = np.unique(line[starts], return_inverse=True)
    return unique, inverse, np.diff(np.concatenate([starts, [line.size]]))


def format_value(kind, value):
    """A value of a mask -> its form in classes.json: an index, or #rrggbb."""
    return f"#{value:06x}" if kind == "colors" else value
