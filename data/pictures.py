"""Labels one can look at: class ids -> colours, and pages that need no other file."""

import base64
import html
import io
import pathlib
from collections.abc import Sequence

import numpy as np
from PIL import Image

from data.classes import IGNORE_LABEL, voc_palette
from data.files import write_text


def whole_palette(colours: Sequence[Sequence[int]]) -> np.ndarray:
    """The colours of the classes -> [256, 3] uint8; 255 as in VOC, ids of no class black."""
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(colours)] = colours
    palette[IGNORE_LABEL] = voc_palette()[IGNORE_LABEL]
    return palette


def inline(picture: np.ndarray, height: int = 160) -> str:
    """[H, W] or [H, W, 3] uint8 -> an HTML image that needs no file, shown `height` pixels high."""
    file = io.BytesIO()
    small = Image.fromarray(picture)
    small.thumbnail((4 * height, 2 * height))  # Twice as fine as it is shown, for fine screens.
    small.save(file, "PNG")
    return inline_png(file.getvalue(), "", height)


def inline_png(png: bytes, description: str, height: int | None = None) -> str:
    """A PNG -> an HTML image that needs no file, shown `height` pixels high or full-size."""
    encoded = base64.b64encode(png).decode()
    size = f' height="{height}"' if height else ""
    return f'<img{size} alt="{html.escape(description)}" src="data:image/png;base64,{encoded}">'


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
img {{ max-width: 100%; margin-right: 4px; object-fit: contain }}
small, figcaption {{ color: #888 }}
</style>
<h1>{html.escape(title)}</h1>
{body}
</html>
""",
    )
