"""Fonts for text in images: names of classes may be in any script."""

import functools
import io
import pathlib
import unicodedata

import matplotlib
from matplotlib.font_manager import findSystemFonts
from matplotlib.ft2font import FT2Font
from PIL import ImageFont, features


@functools.cache
def find_font(text: str, size: int) -> ImageFont.FreeTypeFont | None:
    """A text -> a font of a size in pixels that has all of its characters; None if there is none.

    Pillow's own font comes first, then DejaVu Sans, which Matplotlib brings, then installed fonts.
    """
    if _needs_shaping(text) and not features.check("raqm"):
        return None
    own = ImageFont.load_default(size)
    if _has_characters(io.BytesIO(own.font_bytes), text):
        return own
    for file in _font_files():
        try:
            if _has_characters(file, text):
                return ImageFont.truetype(file, size)
        except (OSError, RuntimeError):
            continue  # Damaged, or of bitmaps of another size, as fonts of emoji are.
    return None


def _has_characters(font_file, text):
    """Whether a font has every character of a text."""
    font = FT2Font(font_file)
    return all(font.get_char_index(ord(character)) for character in text if character != " ")


def _needs_shaping(text):
    """Whether letters of a text join, combine or run from right to left: only Raqm draws those."""
    return any(
        unicodedata.bidirectional(character) in ("R", "AL")
        or unicodedata.category(character) in ("Mn", "Mc")
        for character in text
    )


@functools.cache
def _font_files():
    """Files of fonts, the plainest first."""

    def plainness(file):
        name = pathlib.Path(file).name.lower()
        return "regular" not in name, "sans" not in name, name

    # Apple's LastResort has a box for every character.
    installed = [file for file in findSystemFonts() if "lastresort" not in file.lower()]
    dejavu = pathlib.Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return [str(dejavu), *sorted(installed, key=plainness)]
