"""Masks of any kind: their classes are proposed, reviewed, and mapped to class ids."""

import json

import numpy as np
import pytest
from PIL import Image

from data.build import open_dataset
from tests.conftest import save_label
from tests.folder_test import build_pets, labels_of, make_pets, proposal, save_colors, save_gray


@pytest.fixture
def pets(tmp_path):
    return tmp_path / "pets"


@pytest.mark.parametrize(
    "save, kind, values",
    [
        (save_colors, "colors", ["#000000", "#0000ff", "#ff0000"]),
        (save_gray, "indices", [0, 1, 2, 3]),
        (save_label, "palette", [0, 1, 2, 3]),
    ],
)
def test_masks_are_found_out_proposed_and_built(pets, save, kind, values):
    ids = make_pets(pets, save)
    said, classes = proposal(pets)
    assert "The masks have 4" in said
    second = next(line for line in said.splitlines() if "class_1" in line).split()
    assert second[:2] == [str(values[1]), {"colors": "#0000ff"}.get(kind, "#800000")]
    shares = [float(line.split()[-3]) for line in said.splitlines() if " % " in line]
    assert sum(shares) == pytest.approx(100, abs=0.1)
    assert classes["kind"] == kind
    assert [one["value"] for one in classes["classes"]] == values
    classes["classes"][1]["name"] = "paw"
    (pets / "classes.json").write_text(json.dumps(classes))
    builder = build_pets(pets)
    assert builder.info.metadata["class_names"][:2] == ["background", "paw"]
    # Colors are sorted: blue comes before red; VOC's color of the border is ignored.
    table = np.array([0, 2, 1, 255]) if kind == "colors" else np.arange(4)
    labels = labels_of(builder)
    assert labels.keys() == ids.keys()
    for name, label in labels.items():
        np.testing.assert_array_equal(label, table[ids[name]])


def test_black_and_white_masks_have_two_classes_and_255_beside_others_is_ignored(pets):
    make_pets(pets, lambda path, ids: save_gray(path, 255 * ids), values=2)
    assert [one["value"] for one in proposal(pets)[1]["classes"]] == [0, 255]
    (pets / "classes.json").unlink()
    save_gray(pets / "masks" / "pet03.png", np.full((15, 20), 9, np.uint8))
    classes = proposal(pets)[1]
    assert [one["value"] for one in classes["classes"]] == [0, 9] and classes["ignored"] == [255]


def convert_mask(mode):
    def convert(pets):
        file = pets / "masks" / "pet03.png"
        Image.open(file).convert(mode).save(file)

    return convert


def transparent(pets):
    Image.new("RGBA", (20, 15), (9, 9, 9, 254)).save(pets / "masks" / "pet03.png")


def sixteen_bits(pets):
    Image.fromarray(np.full((15, 20), 300, np.uint16)).save(pets / "masks" / "pet03.png")


def many_classes(pets):
    classes = [{"name": f"c{i}", "color": [0, 0, 0], "value": i} for i in range(256)]
    kind = {"kind": "indices", "classes": classes, "ignored": []}
    (pets / "classes.json").write_text(json.dumps(kind))


def jpeg_mask(pets):
    Image.fromarray(np.zeros((15, 20), np.uint8)).save(pets / "masks" / "pet03.png", "JPEG")


def unknown_value(pets):
    save_gray(pets / "masks" / "pet03.png", np.full((15, 20), 77, np.uint8))


@pytest.mark.parametrize(
    "damage, said",
    [
        (transparent, "pet03.png has transparent pixels.*without transparency"),
        (convert_mask("RGB"), "pet03.png is a mask of colors, but .*classes.json is of indices"),
        (many_classes, "classes.json has 256 classes; there can be 1 to 255"),
        (jpeg_mask, "pet03.png cannot be read: it is not a PNG.*values of a JPEG"),
        (sixteen_bits, "pet03.png holds 300, which .*classes.json does not list"),
        (unknown_value, "pet03.png holds 77, which .*classes.json does not list. Add it"),
        (lambda pets: (pets / "classes.json").write_text("{}"), "classes.json is invalid"),
    ],
)
def test_what_is_wrong_is_named(pets, damage, said):
    make_pets(pets, save_gray)
    proposal(pets)
    damage(pets)
    with pytest.raises(ValueError, match=said):
        build_pets(pets)
    with pytest.raises(FileNotFoundError, match="Build it there once"):
        open_dataset("folder/pets", str(pets.parent / "shards"))


def test_masks_saved_as_jpeg_are_told_apart_from_classes(pets):
    mixtures = np.random.default_rng(0).integers(0, 256, (15, 20, 3)).astype(np.uint8)
    make_pets(pets, lambda path, ids: Image.fromarray(mixtures).save(path))
    with pytest.raises(
        ValueError, match="there can be at most 255 classes. Masks that were once saved as JPEG"
    ):
        build_pets(pets)


def test_palettes_that_contradict_each_other_are_refused(pets):
    """As where each mask was reduced to its own colors: the same index, another class."""
    make_pets(pets, save_label)
    mask = Image.open(pets / "masks" / "pet03.png")
    palette = mask.getpalette()
    mask.putpalette(palette[3:6] + palette[:3] + palette[6:])
    mask.save(pets / "masks" / "pet03.png")
    with pytest.raises(ValueError, match="pet03.png and .* have different colors for the value 0"):
        build_pets(pets)
