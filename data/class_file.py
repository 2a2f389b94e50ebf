"""classes.json, the classes of your own masks: read, checked, and applied to masks.

    {"classes": [{"name": "background", "color": [0, 0, 0], "value": 0},
                 {"name": "cat", "color": [128, 0, 0], "value": [1, 2]}],
     "ignored": [255]}

A value is a number, or "#rrggbb" for masks of colors; a list of values makes one class of them.
`color` is for display. A proposal also keeps what it was made from, which every mask must match:
`kind`, and for masks with a palette `palette`, the color of each value. Palettes must give a value
that is not listed there one color, too; with `"palette": null` their colors do not matter.
"""

import json
import pathlib
import re
from typing import NamedTuple

import numpy as np

from data.classes import IGNORE_LABEL
from data.mask_classes import (
    MAX_CLASSES,
    VALUES_TEXT,
    Mask,
    describe_to_colors,
    find_unique_runs,
    format_value,
    values_share_a_color,
)
from data.terminal import first_line

MAX_VALUE = 65_535  # Of a mask of 16 bits.


class Classes(NamedTuple):
    """The content of classes.json."""

    file: pathlib.Path  # For error messages.
    kind: str | None  # A key of VALUES_TEXT; None for gray values or a palette.
    names: list[str]
    colors: list[list[int]]  # (r, g, b), for display.
    ids: dict[int, int]  # By value as Mask has it: its class id, or IGNORE_LABEL.
    palette: dict[int, str] | None  # By value: its color, #rrggbb, if given; None: any color.


def read_classes(class_file: pathlib.Path) -> Classes:
    """classes.json -> its content. Raises ValueError, which names the file, if it is invalid."""
    try:
        content = json.loads(class_file.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        raise ValueError(f"{class_file} is not valid UTF-8. Save it as UTF-8.") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{class_file} is not valid JSON: {first_line(error)}. Fix it, or delete it and run "
            "the command again for a new proposal."
        ) from error
    try:
        return _parse(class_file, content)
    except ValueError as error:
        raise ValueError(
            f"{class_file} is invalid: {error}. Fix it, or delete it and run the command again for "
            "a new proposal."
        ) from error


def _parse(class_file, content):
    """The JSON of classes.json -> Classes. Raises ValueError for the first thing that is wrong."""
    entries = _get(content, "classes", list, "it")
    kind = _get(content, "kind", str, "it") if "kind" in content else None
    if kind is not None and kind not in VALUES_TEXT:
        raise ValueError(f"unknown kind {kind[:40]!r}; it is one of {', '.join(VALUES_TEXT)}")
    if not 2 <= len(entries) <= MAX_CLASSES:
        raise ValueError(
            f"its number of classes is {len(entries)}; it must be 2 to {MAX_CLASSES}: with one "
            "class there is nothing to learn"
        )
    names, colors, used = [], [], []
    for i, entry in enumerate(entries):
        where = f"class {i}"
        names.append(_check_name(_get(entry, "name", str, where), names, where))
        colors.append(_check_color(_get(entry, "color", list, where), where))
        values = _get(entry, "value", object, where)
        values = values if isinstance(values, list) else [values]
        if not values:
            raise ValueError(f"{where} has no value")
        used += [(value, i, where) for value in values]
    ignored = _get(content, "ignored", list, "it") if "ignored" in content else []
    used += [(value, IGNORE_LABEL, "ignored") for value in ignored]
    if kind is None and isinstance(used[0][0], str):
        kind = "colors"
    ids: dict[int, int] = {}
    for value, class_id, where in used:
        number = _parse_value(value, kind == "colors", where)
        if number in ids:
            raise ValueError(f"it has the value {value} twice; delete one of them")
        ids[number] = class_id
    palette = content.get("palette", {})
    if palette is not None:
        palette = _check_palette(_get({"palette": palette}, "palette", dict, "it"))
    return Classes(class_file, kind, names, colors, ids, palette)


def _get(container, field, kind, where):
    """A JSON object and a field -> its value; ValueError unless it is of that Python type."""
    names = {list: "a list", str: "a text", dict: "an object"}
    if not isinstance(container, dict):
        raise ValueError(f"{where} must be an object, {{...}}")
    if field not in container:
        raise ValueError(f"{where} has no field {field!r}")
    if not isinstance(container[field], kind):
        raise ValueError(f"{field!r} of {where} must be {names[kind]}")
    return container[field]


def _check_name(name, others, where):
    """A name -> the same; ValueError unless it is one line of text, and another than the others."""
    if name.splitlines() != [name] or name != name.strip() or "\0" in name:
        raise ValueError(
            f"the name of {where} must be a line of text without spaces around it; it is "
            f"{name[:40]!r}"
        )
    if name in others:
        raise ValueError(f"it has the name {name[:40]!r} twice; change one of them")
    return name


def _check_color(color, where):
    """A color -> the same; ValueError unless it is three numbers of 0 to 255."""
    if len(color) != 3 or not all(type(part) is int and 0 <= part <= 255 for part in color):
        raise ValueError(f"the color of {where} must be three numbers from 0 to 255")
    return color


def _check_palette(palette):
    """Colors by a value's digits -> colors by the value; ValueError for one that is invalid."""
    for value, color in palette.items():
        if not re.fullmatch("[0-9]{1,3}", value) or not _is_color(color):
            raise ValueError(f'palette must be like {{"0": "#000000"}}; {value[:40]!r} is not')
    return {int(value): color.lower() for value, color in palette.items()}


def _is_color(value):
    return isinstance(value, str) and re.fullmatch("#[0-9a-fA-F]{6}", value) is not None


def _parse_value(value, is_color, where):
    """A value of classes.json -> its form in Mask.values; ValueError for one of another form."""
    if is_color and _is_color(value):
        return int(value[1:], 16)
    if not is_color and type(value) is int and 0 <= value <= MAX_VALUE:
        return value
    form = "a color, #rrggbb" if is_color else f"a number from 0 to {MAX_VALUE}"
    raise ValueError(f"a value of {where} must be {form}; it is {repr(value)[:40]}")


def map_to_class_ids(mask: Mask, classes: Classes, mask_file: pathlib.Path) -> np.ndarray:
    """A mask -> [H, W] uint8 class ids or 255.

    Args:
      mask: the mask.
      classes: content of classes.json.
      mask_file: the mask's file, for error messages.

    Returns:
      [H, W] uint8: class ids, or IGNORE_LABEL for ignored values.

    Raises:
      ValueError: The mask is of another kind than classes.json says, gives a value another color,
        or has values that classes.json does not list.
    """
    _check_kind(mask, classes, mask_file)
    values, inverse, lengths = find_unique_runs(mask.values)
    if unknown := [int(value) for value in values if int(value) not in classes.ids]:
        shown = ", ".join(str(format_value(mask.kind, value)) for value in unknown[:5])
        raise ValueError(
            f"{mask_file} holds {shown}, which {classes.file} does not list. Add it there: as a "
            'class, to the "value" of one, as in "value": [1, 2], or under "ignored". Or fix the '
            "mask."
        )
    if mask.kind == "palette" and classes.palette is not None:
        _check_palette_colors(values.tolist(), mask, classes, mask_file)
    ids = np.array([classes.ids[int(value)] for value in values], np.uint8)
    return np.repeat(ids[inverse], lengths).reshape(mask.values.shape)


def _check_kind(mask, classes, mask_file):
    """Raises ValueError where a mask is of another kind than classes.json says."""
    if mask.kind == classes.kind or (classes.kind is None and mask.kind != "colors"):
        return
    if mask.kind == "palette" and classes.kind == "colors":
        share = values_share_a_color(mask, np.unique(mask.values))
        fix = f"To make it one of colors, {describe_to_colors(share)}."
    elif "colors" in (mask.kind, classes.kind):
        fix = "Create it again in the form of the other masks, or remove it and its image."
    else:
        fix = f'If its values are class ids all the same, delete "kind" in {classes.file}.'
    expected = VALUES_TEXT[classes.kind] if classes.kind else "gray values or values of a palette"
    raise ValueError(
        f"{mask_file} is a mask of {VALUES_TEXT[mask.kind]}, but {classes.file} is of {expected}. "
        f"{fix}"
    )


def _check_palette_colors(values, mask, classes, mask_file):
    """Raises ValueError where a mask's palette gives a value another color than classes.json."""
    share = values_share_a_color(mask, values)
    share = share or len({*classes.palette.values()}) < len(classes.palette)
    for value in values:
        color = f"#{bytes(mask.palette[value]).hex()}"
        if color != classes.palette.get(value, color):
            raise ValueError(
                f"{mask_file} has the color {color} for the value {value}, but {classes.file} has "
                f'{classes.palette[value]} under "palette". If the values are right, and only the '
                f'colors differ, write "palette": null in {classes.file}. If the colors are right, '
                f"{describe_to_colors(share)}, delete {classes.file}, and run the command again."
            )
