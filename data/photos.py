"""Users' photos: files as cameras, scanners or web sites write them -> [H, W, 3] uint8 RGB."""

import glob
import math
import pathlib
import sys
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
PILLOW_FORMATS = ("JPEG", "PNG", "WEBP")
LEGEND_LINE_HEIGHT = 24  # Pixels.
MAX_OVERLAY_SIDE = 16_384  # Pixels. JPEG's own limit is 65,500.


def find_photos(patterns: Sequence[str]) -> list[pathlib.Path]:
    """Files, folders and globs -> the photos they name, sorted, without duplicates.

    Folders and globs give only files with one of PHOTO_SUFFIXES; ** matches nested folders. A
    pattern that matches nothing is passed over with a warning on stderr. Raises FileNotFoundError
    if there are patterns, and all of them match nothing.
    """
    photos, unmatched = set(), []
    for pattern in patterns:
        found = _match_photos(pattern)
        photos |= found
        if not found:
            unmatched.append(pattern)
    if patterns and not photos:
        raise FileNotFoundError(
            "; ".join(f"{pattern} matches no photo" for pattern in unmatched)
            + ". Name a file, a folder, or a pattern; folders and patterns must have files with "
            f"one of {', '.join(PHOTO_SUFFIXES)}."
        )
    for pattern in unmatched:
        print(f"warning: {pattern} matches no photo; passed over.", file=sys.stderr, flush=True)
    return sorted(photos)


def _match_photos(pattern: str) -> set[pathlib.Path]:
    """A file, a folder or a glob -> the absolute paths of its photos."""
    path = pathlib.Path(pattern)
    if path.is_dir():
        found = set(path.iterdir())
    else:
        matches = map(pathlib.Path, glob.glob(pattern, recursive=True))
        found = {path} if path.exists() else set(matches)
    if found != {path}:
        found = {file for file in found if file.suffix.lower() in PHOTO_SUFFIXES}
    return {file.absolute() for file in found if not (file.is_dir() or is_leftover(file))}


def is_leftover(file: pathlib.Path) -> bool:
    """Whether a file is hidden, or one that macOS or Windows leaves beside photos.

    macOS writes ._NAME (with the suffix of a photo), .DS_Store and __MACOSX/; Windows Thumbs.db.
    """
    return file.name.startswith(".") or file.name == "Thumbs.db" or "__MACOSX" in file.parts


def read_photo(file: pathlib.Path) -> np.ndarray:
    """A JPEG, PNG or WebP -> [H, W, 3] uint8 RGB, rotated according to its EXIF tag.

    Gray, CMYK, palette and 16-bit images are converted; transparent ones are put on white. Raises
    ValueError if Pillow cannot decode all of it. Pillow does not detect corrupt bytes in the middle
    of a JPEG.
    """
    try:
        with Image.open(file, formats=PILLOW_FORMATS) as image:
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith("I"):  # 16 bits, which Pillow's own conversion clips.
                image = _to_8_bits(image)
            if image.has_transparency_data:
                white = Image.new("RGBA", image.size, "white")
                image = Image.alpha_composite(white, image.convert("RGBA"))
            return np.asarray(image.convert("RGB"))
    except Exception as error:  # Pillow's parsers raise any type of error for damaged files.
        raise ValueError(f"{file} cannot be read: {error}") from error


def _to_8_bits(image):
    """A gray 16-bit image -> an 8-bit one; its transparent value becomes white."""
    values = np.asarray(image)
    transparent = values == image.info.get("transparency", -1)
    return Image.fromarray(np.where(transparent, 255, (values / 257).round()).astype(np.uint8))


def draw_overlay(
    photo: np.ndarray, class_ids: np.ndarray, palette: np.ndarray, class_names: Sequence[str]
) -> Image.Image:
    """[H, W, 3] photo, [H, W] class ids -> the photo tinted by class, with a legend below.

    Args:
      photo: uint8 RGB.
      class_ids: the photo's classes. Class 0 is not tinted if its name is "background".
      palette: [256, 3] uint8 colors of the classes.
      class_names: names of the classes.

    Returns:
      The overlay. A photo with a side over MAX_OVERLAY_SIDE is subsampled.
    """
    step = -(-max(class_ids.shape) // MAX_OVERLAY_SIDE)
    photo, class_ids = photo[::step, ::step], class_ids[::step, ::step]
    tint = palette[class_ids].astype(np.uint16)
    mixed = ((photo + tint) // 2).astype(np.uint8)
    if class_names[0] == "background":
        mixed = np.where((class_ids == 0)[..., None], photo, mixed)
    present = [k for k in np.unique(class_ids) if class_names[k] != "background"]
    legend = _draw_legend(present, palette, class_names, class_ids.shape[1])
    image = Image.new("RGB", (legend.width, class_ids.shape[0] + legend.height), "white")
    image.paste(Image.fromarray(mixed))
    image.paste(legend, (0, class_ids.shape[0]))
    return image


def _draw_legend(class_ids, palette, class_names, min_width):
    """Class ids -> an image with their colors and names, in as few lines as its width allows."""
    font, lines, x = ImageFont.load_default(14), [[]], 0
    widths = {k: LEGEND_LINE_HEIGHT + font.getlength(class_names[k]) + 12 for k in class_ids}
    width = max([min_width, *map(math.ceil, widths.values())])
    for k, entry_width in widths.items():
        if x and x + entry_width > width:
            lines.append([])
            x = 0
        lines[-1].append((k, x))
        x += entry_width
    image = Image.new("RGB", (width, LEGEND_LINE_HEIGHT * len(lines)), "white")
    draw = ImageDraw.Draw(image)
    for i, line in enumerate(lines):
        top = i * LEGEND_LINE_HEIGHT
        for k, x in line:
            color = tuple(palette[k].tolist())
            draw.rectangle((x + 4, top + 5, x + 18, top + 19), fill=color, outline="black")
            draw.text((x + LEGEND_LINE_HEIGHT, top + 3), class_names[k], fill="black", font=font)
    return image
