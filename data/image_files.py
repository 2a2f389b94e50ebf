"""Image files as they are stored: opened within a limit; the samples of PNGs of class ids."""

import contextlib
import io
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from data.terminal import first_line

MAX_MEGAPIXELS = 178  # Of one image. TensorFlow decodes no JPEG of 2**29 bytes, 179 megapixels.
# Pillow has two limits of its own, and warns at the lower one; open_image has one.
Image.MAX_IMAGE_PIXELS = None
# Around the text of TensorFlow's errors: the name of the node before it, of the operation after it.
TENSORFLOW_FRAME = re.compile(r"^\{\{function_node .*?\}\} ?| \[Op:\w+\].*$")
PNG_START = b"\x89PNG\r\n\x1a\n"
# By the color type of a PNG's header: what its samples are.
GRAY, RGB, PALETTE, GRAY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
COLOR_TYPES = {
    GRAY: "gray",
    RGB: "RGB",
    PALETTE: "palette",
    GRAY_ALPHA: "gray with alpha",
    RGB_ALPHA: "RGB with alpha",
}


class Samples(NamedTuple):
    """The samples of a PNG, as they are stored."""

    values: np.ndarray  # [H, W] uint8 or uint16 gray values or indices; or [H, W, 3] uint8 RGB.
    palette: np.ndarray | None  # [256, 3] uint8, black where the file has no color; or None.


def open_image(content: bytes, file: pathlib.Path, formats: Sequence[str]) -> Image.Image:
    """A file's bytes -> the image, of which only the header is read.

    Args:
      content: the file's bytes.
      file: its path, for error messages.
      formats: Pillow's names of the formats that are accepted.

    Returns:
      The image. Decode it within named_errors.

    Raises:
      ValueError: The file is of another format or damaged, or has over MAX_MEGAPIXELS.
    """
    with named_errors(file):
        try:
            image = Image.open(io.BytesIO(content), formats=formats)
        except UnidentifiedImageError:
            raise ValueError(f"it is damaged, or not a {' or '.join(formats)}") from None
    megapixels = image.width * image.height / 1e6
    if megapixels > MAX_MEGAPIXELS:
        raise ValueError(
            f"{file} has {image.width} x {image.height} pixels, which are {megapixels:.1f} "
            f"megapixels; images and masks may have {MAX_MEGAPIXELS}. Scale it down, and a "
            "training image together with its mask."
        )
    return image


@contextlib.contextmanager
def named_errors(file: pathlib.Path) -> Iterator[None]:
    """Any error of a decoder inside -> a ValueError that names the file."""
    try:
        yield
    except Exception as error:  # Pillow's parsers raise any type of error for damaged files.
        said = TENSORFLOW_FRAME.sub("", first_line(error)).rstrip(".")
        raise ValueError(f"{file} cannot be read: {said}. Download or save it again.") from error


def read_file(file: pathlib.Path) -> bytes:
    """A file -> its bytes. Raises FileNotFoundError, which says what to do, if it is missing."""
    try:
        return file.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"{file} is missing. Unpack the originals again.") from None


def png_header(content: bytes) -> tuple[int, int]:
    """A PNG's bytes -> its bits per sample and its color type, a key of COLOR_TYPES."""
    return content[24], content[25]


def read_samples(file: pathlib.Path) -> Samples:
    """A PNG of class ids or of colors -> its samples as stored, whatever its bit depth.

    Gray values are not scaled: 2 bits are 0 to 3. Alpha is dropped if it is opaque everywhere, and
    a tRNS chunk always.

    Raises:
      FileNotFoundError: The file is missing.
      ValueError: It is not a PNG, is damaged, is of 16-bit colors, or has transparent pixels.
    """
    content = read_file(file)
    if not content.startswith(PNG_START):
        raise ValueError(
            f"{file} cannot be read: it is not a PNG. Labels and masks must be PNGs. Create it "
            "again from the original; the values of a JPEG are unreliable."
        )
    image = open_image(content, file, ["PNG"])
    depth, color_type = png_header(content)
    if depth == 16 and color_type != GRAY:
        raise ValueError(
            f"{file} is a PNG of 16-bit {COLOR_TYPES[color_type]} samples; a label may have 16 "
            "bits only if it is gray. Export it again as 8-bit RGB, palette or gray."
        )
    with named_errors(file):
        image.load()
        values = np.array(image)
    if color_type in (GRAY_ALPHA, RGB_ALPHA):
        if (values[..., -1] != 255).any():
            raise ValueError(
                f"{file} has transparent pixels, whose class is not known. Export it again "
                "without transparency (without an alpha channel)."
            )
        values = values[..., 0] if color_type == GRAY_ALPHA else values[..., :3]
    if color_type == GRAY and depth < 16:  # Pillow scales 2 and 4 bits to 0..255.
        values = values.astype(np.uint8) // (255 // (2**depth - 1) if 1 < depth < 8 else 1)
    return Samples(values, full_palette_of(image) if color_type == PALETTE else None)


def full_palette_of(image: Image.Image) -> np.ndarray:
    """A palette image -> its colors, [256, 3] uint8, black where it has none."""
    palette = np.zeros((256, 3), np.uint8)
    colors = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    palette[: len(colors)] = colors
    return palette
