"""Users' photos: files as cameras, scanners or web sites write them -> [H, W, 3] uint8 RGB."""

import glob
import pathlib
import sys
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageOps

from data.drawing import class_entries, draw_legend, draw_outlines

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp")
PILLOW_FORMATS = ("JPEG", "PNG", "WEBP")
OVERLAY_UNIT = 600  # Pixels of a photo's shorter side for each pixel of an outline's width.
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
    """[H, W, 3] photo, [H, W] class ids -> the photo tinted and outlined by class, with a legend.

    The legend is below the photo. Outlines and letters are larger on a larger photo.

    Args:
      photo: uint8 RGB.
      class_ids: the photo's classes. Class 0 is not tinted if its name is "background".
      palette: [256, 3] uint8 colors of the classes.
      class_names: names of the classes.

    Returns:
      The overlay. Its legend says "background only" where nothing else is predicted. A photo with
      a side over MAX_OVERLAY_SIDE is subsampled.
    """
    step = -(-max(class_ids.shape) // MAX_OVERLAY_SIDE)
    photo, class_ids = photo[::step, ::step], class_ids[::step, ::step]
    tint = palette[class_ids].astype(np.uint16)
    mixed = ((photo + tint) // 2).astype(np.uint8)
    if class_names[0] == "background":
        mixed = np.where((class_ids == 0)[..., None], photo, mixed)
    scale = max(1, round(min(class_ids.shape) / OVERLAY_UNIT))
    outlined = Image.fromarray(draw_outlines(mixed, class_ids, scale))
    present = [k for k in np.unique(class_ids) if class_names[k] != "background"]
    entries = class_entries(present, palette, class_names) or [("background only", None)]
    legend = draw_legend(entries, outlined.width, scale)
    image = Image.new("RGB", (legend.width, outlined.height + legend.height), "white")
    image.paste(outlined)
    image.paste(legend, (0, outlined.height))
    return image
