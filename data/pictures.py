"""Labels one can look at: class ids -> colours, and pages that need no other file."""

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

HEIGHT = 160  # Pixels of a thumbnail on a page.
THUMBNAIL = (4 * HEIGHT, 2 * HEIGHT)  # Twice as fine as it is shown, for fine screens.


def whole_palette(colours: Sequence[Sequence[int]]) -> np.ndarray:
    """The colours of the classes -> [256, 3] uint8; 255 as in VOC, ids of no class black."""
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(colours)] = colours
    palette[IGNORE_LABEL] = voc_palette()[IGNORE_LABEL]
    return palette


def mask_png(class_ids: np.ndarray, palette: np.ndarray) -> bytes:
    """[H, W] uint8 class ids, [256, 3] colours -> a PNG of the ids, which shows the colours."""
    picture, file = Image.fromarray(class_ids, mode="P"), io.BytesIO()
    picture.putpalette(palette.tobytes())
    picture.save(file, "PNG")
    return file.getvalue()


def inline(photo: np.ndarray, description: str = "photo") -> str:
    """[H, W, 3] uint8 photo -> an HTML image that needs no file."""
    small = Image.fromarray(photo)
    small.thumbnail(THUMBNAIL)
    return _inline(small, "jpeg", description)


def inline_ids(class_ids: np.ndarray, palette: np.ndarray, description: str = "label") -> str:
    """[H, W] ids and their [256, 3] colours -> an HTML image that needs no file, no pixel mixed."""
    small = Image.fromarray(class_ids.astype(np.uint8), mode="P")
    small.putpalette(palette.tobytes())
    small.thumbnail(THUMBNAIL, Image.Resampling.NEAREST)
    return _inline(small, "png", description)


def _inline(picture, kind, description):
    file = io.BytesIO()
    picture.save(file, kind)
    encoded = base64.b64encode(file.getvalue()).decode()
    alt = html.escape(description)
    return f'<img height="{HEIGHT}" alt="{alt}" src="data:image/{kind};base64,{encoded}">'


def figure_png(figure: matplotlib.figure.Figure) -> bytes:
    """A plot -> a PNG."""
    file = io.BytesIO()
    figure.savefig(file, dpi=100, format="png")
    return file.getvalue()


def inline_png(png: bytes, description: str) -> str:
    """A PNG -> an HTML image that needs no file, shown full-size."""
    encoded = base64.b64encode(png).decode()
    return f'<img alt="{html.escape(description)}" src="data:image/png;base64,{encoded}">'


def write_page(path: pathlib.Path, title: str, body: str) -> None:
    """Writes an HTML page that needs no other file: beside it, then renamed."""
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
