"""Classes drawn onto images: outlines, comparisons with the label, legends, titled panels."""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from data.classes import IGNORE_LABEL
from data.fonts import find_font
from data.pictures import MAX_THUMBNAIL_SIZE

LINE_HEIGHT = 24  # Pixels of a line of text.
FONT_SIZE = 14  # Pixels.
GAP = 6  # Pixels between panels.
PANEL_OUTLINE = 2  # Pixels; pages and TensorBoard show panels at about half their size.
ERROR_COLOR = (255, 48, 32)

# A name and its color; None for text without a color.
Entry = tuple[str, Sequence[int] | None]


def draw_outlines(image: np.ndarray, class_ids: np.ndarray, width: int = 1) -> np.ndarray:
    """[H, W, 3] uint8 image, [H, W] class ids -> the image with an outline around each region.

    An outline has two lines of `width` pixels: white in the region of the higher id, black in the
    other. One of them shows on any background. Pixels of IGNORE_LABEL keep their color.
    """
    size = 2 * width + 1
    inside = (ndimage.minimum_filter(class_ids, size) < class_ids) & (class_ids != IGNORE_LABEL)
    outside = (ndimage.maximum_filter(class_ids, size) > class_ids) & ~inside
    outlined = image.copy()
    outlined[outside], outlined[inside] = 0, 255
    return outlined


def draw_errors(
    image: np.ndarray, label: np.ndarray, prediction: np.ndarray, ignored_color: np.ndarray
) -> np.ndarray:
    """[H, W, 3] image, [H, W] label and prediction -> the image in dark gray, its errors in red.

    Pixels of IGNORE_LABEL, which are not scored, get ignored_color.
    """
    drawn = np.repeat(image.mean(-1, keepdims=True) / 2, 3, axis=-1).astype(np.uint8)
    drawn[label != prediction] = ERROR_COLOR
    drawn[label == IGNORE_LABEL] = ignored_color
    return drawn


def comparison_panels(
    image: np.ndarray, label: np.ndarray, prediction: np.ndarray, palette: np.ndarray
) -> dict[str, np.ndarray]:
    """[H, W, 3] image, [H, W] label and prediction -> four panels [h, w, 3] by their titles.

    Image, label and prediction in the colors of the [256, 3] palette with outlines, and errors. The
    size is at most MAX_THUMBNAIL_SIZE; smaller images are enlarged by a whole number.
    """
    height, width = label.shape
    scale = min(MAX_THUMBNAIL_SIZE[0] / width, MAX_THUMBNAIL_SIZE[1] / height)
    scale = math.floor(scale) if scale > 1 else scale
    size = max(1, round(scale * width)), max(1, round(scale * height))

    def resize(array, how):
        return np.asarray(Image.fromarray(array.astype(np.uint8)).resize(size, how))

    image = resize(image, Image.Resampling.BOX)
    label, prediction = (resize(ids, Image.Resampling.NEAREST) for ids in (label, prediction))
    return {
        "image": image,
        "label": draw_outlines(palette[label], label, PANEL_OUTLINE),
        "prediction": draw_outlines(palette[prediction], prediction, PANEL_OUTLINE),
        "errors": draw_errors(image, label, prediction, palette[IGNORE_LABEL]),
    }


def class_entries(
    class_ids: Iterable[int], palette: np.ndarray, class_names: Sequence[str]
) -> list[Entry]:
    """Class ids -> their names and colors, for a legend.

    A name that no font on this machine can write is `class ID`.
    """
    return [
        (
            class_names[k] if find_font(class_names[k], FONT_SIZE) else f"class {k}",
            tuple(palette[k].tolist()),
        )
        for k in class_ids
    ]


def draw_legend(entries: Sequence[Entry], min_width: int, scale: int = 1) -> Image.Image:
    """Names and colors -> an image in as few lines as its width allows; it has at least one.

    Args:
      entries: what to name.
      min_width: pixels; the legend is wider only where a single name is.
      scale: a line is LINE_HEIGHT times as high.
    """
    default, line_height = ImageFont.load_default(FONT_SIZE * scale), LINE_HEIGHT * scale
    fonts = [find_font(name, FONT_SIZE * scale) or default for name, _ in entries]
    indents = [4 * scale if color is None else line_height for _, color in entries]
    widths = [
        indent + font.getlength(name) + 12 * scale
        for indent, font, (name, _) in zip(indents, fonts, entries, strict=True)
    ]
    width = max([min_width, *map(math.ceil, widths)])
    places, x, line = [], 0, 0
    for entry_width in widths:
        if x and x + entry_width > width:
            x, line = 0, line + 1
        places.append((x, line * line_height))
        x += entry_width
    image = Image.new("RGB", (width, line_height * (line + 1)), "white")
    draw, baseline = ImageDraw.Draw(image), 3 * scale + default.getmetrics()[0]
    for (x, top), indent, font, (name, color) in zip(places, indents, fonts, entries, strict=True):
        if color is not None:
            square = (x + 4 * scale, top + 5 * scale, x + 18 * scale, top + 19 * scale)
            draw.rectangle(square, fill=tuple(color), outline="black", width=scale)
        draw.text((x + indent, top + baseline), name, fill="black", font=font, anchor="ls")
    return image


def join_panels(panels: Mapping[str, np.ndarray], entries: Sequence[Entry]) -> np.ndarray:
    """Panels [h, w, 3] by their titles -> one image of them side by side, with a legend below."""
    titles = [draw_legend([(title, None)], panel.shape[1]) for title, panel in panels.items()]
    width = sum(title.width + GAP for title in titles) - GAP
    legend = draw_legend(entries, width)
    height = max(panel.shape[0] for panel in panels.values())
    sheet = Image.new("RGB", (legend.width, LINE_HEIGHT + height + legend.height), "white")
    left = 0
    for title, panel in zip(titles, panels.values(), strict=True):
        sheet.paste(title, (left, 0))
        sheet.paste(Image.fromarray(panel), (left, LINE_HEIGHT))
        left += title.width + GAP
    sheet.paste(legend, (0, LINE_HEIGHT + height))
    return np.asarray(sheet)
