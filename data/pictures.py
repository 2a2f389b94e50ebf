"""Labels in colors, and HTML pages with embedded images."""

import base64
import html
import io
import pathlib
from collections.abc import Sequence

import matplotlib.figure
import numpy as np
from PIL import Image

from data.classes import IGNORE_LABEL, voc_palette
from data.files import write_text

THUMBNAIL_HEIGHT = 160  # Pixels on the page.
# Width and height of the embedded image: at twice the resolution, for high-DPI screens.
MAX_THUMBNAIL_SIZE = (4 * THUMBNAIL_HEIGHT, 2 * THUMBNAIL_HEIGHT)


def full_palette(colors: Sequence[Sequence[int]]) -> np.ndarray:
    """The classes' colors -> [256, 3] uint8; 255 has VOC's color, other unused ids are black."""
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(colors)] = colors
    palette[IGNORE_LABEL] = voc_palette()[IGNORE_LABEL]
    return palette


def mask_png(class_ids: np.ndarray, palette: np.ndarray) -> bytes:
    """[H, W] uint8 class ids, [256, 3] colors -> a palette PNG of the ids."""
    mask, file = Image.fromarray(class_ids, mode="P"), io.BytesIO()
    mask.putpalette(palette.tobytes())
    mask.save(file, "PNG")
    return file.getvalue()


def image_png(image: np.ndarray) -> bytes:
    """[H, W, 3] uint8 image -> a PNG."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def embed_image(image: np.ndarray, description: str = "image") -> str:
    """[H, W, 3] uint8 image -> an HTML thumbnail with its data embedded."""
    thumbnail = Image.fromarray(image)
    thumbnail.thumbnail(MAX_THUMBNAIL_SIZE)
    return _embed_thumbnail(thumbnail, "jpeg", description)


def embed_label(class_ids: np.ndarray, palette: np.ndarray, description: str = "label") -> str:
    """[H, W] class ids and [256, 3] colors -> an HTML thumbnail with its data embedded."""
    thumbnail = Image.fromarray(class_ids.astype(np.uint8), mode="P")
    thumbnail.putpalette(palette.tobytes())
    thumbnail.thumbnail(MAX_THUMBNAIL_SIZE, Image.Resampling.NEAREST)
    return _embed_thumbnail(thumbnail, "png", description)


def _embed_thumbnail(thumbnail, kind, description):
    file = io.BytesIO()
    thumbnail.save(file, kind)
    encoded = base64.b64encode(file.getvalue()).decode()
    alt = html.escape(description)
    return f'<img height="{THUMBNAIL_HEIGHT}" alt="{alt}" src="data:image/{kind};base64,{encoded}">'


def figure_png(figure: matplotlib.figure.Figure) -> bytes:
    """A plot -> a PNG."""
    file = io.BytesIO()
    figure.savefig(file, dpi=100, format="png")
    return file.getvalue()


def embed_png(png: bytes, description: str) -> str:
    """A PNG -> an HTML image with its data embedded, shown at full size."""
    encoded = base64.b64encode(png).decode()
    return f'<img alt="{html.escape(description)}" src="data:image/png;base64,{encoded}">'


def swatch(color: Sequence[int]) -> str:
    """A color (r, g, b) -> a small square of it, as HTML."""
    return f'<i style="background: #{bytes(color).hex()}"></i>'


def write_page(path: pathlib.Path, title: str, body: str) -> None:
    """Writes an HTML page atomically."""
    write_text(
        path,
        f"""<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title>
<style>
body {{ font: 15px/1.5 sans-serif; margin: 1rem auto; padding: 0 1rem; max-width: 75rem }}
pre {{ white-space: pre-wrap }}
p {{ overflow-wrap: anywhere }}
table {{ border-collapse: collapse; display: block; overflow-x: auto }}
th, td {{ text-align: left; padding: .15rem 1rem .15rem 0; border-bottom: 1px solid #8884 }}
.numbers th, .numbers td {{ white-space: nowrap }}
.numbers td:last-child {{ white-space: normal; min-width: 12rem }}
i {{ display: inline-block; width: 1em; height: 1em; margin-right: .5em; vertical-align: -.1em }}
figure {{ display: inline-block; margin: 0 1rem 1rem 0 }}
.row {{ display: grid; grid-template-columns: repeat(4, 1fr); gap: 4px; max-width: 64rem }}
@media (max-width: 40rem) {{ .row {{ grid-template-columns: 1fr 1fr }} }}
.row[hidden] {{ display: none }}
.row img {{ width: 100%; height: auto }}
.row figcaption {{ grid-column: 1 / -1 }}
img {{ max-width: 100%; margin-right: 4px; object-fit: contain }}
small, figcaption {{ color: #888 }}
</style>
<h1>{html.escape(title)}</h1>
{body}
</html>
""",
    )
