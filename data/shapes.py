"""TFDS builder: images made up on the spot, a miniature of what the paper is about.

Twenty kinds of object over an 8-fold range of size (Sec. 1: "objects at multiple scales"):

- five outlines, each of a hue of its own, and each plain, with white stripes or with black cheques;
- wheels, spiders and combs, with parts 3 pixels thin, which a coarse output_stride loses;
- birds and fish, which are the same silhouette: waves anywhere in the scene make it a fish. A
  calm patch surrounds each, so that a small receptive field cannot tell.

Strokes in the objects' colours clutter the background, and objects cover one another. A border of
255 runs around each object, as in VOC. All choices here are ours.
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
SIDES = (96, 128)  # Pixels; height and width are drawn apart.
RADII = (8, 64)  # Pixels.
THIN = 3  # Pixels across.
BORDER = 2  # Pixels.
CALM = 1.5  # Radius of the patch around a bird or a fish, in radii of its own.
LARGEST_SWIMMER = 24  # Pixels of radius: around the patch, some of the scene must be left to see.

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
    radius, half = np.hypot(x, y), THIN * pixel / 2
    spokes = abs(np.sin(2 * np.arctan2(y, x))) * radius / 2 < half
    return (radius < 0.4) | (abs(radius - 0.9) < half) | (spokes & (radius < 0.9))


def _spider(x, y, pixel):
    radius = np.hypot(x, y)
    legs = abs(np.sin(3 * np.arctan2(y, x))) * radius / 3 < THIN * pixel / 2
    return (radius < 0.5) | (legs & (radius < 1))


def _comb(x, y, pixel):
    teeth = abs((x * 3) % 1 - 0.5) / 3 < THIN * pixel / 2
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
HUE_SPREAD = 0.05  # To either side, so that neighbours do not touch.
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
    height, width = rng.integers(SIDES[0], SIDES[1], 2, endpoint=True)
    waves = bool(rng.integers(2))
    calm = rng.uniform(90, 165) + rng.uniform(-20, 20, 3)  # Colour of the background.
    image = np.broadcast_to(calm, (height, width, 3)).copy()
    if waves:
        image += _waves(rng, height, width)[..., None]
    image = _strokes(rng, image)
    label = np.zeros((height, width), np.uint8)
    radii = rng.uniform(*RADII, rng.integers(1, 5))
    for radius in sorted(radii, reverse=True):  # The small in front of the large.
        _place(rng, image, label, radius, calm, waves)
    image += 5 * rng.standard_normal(image.shape, np.float32)
    return image.clip(0, 255).astype(np.uint8), label[..., None]


def _waves(rng, height, width):
    """[H, W] brightness: horizontal bands of some 8 pixels, rising and falling."""
    y, x = np.mgrid[:height, :width]
    phase, length = rng.uniform(0, 2 * np.pi, 2), rng.uniform(20, 40)
    return 40 * np.sin(2 * np.pi * y / 8 + 2 * np.sin(x / length + phase[0]) + phase[1])


def _strokes(rng, image):
    """Thin lines and specks in any colour, which are background all the same."""
    picture = Image.fromarray(image.clip(0, 255).astype(np.uint8))
    draw_on = ImageDraw.Draw(picture)
    height, width = image.shape[:2]
    for _ in range(rng.integers(2, 7)):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        length, angle = rng.uniform(2, 40), rng.uniform(0, np.pi)
        end = (x + length * np.cos(angle), y + length * np.sin(angle))
        colour = _colour(rng, rng.uniform())
        draw_on.line([(x, y), end], fill=colour, width=int(rng.integers(1, 4)))
    return np.asarray(picture).astype(float)


def _colour(rng, hue):
    """A hue in 0..1 -> an RGB colour of about it, in 0..255."""
    hue += rng.uniform(-HUE_SPREAD, HUE_SPREAD)
    colour = colorsys.hsv_to_rgb(hue % 1, rng.uniform(0.7, 1), rng.uniform(0.7, 1))
    return tuple(round(255 * value) for value in colour)


def _place(rng, image, label, radius, calm, waves):
    """Paints one object into image and label, in place."""
    name = list(THINGS)[rng.integers(len(THINGS))]
    if name in ("bird", "fish"):
        name = "fish" if waves else "bird"
    form, fill = THINGS[name]
    if form is _swimmer:
        radius = min(radius, LARGEST_SWIMMER)
    centre_x, centre_y, angle = rng.uniform((0, 0, 0), (*label.shape[::-1], 2 * np.pi))
    colour = np.array(_colour(rng, HUES[form]) if form in HUES else 3 * [245], float)
    colours = np.stack([colour, np.full(3, 240 if fill == "striped" else 20)])
    reach = int(CALM * radius) + BORDER + 1
    top, left = max(0, int(centre_y) - reach), max(0, int(centre_x) - reach)
    window = np.s_[top : int(centre_y) + reach, left : int(centre_x) + reach]
    image, label = image[window], label[window]  # Views: what follows need not see the rest.
    y, x = np.mgrid[: label.shape[0], : label.shape[1]]
    x, y = (x + left - centre_x) / radius, (y + top - centre_y) / radius
    x, y = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    if form is _swimmer:
        patch = np.hypot(x, y) < CALM
        image[patch], label[patch] = calm, 0
    inside = form(x, y, 1 / radius)
    label[_widened(inside)] = IGNORE_LABEL
    label[inside] = CLASS_NAMES.index(name)
    second = _pattern(fill, x[inside] * radius, y[inside] * radius)
    image[inside] = colours[second.astype(int)]


def _pattern(fill, x, y):
    """Where an object has its second colour; x and y in pixels of its own frame."""
    if fill == "striped":
        return np.floor(x / 6) % 2 > 0
    if fill == "chequered":
        return (np.floor(x / 6) + np.floor(y / 6)) % 2 > 0
    return np.zeros(x.shape, bool)


def _widened(mask):
    """[H, W] mask -> the mask grown by BORDER pixels."""
    picture = Image.fromarray(mask).convert("L")
    return np.asarray(picture.filter(ImageFilter.MaxFilter(2 * BORDER + 1))) > 0


class Shapes(tfds.core.GeneratorBasedBuilder):
    """Made-up images and labels; the same bytes every time."""

    VERSION = tfds.core.Version("1.1.0")
    SEED = 0

    def _info(self) -> tfds.core.DatasetInfo:
        return segmentation_info(self, __doc__, CLASS_NAMES, voc_palette()[:21])

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        return {split: self._generate_examples(split) for split in NUM_IMAGES}

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        stream = list(NUM_IMAGES).index(split)  # So that no image is in two splits.
        for i in range(NUM_IMAGES[split]):
            image, label = draw(np.random.default_rng([self.SEED, stream, i]))
            name = f"{split}_{i:05d}"
            yield name, {"image": image, "label": label, "id": name}
