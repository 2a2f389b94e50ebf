"""Users' photos: files as cameras, scanners or web sites write them -> [H, W, 3] uint8 RGB."""

import contextlib
import glob
import pathlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image

from data.decoding import (
    FLIPPED_LEFT_RIGHT,
    FLIPPED_UP_DOWN,
    ORIENTATION_TAG,
    SHORT,
    TRANSPOSED,
    decode_png,
)
from data.drawing import class_entries, draw_legend, draw_outlines
from data.image_files import (
    GRAY,
    GRAY_ALPHA,
    RGB,
    RGB_ALPHA,
    named_errors,
    open_image,
    png_header,
    read_file,
)
from data.pictures import image_png

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp")
PILLOW_FORMATS = ("JPEG", "PNG", "WEBP")
OVERLAY_UNIT = 600  # Pixels of a photo's shorter side for each pixel of an outline's width.
MAX_OVERLAY_SIDE = 16_384  # Pixels. JPEG's own limit is 65,500.


def find_photos(patterns: Sequence[str]) -> list[pathlib.Path]:
    """Files, folders and globs -> the photos they name, sorted, without duplicates.

    Folders and globs give only files with one of PHOTO_SUFFIXES; ** matches nested folders. A
    pattern that matches nothing is skipped, with a warning on stderr. Raises FileNotFoundError
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
        print(f"warning: {pattern} matches no photo; skipped.", file=sys.stderr, flush=True)
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


class Photo(NamedTuple):
    """A photo as shards hold it: every decoder gives the pixels of read_photo."""

    content: bytes  # A JPEG or PNG of 8-bit gray or RGB, without transparency and EXIF turn.
    size: tuple[int, int]  # Height and width.
    orientation: int  # EXIF's, by which the file's own pixels were turned: 1 to 8.


def read_photo(file: pathlib.Path) -> np.ndarray:
    """A JPEG, PNG or WebP -> [H, W, 3] uint8 RGB, turned as its EXIF orientation says.

    Gray, CMYK and palette images are converted, and 16 bits divided by 257; transparent pixels are
    put on white. Raises ValueError, which names the file, if not all of it can be decoded, or if it
    has over MAX_MEGAPIXELS. Pillow does not detect corrupt bytes in the middle of a JPEG.
    """
    return _decode(read_file(file), file)[0]


def encode_photo(file: pathlib.Path) -> Photo:
    """A JPEG, PNG or WebP -> a Photo: the file's own bytes where TensorFlow decodes them alike.

    All others become a PNG of the pixels of read_photo. Raises what read_photo raises.
    """
    content = read_file(file)
    image = open_image(content, file, PILLOW_FORMATS)
    if _is_decoded_alike(image, content):
        with contextlib.suppress(tf.errors.InvalidArgumentError), tf.device("cpu"):
            height, width, _ = tf.io.decode_image(content, 3, expand_animations=False).shape
            return Photo(content, (height, width), 1)
    pixels, orientation = _decode(content, file)
    return Photo(image_png(pixels), pixels.shape[:2], orientation)


def read_header(file: pathlib.Path) -> tuple[tuple[int, int], int]:
    """A JPEG, PNG or WebP -> its height and width as stored, and its EXIF orientation.

    Pixels are not decoded, but those of a PNG with EXIF, which may come after them. Raises what
    read_photo raises, for a file whose header cannot be read.
    """
    content = read_file(file)
    image = open_image(content, file, PILLOW_FORMATS)
    with named_errors(file):
        if image.format == "PNG" and b"eXIf" in content:
            image.load()
        orientation = exif_orientation(image.info.get("exif", b""))
    return (image.height, image.width), orientation


def _decode(content, file):
    """A file's bytes -> the pixels of read_photo, and the EXIF orientation."""
    image = open_image(content, file, PILLOW_FORMATS)
    with named_errors(file):
        image.load()  # Of a PNG, it checks all chunks, and reads those after the pixels.
        orientation = exif_orientation(image.info.get("exif", b""))
        if image.format == "PNG":
            depth, color_type = png_header(content)
            has_alpha = color_type in (GRAY_ALPHA, RGB_ALPHA) or "transparency" in image.info
            with tf.device("cpu"):
                pixels = decode_png(content, tf.constant(has_alpha), tf.constant(depth)).numpy()
        elif image.has_transparency_data:
            pixels = np.asarray(_over_white(image))
        else:
            pixels = np.asarray(image.convert("RGB"))
    return turn(pixels, orientation), orientation


def _over_white(image):
    """An image with transparency -> its RGB colors on white; without its EXIF."""
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")


def _is_decoded_alike(image, content):
    """Whether TensorFlow decodes a file as read_photo does, by its header and its EXIF."""
    if image.format == "PNG":
        plain = png_header(content) in ((8, GRAY), (8, RGB)) and b"tRNS" not in content
        return plain and b"eXIf" not in content
    is_jpeg = image.format in ("JPEG", "MPO") and image.mode in ("L", "RGB")
    return is_jpeg and exif_orientation(image.info.get("exif", b"")) == 1


def exif_orientation(exif: bytes) -> int:
    """An EXIF block -> its orientation: 2 to 8 if viewers turn the image, and 1 for all others.

    As in browsers, it is the number of type SHORT in the first directory; 0, 9, text or a damaged
    block mean as stored. XMP is not read.
    """
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "little", b"MM\0*": "big"}.get(exif[:4])
    if order is None:
        return 1

    def number(start, length):
        return int.from_bytes(exif[start : start + length], order)

    directory = number(4, 4)
    for entry in range(directory + 2, directory + 2 + 12 * number(directory, 2), 12):
        is_orientation = (number(entry, 2), number(entry + 2, 2)) == (ORIENTATION_TAG, SHORT)
        if len(exif) >= entry + 12 and is_orientation and number(entry + 4, 4) == 1:
            return number(entry + 8, 2) if 2 <= number(entry + 8, 2) <= 8 else 1
    return 1


def turn(image: np.ndarray, orientation: int) -> np.ndarray:
    """[H, W, ...] as stored, its EXIF orientation -> the image as viewers show it."""
    if orientation in TRANSPOSED:
        image = image.swapaxes(0, 1)
    if orientation in FLIPPED_UP_DOWN:
        image = image[::-1]
    return np.ascontiguousarray(image[:, ::-1] if orientation in FLIPPED_LEFT_RIGHT else image)


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
