"""What the tests share: small originals and shards, made here and never downloaded."""

import os

# Before TensorFlow is imported; data/terminal.py says why.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import pathlib

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from data import shapes
from data.build import build
from data.classes import voc_palette

ROOT = pathlib.Path(__file__).parent.parent


def save_label(path: pathlib.Path, label: np.ndarray) -> None:
    """Writes [H, W] class ids as VOC does: a PNG with VOC's palette."""
    picture = Image.fromarray(label.astype(np.uint8), mode="P")
    picture.putpalette(voc_palette().tobytes())
    picture.save(path)


@pytest.fixture
def vocdevkit(tmp_path) -> pathlib.Path:
    """A small VOCdevkit: see make_vocdevkit."""
    return make_vocdevkit(tmp_path)


def make_vocdevkit(folder: pathlib.Path) -> pathlib.Path:
    """A folder -> a VOCdevkit in it, of six small images of different sizes, as VOC lays it out.

    2 are in train, 2 in val, and 2 in trainaug alone, where only SegmentationClassAug has them.
    """
    voc = folder / "VOCdevkit" / "VOC2012"
    for folder in (
        "JPEGImages",
        "SegmentationClass",
        "SegmentationClassAug",
        "ImageSets/Segmentation",
    ):
        (voc / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    names = [f"2007_{i:06}" for i in range(6)]
    for i, name in enumerate(names):
        size = (40 + 3 * i, 31 + 5 * i)
        image = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
        Image.fromarray(image).save(voc / "JPEGImages" / f"{name}.jpg")
        label = rng.integers(0, 21, size)
        label[:3] = 255
        if i < 4:
            save_label(voc / "SegmentationClass" / f"{name}.png", label)
        coarse = np.where(label == 255, 0, label)
        Image.fromarray(coarse.astype(np.uint8)).save(voc / "SegmentationClassAug" / f"{name}.png")
    lists = {
        "train": names[:2],
        "val": names[2:4],
        "trainval": names[:4],
        "trainaug": names[:2] + names[4:],
    }
    for split, ids in lists.items():
        (voc / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("\n".join(ids) + "\n")
    return voc.parent


@pytest.fixture(scope="session")
def shapes_dir(tmp_path_factory) -> pathlib.Path:
    """A data_dir that holds a small `shapes`: 24 images in train, 5 in val."""
    data_dir = tmp_path_factory.mktemp("shards")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shapes, "NUM_IMAGES", {"train": 24, "val": 5})
        build("shapes", str(data_dir))
    return data_dir


@pytest.fixture
def shapes_builder(shapes_dir) -> tfds.core.DatasetBuilder:
    """The builder of the small `shapes`."""
    return shapes.Shapes(data_dir=shapes_dir)
