"""TFDS builder: synthetic images, a miniature of the problems that the paper studies.

Twenty kinds of object over an 8-fold range of sizes (Sec. 1: "objects at multiple scales"). What
the paper varies can matter here, by construction:

- Four hues, and in each two outlines, plain or striped. Inside a large disc and a large triangle,
  pixels look alike: to tell them apart takes a view as far as the outline, up to 64 pixels. That is
  what atrous rates and multi-grid give.
- A fifth hue for wheels, spiders, combs and ladders, which have parts 3 pixels thin. A coarse
  output_stride loses them.
- Four scenes. An image is of one of them, and each scene has one kind of each hue. Whether objects
  of two hues are plain or striped identifies the scene, and with it the outlines of all objects;
  only the third and the fourth hue always share their fill. That takes a view of the whole image:
  what image pooling gives.

Strokes in the objects' colors clutter the background, and objects cover one another. A border of
255 surrounds each object, as in VOC.

A side has 96 to 128 pixels, so at an output_stride of 16 the features of a crop of 129 have a side
of 9, and the middle one has 4 neighbors to each side. Rates of 2 and 4 see them from there. Rates
of 6 and 8 see padding, as 18 and 24 do in the middle of the paper's 33 x 33 features.
All choices here are ours. None was made by the outcome of a comparison of rows.
"""

import colorsys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image, ImageDraw, ImageFilter

from data.classes import IGNORE_LABEL, voc_palette
from data.features import segmentation_info

NUM_IMAGES = {"train": 3_000, "val": 500}
SIDE_RANGE = (96, 128)  # Pixels; height and width are drawn independently.
NUM_OBJECTS = (2, 6)  # Per image.
RADIUS_RANGE = (8, 64)  # Pixels; as many are of 8 to 16 as of 16 to 32 and of 32 to 64.
THIN_WIDTH = 3  # Pixels.
BORDER_WIDTH = 2  # Pixels.
STRIPE_WIDTH = 6  # Pixels.
REACH = 1.25  # Radius of a circle that encloses every form, relative to the object's radius.

# (x, y, size of a pixel), in units of the object's radius -> whether (x, y) is inside.
Form = Callable[[np.ndarray, np.ndarray, float], np.ndarray]


def _disc(x, y, pixel):
    return np.hypot(x, y) < 0.95


def _triangle(x, y, pixel):
    return (y < 0.6) & (1.9 * abs(x) < y + 1)


def _ring(x, y, pixel):
    return abs(np.hypot(x, y) - 0.72) < 0.25


def _square(x, y, pixel):
    return np.maximum(abs(x), abs(y)) < 0.75


def _cross(x, y, pixel):
    return (np.minimum(abs(x), abs(y)) < 0.3) & (np.maximum(abs(x), abs(y)) < 0.95)


def _half_disc(x, y, pixel):
    return (np.hypot(x, y + 0.4) < 0.95) & (y + 0.4 > 0)


def _flower(x, y, pixel):
    return np.hypot(x, y) < 0.7 + 0.25 * np.cos(5 * np.arctan2(y, x))


def _corner(x, y, pixel):
    return _square(x, y, pixel) & ((x < -0.1) | (y < -0.1))


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


def _ladder(x, y, pixel):
    rungs = (abs((y * 2) % 1 - 0.5) / 2 < THIN_WIDTH * pixel / 2) & (abs(x) < 0.6)
    return (abs(y) < 0.9) & ((abs(abs(x) - 0.6) < 0.1) | rungs)


PAIRS = {  # Two by two, they share a hue.
    "disc": _disc,
    "triangle": _triangle,
    "ring": _ring,
    "square": _square,
    "cross": _cross,
    "half_disc": _half_disc,
    "flower": _flower,
    "corner": _corner,
}
THIN = {"wheel": _wheel, "spider": _spider, "comb": _comb, "ladder": _ladder}
NUM_HUES = 5
NUM_SCENES = 4
HUE_SPREAD = 0.05  # To either side; neighboring hues do not overlap.


class Kind(NamedTuple):
    """What objects of a class look like, and where they are."""

    form: Form
    hue: int  # 0 to NUM_HUES - 1.
    striped: bool
    scene: int  # 0 to NUM_SCENES - 1.


# Of each scene and pair: whether it has the second outline, and whether it is striped. The fill of
# one hue does not tell its outline; that of another hue does.
SCENES = [[(a, b), (b, a), (a, a ^ b), (b, a ^ b)] for a in (0, 1) for b in (0, 1)]
KINDS = {
    **{
        f"{'striped' if striped else 'plain'}_{name}": Kind(
            form,
            i // 2,
            striped,
            next(s for s, pairs in enumerate(SCENES) if pairs[i // 2] == (i % 2, striped)),
        )
        for i, (name, form) in enumerate(PAIRS.items())
        for striped in (False, True)
    },
    **{name: Kind(form, 4, False, scene) for scene, (name, form) in enumerate(THIN.items())},
}
CLASS_NAMES = ("background", *KINDS)


def draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A random generator -> image [H, W, 3] uint8 and its label [H, W, 1] uint8."""
    height, width = rng.integers(SIDE_RANGE[0], SIDE_RANGE[1], 2, endpoint=True)
    scene = rng.integers(NUM_SCENES)
    names = [name for name, kind in KINDS.items() if kind.scene == scene]
    background = rng.uniform(90, 165) + rng.uniform(-20, 20, 3)
    image = _draw_strokes(rng, np.broadcast_to(background, (height, width, 3)))
    label = np.zeros((height, width), np.uint8)
    radii = np.exp(rng.uniform(*np.log(RADIUS_RANGE), rng.integers(*NUM_OBJECTS, endpoint=True)))
    for radius in sorted(radii, reverse=True):  # Small objects in front of large ones.
        _paint_object(rng, image, label, radius, names[rng.integers(len(names))])
    image += 5 * rng.standard_normal(image.shape, np.float32)
    return image.clip(0, 255).astype(np.uint8), label[..., None]


def _draw_strokes(rng, image):
    """[H, W, 3] image -> the image with thin strokes in any color, which belong to background."""
    canvas = Image.fromarray(image.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(canvas)
    height, width = image.shape[:2]
    for _ in range(rng.integers(2, 7)):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        length, angle = rng.uniform(2, 40), rng.uniform(0, np.pi)
        end = (x + length * np.cos(angle), y + length * np.sin(angle))
        color = _random_color(rng, rng.integers(NUM_HUES))
        draw.line([(x, y), end], fill=color, width=int(rng.integers(1, 4)))
    return np.asarray(canvas).astype(float)


def _random_color(rng, hue):
    """One of the NUM_HUES hues -> a random RGB color of about that hue, in 0..255."""
    hue = hue / NUM_HUES + rng.uniform(-HUE_SPREAD, HUE_SPREAD)
    color = colorsys.hsv_to_rgb(hue % 1, rng.uniform(0.7, 1), rng.uniform(0.7, 1))
    return tuple(round(255 * value) for value in color)


def _paint_object(rng, image, label, radius, name):
    """Paints an object of a class into image and label, in place, at a random position."""
    kind = KINDS[name]
    center_x, center_y, angle = rng.uniform((0, 0, 0), (*label.shape[::-1], 2 * np.pi))
    color = _random_color(rng, kind.hue)
    reach = int(REACH * radius) + BORDER_WIDTH + 1
    top, left = max(0, int(center_y) - reach), max(0, int(center_x) - reach)
    window = np.s_[top : int(center_y) + reach, left : int(center_x) + reach]
    image, label = image[window], label[window]  # Views; computing on all pixels would be slower.
    y, x = np.mgrid[: label.shape[0], : label.shape[1]]
    x, y = (x + left - center_x) / radius, (y + top - center_y) / radius
    x, y = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    inside = kind.form(x, y, 1 / radius)
    label[_dilate(inside)] = IGNORE_LABEL
    label[inside] = CLASS_NAMES.index(name)
    image[inside] = color
    if kind.striped:
        image[inside & (np.floor(x * radius / STRIPE_WIDTH) % 2 > 0)] = 240


def _dilate(mask):
    """[H, W] mask -> the mask dilated by BORDER_WIDTH pixels."""
    image = Image.fromarray(mask).convert("L")
    return np.asarray(image.filter(ImageFilter.MaxFilter(2 * BORDER_WIDTH + 1))) > 0


class Shapes(tfds.core.GeneratorBasedBuilder):
    """Synthetic images and labels; every build has the same bytes."""

    VERSION = tfds.core.Version("2.0.0")
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
