"""TFDS builder: synthetic images, a miniature of the problems that the paper studies.

Twenty kinds of object over an 8-fold range of sizes (Sec. 1: "objects at multiple scales"):

- five outlines, each with its own hue, and each plain, with white stripes or in black checks;
- wheels, spiders and combs, with parts 3 pixels thin, which a coarse output_stride loses;
- birds and fish, which have the same silhouette: it is a fish if there are waves anywhere in the
  scene. A calm patch surrounds each, so a small receptive field cannot tell them apart.

Strokes in the objects' colors clutter the background, and objects cover one another. A border of
255 surrounds each object, as in VOC. All choices here are ours.
"""

import colorsys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image, ImageDraw, ImageFilter

from data.classes import IGNORE_LABEL, voc_palette
from data.features import segmentation_info

NUM_IMAGES = {"train": 3_000, "val": 200}
SIDE_RANGE = (96, 128)  # Pixels; height and width are drawn independently.
RADIUS_RANGE = (8, 64)  # Pixels.
THIN_WIDTH = 3  # Pixels.
BORDER_WIDTH = 2  # Pixels.
CALM_PATCH_RADIUS = 1.5  # Of the patch around a bird or fish, relative to the object's radius.
MAX_SWIMMER_RADIUS = 24  # Pixels; some of the scene must remain visible around the patch.

# (x, y, size of a pixel), in units of the object's radius -> whether (x, y) is inside.
Form = Callable[[np.ndarray, np.ndarray, float], np.ndarray]


def _disc(x, y, pixel):
    return np.hypot(x, y) < 0.95


def _square(x, y, pixel):
    return np.maximum(abs(x), abs(y)) < 0.8


def _triangle(x, y, pixel):
    return (y < 0.6) & (1.9 * abs(x) < y + 1)


def _ring(x, y, pixel):
    return abs(np.hypot(x, y) - 0.72) < 0.25


def _cross(x, y, pixel):
    return (np.minimum(abs(x), abs(y)) < 0.3) & (np.maximum(abs(x), abs(y)) < 0.95)


def _wheel(x, y, pixel):
    radius, half = np.hypot(x, y), THIN_WIDTH * pixel / 2
    spokes = abs(np.sin(2 * np.arctan2(y, x))) * radius / 2 < half
    return (radius < 0.4) | (abs(radius - 0.9) < half) | (spokes & (radius < 0.9))


def _spider(x, y, pixel):
    radius = np.hypot(x, y)
    legs = abs(np.sin(3 * np.arctan2(y, x))) * radius / 3 < THIN_WIDTH * pixel / 2
    return (radius < 0.5) | (legs & (radius < 1))


def _comb(x, y, pixel):
    teeth = abs((x * 3) % 1 - 0.5) / 3 < THIN_WIDTH * pixel / 2
    return (abs(x) < 0.85) & (((y > -0.7) & (y < 0)) | (teeth & (y >= 0) & (y < 0.8)))


def _swimmer(x, y, pixel):
    body = (x / 0.75) ** 2 + (y / 0.4) ** 2 < 1
    tail = (x > 0.5) & (x < 0.98) & (abs(y) < 1.2 * (x - 0.45))
    return body | tail


OUTLINES = {
    "disc": _disc,
    "square": _square,
    "triangle": _triangle,
    "ring": _ring,
    "cross": _cross,
}
HUES = {form: i / 8 for i, form in enumerate((*OUTLINES.values(), _wheel, _spider, _comb))}
HUE_SPREAD = 0.05  # To either side; neighboring hues do not overlap.
FILLS = ("plain", "striped", "chequered")
THINGS: dict[str, tuple[Form, str]] = {
    **{f"{fill}_{name}": (form, fill) for fill in FILLS for name, form in OUTLINES.items()},
    "wheel": (_wheel, "plain"),
    "spider": (_spider, "plain"),
    "comb": (_comb, "plain"),
    "bird": (_swimmer, "plain"),
    "fish": (_swimmer, "plain"),
}
CLASS_NAMES = ("background", *THINGS)


def draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A random generator -> image [H, W, 3] uint8 and its label [H, W, 1] uint8."""
    height, width = rng.integers(SIDE_RANGE[0], SIDE_RANGE[1], 2, endpoint=True)
    waves = bool(rng.integers(2))
    background = rng.uniform(90, 165) + rng.uniform(-20, 20, 3)
    image = np.broadcast_to(background, (height, width, 3)).copy()
    if waves:
        image += _make_waves(rng, height, width)[..., None]
    image = _draw_strokes(rng, image)
    label = np.zeros((height, width), np.uint8)
    radii = rng.uniform(*RADIUS_RANGE, rng.integers(1, 5))
    for radius in sorted(radii, reverse=True):  # Small objects in front of large ones.
        _paint_object(rng, image, label, radius, background, waves)
    image += 5 * rng.standard_normal(image.shape, np.float32)
    return image.clip(0, 255).astype(np.uint8), label[..., None]


def _make_waves(rng, height, width):
    """[H, W] brightness: wavy horizontal bands, about 8 pixels apart."""
    y, x = np.mgrid[:height, :width]
    phase, length = rng.uniform(0, 2 * np.pi, 2), rng.uniform(20, 40)
    return 40 * np.sin(2 * np.pi * y / 8 + 2 * np.sin(x / length + phase[0]) + phase[1])


def _draw_strokes(rng, image):
    """[H, W, 3] image -> the image with thin strokes in any color, which belong to background."""
    canvas = Image.fromarray(image.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(canvas)
    height, width = image.shape[:2]
    for _ in range(rng.integers(2, 7)):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        length, angle = rng.uniform(2, 40), rng.uniform(0, np.pi)
        end = (x + length * np.cos(angle), y + length * np.sin(angle))
        color = _random_color(rng, rng.uniform())
        draw.line([(x, y), end], fill=color, width=int(rng.integers(1, 4)))
    return np.asarray(canvas).astype(float)


def _random_color(rng, hue):
    """A hue in 0..1 -> a random RGB color of about that hue, in 0..255."""
    hue += rng.uniform(-HUE_SPREAD, HUE_SPREAD)
    color = colorsys.hsv_to_rgb(hue % 1, rng.uniform(0.7, 1), rng.uniform(0.7, 1))
    return tuple(round(255 * value) for value in color)


def _paint_object(rng, image, label, radius, background, waves):
    """Paints one random object into image and label, in place."""
    name = list(THINGS)[rng.integers(len(THINGS))]
    if name in ("bird", "fish"):
        name = "fish" if waves else "bird"
    form, fill = THINGS[name]
    if form is _swimmer:
        radius = min(radius, MAX_SWIMMER_RADIUS)
    center_x, center_y, angle = rng.uniform((0, 0, 0), (*label.shape[::-1], 2 * np.pi))
    color = np.array(_random_color(rng, HUES[form]) if form in HUES else 3 * [245], float)
    colors = np.stack([color, np.full(3, 240 if fill == "striped" else 20)])
    reach = int(CALM_PATCH_RADIUS * radius) + BORDER_WIDTH + 1
    top, left = max(0, int(center_y) - reach), max(0, int(center_x) - reach)
    window = np.s_[top : int(center_y) + reach, left : int(center_x) + reach]
    image, label = image[window], label[window]  # Views; computing on all pixels would be slower.
    y, x = np.mgrid[: label.shape[0], : label.shape[1]]
    x, y = (x + left - center_x) / radius, (y + top - center_y) / radius
    x, y = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    if form is _swimmer:
        patch = np.hypot(x, y) < CALM_PATCH_RADIUS
        image[patch], label[patch] = background, 0
    inside = form(x, y, 1 / radius)
    label[_dilate(inside)] = IGNORE_LABEL
    label[inside] = CLASS_NAMES.index(name)
    second = _has_second_color(fill, x[inside] * radius, y[inside] * radius)
    image[inside] = colors[second.astype(int)]


def _has_second_color(fill, x, y):
    """Coordinates in the object's frame, in pixels -> whether it has its second color there."""
    if fill == "striped":
        return np.floor(x / 6) % 2 > 0
    if fill == "chequered":
        return (np.floor(x / 6) + np.floor(y / 6)) % 2 > 0
    return np.zeros(x.shape, bool)


def _dilate(mask):
    """[H, W] mask -> the mask dilated by BORDER_WIDTH pixels."""
    image = Image.fromarray(mask).convert("L")
    return np.asarray(image.filter(ImageFilter.MaxFilter(2 * BORDER_WIDTH + 1))) > 0


class Shapes(tfds.core.GeneratorBasedBuilder):
    """Synthetic images and labels; every build has the same bytes."""

    VERSION = tfds.core.Version("1.1.0")
    SEED = 0

    def _info(self) -> tfds.core.DatasetInfo:
        return segmentation_info(self, __doc__, CLASS_NAMES, voc_palette()[:21])

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        return {split: self._generate_examples(split) for split in NUM_IMAGES}

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        stream = list(NUM_IMAGES).index(split)  # A separate random stream for each split.
        for i in range(NUM_IMAGES[split]):
            image, label = draw(np.random.default_rng([self.SEED, stream, i]))
            name = f"{split}_{i:05d}"
            yield name, {"image": image, "label": label, "id": name}
