"""Anyone's photos: whatever a camera, a scanner or the web makes -> [H, W, 3] uint8 RGB."""

import glob
import math
import pathlib
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
FORMATS = ("JPEG", "PNG", "WEBP")
ROW = 24  # Pixels of a line of the legend.
MAX_OVERLAY = 16_384  # Pixels of a side; a JPEG holds no more than 65,500.


def find_photos(patterns: Sequence[str]) -> list[pathlib.Path]:
    """Files, folders and globs -> the photos they name, sorted, each once.

    Of a folder or a glob it is what ends as SUFFIXES do; ** stands for folders in folders. Raises
    FileNotFoundError for one that names none.
    """
    photos = set()
    for pattern in patterns:
        path = pathlib.Path(pattern)
        if path.is_dir():
            found = set(path.iterdir())
        else:
            fitting = map(pathlib.Path, glob.glob(pattern, recursive=True))
            found = {path} if path.exists() else set(fitting)
        if found != {path}:
            found = {file for file in found if file.suffix.lower() in SUFFIXES}
        found = {file.absolute() for file in found if not file.is_dir()}
        if not found:
            raise FileNotFoundError(
                f"{pattern} names no photo: no file, no folder with {', '.join(SUFFIXES)} in it, "
                "no pattern that fits one."
            )
        photos |= found
    return sorted(photos)


def read_photo(file: pathlib.Path) -> np.ndarray:
    """A JPEG, PNG or WebP -> [H, W, 3] uint8 RGB, turned as its EXIF tag says.

    Grey, CMYK, palettes and 16 bits are converted; what is transparent is seen on white. Raises
    ValueError where Pillow cannot read it to its last pixel. Of a JPEG with wrong bytes in its
    middle Pillow does not tell.
    """
    try:
        with Image.open(file, formats=FORMATS) as picture:
            picture = ImageOps.exif_transpose(picture)
            if picture.mode.startswith("I"):  # 16 bits, which Pillow's own conversion cuts off.
                picture = _in_8_bits(picture)
            if picture.has_transparency_data:
                white = Image.new("RGBA", picture.size, "white")
                picture = Image.alpha_composite(white, picture.convert("RGBA"))
            return np.asarray(picture.convert("RGB"))
    except Exception as error:  # Of damaged files Pillow raises whatever its parsers stumble over.
        raise ValueError(f"{file} cannot be read: {error}") from error


def _in_8_bits(picture):
    """A grey picture of 16 bits -> of 8; the value that it calls transparent becomes white."""
    values = np.asarray(picture)
    transparent = values == picture.info.get("transparency", -1)
    return Image.fromarray(np.where(transparent, 255, (values / 257).round()).astype(np.uint8))


def overlay(
    photo: np.ndarray, class_ids: np.ndarray, palette: np.ndarray, class_names: Sequence[str]
) -> Image.Image:
    """[H, W, 3] photo, [H, W] class ids -> the photo tinted by class, with a legend below.

    Background, which is class 0 where it is called so, is left as it is. A photo with a
    side over MAX_OVERLAY is shown by every second pixel, or fewer.
    """
    step = -(-max(class_ids.shape) // MAX_OVERLAY)
    photo, class_ids = photo[::step, ::step], class_ids[::step, ::step]
    tint = palette[class_ids].astype(np.uint16)
    mixed = ((photo + tint) // 2).astype(np.uint8)
    if class_names[0] == "background":
        mixed = np.where((class_ids == 0)[..., None], photo, mixed)
    present = [k for k in np.unique(class_ids) if class_names[k] != "background"]
    height, width = class_ids.shape
    font, lines, x = ImageFont.load_default(14), [[]], 0
    widths = {k: ROW + font.getlength(class_names[k]) + 12 for k in present}
    legend_width = max([width, *map(math.ceil, widths.values())])
    for k, needed in widths.items():
        if x and x + needed > legend_width:
            lines.append([])
            x = 0
        lines[-1].append((k, x))
        x += needed
    picture = Image.new("RGB", (legend_width, height + ROW * len(lines)), "white")
    picture.paste(Image.fromarray(mixed))
    draw = ImageDraw.Draw(picture)
    for i, line in enumerate(lines):
        top = height + i * ROW
        for k, x in line:
            colour = tuple(palette[k].tolist())
            draw.rectangle((x + 4, top + 5, x + 18, top + 19), fill=colour, outline="black")
            draw.text((x + ROW, top + 3), class_names[k], fill="black", font=font)
    return picture
