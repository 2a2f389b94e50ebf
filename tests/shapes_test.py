"""The miniature has in it what the paper is about."""

import hashlib

import numpy as np
import pytest
from PIL import Image, ImageFilter

from data import shapes
from data.classes import IGNORE_LABEL
from data.shapes import KINDS, PAIRS, THIN, Shapes, draw


def many(number, stream=7):
    return [draw(np.random.default_rng([stream, i])) for i in range(number)]


def test_same_seed_same_bytes(shapes_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(shapes, "NUM_IMAGES", {"train": 24, "val": 5})
    again = Shapes(data_dir=tmp_path)
    again.download_and_prepare()

    def digests(folder):
        return {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in folder.rglob("*.tfrecord*")
        }

    assert len(digests(tmp_path)) == 2
    assert digests(tmp_path) == digests(shapes_dir)


def test_every_class_occurs_and_most_of_an_image_is_background():
    labels = np.concatenate([label.ravel() for _, label in many(150)])
    assert set(np.unique(labels)) == {*range(21), IGNORE_LABEL}
    assert 0.5 < np.mean(labels == 0) < 0.9


def test_objects_are_of_an_8_fold_range_of_size_and_small_ones_lie_in_front(monkeypatch):
    radii, every = [], set()
    place = shapes._paint_object

    def record(rng, image, label, radius, *scene):
        radii.append(radius)
        place(rng, image, label, radius, *scene)

    monkeypatch.setattr(shapes, "_paint_object", record)
    for i in range(100):
        many(1, stream=i)
        assert radii == sorted(radii, reverse=True)
        every.update(radii)
        radii.clear()
    assert 8 <= min(every) < 9 and 60 < max(every) <= 64


def test_a_border_of_255_separates_every_object_from_the_background():
    for _, label in many(30):
        label = label[..., 0]
        thing = (label > 0) & (label != IGNORE_LABEL)
        for axis in (0, 1):
            pairs = np.stack([np.moveaxis(label, axis, 0)[:-1], np.moveaxis(label, axis, 0)[1:]])
            touching = (pairs == 0).any(0) & (
                np.moveaxis(thing, axis, 0)[:-1] | np.moveaxis(thing, axis, 0)[1:]
            )
            assert not touching.any()


def silhouette(form, radius=50):
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1] / radius
    return form(x, y, 1 / radius)


@pytest.mark.parametrize("name", THIN)
def test_thin_things_are_partly_lost_at_a_coarse_output_stride(name):
    """Much of a large one is THIN_WIDTH pixels wide and falls between features; nothing of a disc.

    Lost is what an opening removes: pixels that no inner square wider than THIN_WIDTH covers.
    """

    def thin_share(form):
        inside = Image.fromarray(silhouette(form)).convert("L")
        size = 2 * (shapes.THIN_WIDTH // 2 + 1) + 1
        opened = inside.filter(ImageFilter.MinFilter(size)).filter(ImageFilter.MaxFilter(size))
        return 1 - np.sum(np.asarray(opened) > 0) / np.sum(np.asarray(inside) > 0)

    assert thin_share(THIN[name]) > 0.15
    assert thin_share(PAIRS["disc"]) < 0.02


def test_two_outlines_share_each_hue_and_look_alike_inside():
    """Only the outline tells them apart; in the middle, they are far from it."""
    names = list(PAIRS)
    for first, second in zip(names[::2], names[1::2], strict=True):
        hues = {
            KINDS[f"{fill}_{name}"].hue for fill in ("plain", "striped") for name in (first, second)
        }
        assert len(hues) == 1
        differ = silhouette(PAIRS[first]) ^ silhouette(PAIRS[second])
        assert np.mean(differ) > 0.1


@pytest.mark.parametrize("name", [*PAIRS, *THIN])
def test_no_form_is_cut_by_the_window_that_it_is_painted_in(name):
    y, x = np.mgrid[-2:2:401j, -2:2:401j]
    assert np.hypot(x, y)[{**PAIRS, **THIN}[name](x, y, 0.1)].max() < shapes.REACH


def test_a_scene_has_one_kind_of_each_hue_and_an_image_has_one_scene():
    places = [(kind.scene, kind.hue) for kind in KINDS.values()]
    assert sorted(places) == [(s, h) for s in range(shapes.NUM_SCENES) for h in range(5)]
    kinds, seen = list(KINDS.values()), set()
    for _, label in many(100):
        scenes = {kinds[index - 1].scene for index in set(np.unique(label)) - {0, IGNORE_LABEL}}
        assert len(scenes) <= 1
        seen |= scenes
    assert seen == set(range(shapes.NUM_SCENES))


def test_the_fill_of_one_hue_leaves_its_outline_open_and_that_of_another_tells_it():
    for hue in range(4):
        kinds = [kind for kind in KINDS.values() if kind.hue == hue]
        assert len({(kind.form, kind.striped) for kind in kinds}) == 4
        fills = {
            other: {kind.scene: kind.striped for kind in KINDS.values() if kind.hue == other}
            for other in range(4)
        }
        outlines = {kind.scene: kind.form for kind in kinds}
        assert any(
            len({(fills[hue][scene], fill[scene], outlines[scene]) for scene in range(4)}) == 4
            and len({(fills[hue][scene], fill[scene]) for scene in range(4)}) == 4
            for other, fill in fills.items()
            if other != hue
        )


def test_no_image_is_in_both_splits(shapes_builder):
    digests = {}
    for split in ("train", "val"):
        examples = shapes_builder.as_dataset(split=split).as_numpy_iterator()
        digests[split] = {example["image"].tobytes() for example in examples}
    assert not digests["train"] & digests["val"]
    assert len(digests["train"]) == 24 and len(digests["val"]) == 5
