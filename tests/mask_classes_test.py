"""Masks of any kind: their classes are proposed, reviewed, and mapped to class ids."""

import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from data.build import open_dataset
from data.classes import voc_palette
from data.mask_classes import TO_COLORS
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


def save_counts(folder, save, **counts):
    """Masks of two images, in bands: `n9=200` is 200 pixels of the value 9, of 300."""
    values = np.concatenate([np.full(n, int(name[1:]), np.uint8) for name, n in counts.items()])
    make_pets(folder, lambda path, ids: save(path, values.reshape(15, 20)), number=2)


@pytest.mark.parametrize(
    "counts, values, ignored",
    [
        ({"n0": 40, "n255": 260}, [0, 255], []),  # Black and white.
        ({"n7": 260, "n255": 40}, [7, 255], []),  # One class alone would be none to learn.
        ({"n0": 100, "n255": 20, "n9": 180}, [0, 9], [255]),
        ({"n0": 100, "n255": 180, "n9": 20}, [0, 9, 255], []),
    ],
)
def test_255_is_a_border_only_where_it_can_be_one_and_the_user_is_told(
    pets, counts, values, ignored
):
    save_counts(pets, save_gray, **counts)
    said, classes = proposal(pets)
    assert [one["value"] for one in classes["classes"]] == values
    assert classes["ignored"] == ignored
    assert ("255 is ignored, as VOC's border" in said) == bool(ignored)
    assert ("move it to ignored" in said) == (len(values) == 3)


def test_a_border_of_vocs_color_is_ignored_however_large_it_is(pets):
    save_counts(pets, save_label, n0=100, n255=180, n9=20)
    said, classes = proposal(pets)
    assert classes["ignored"] == [255] and "255 is ignored" in said


def test_masks_of_one_value_have_nothing_to_learn(pets):
    save_counts(pets, save_gray, n0=300)
    with pytest.raises(ValueError, match="hold the single value 0: .*nothing to learn"):
        build_pets(pets)
    assert not (pets / "classes.json").exists()


def soften(file):
    mask = Image.open(file)
    mask.resize((90, 60), Image.Resampling.BILINEAR).resize(mask.size).save(file)


def test_soft_edges_are_refused_and_read_after_the_advice(pets):
    disc = np.hypot(*np.mgrid[-20:20, -30:30]) < 12
    make_pets(pets, lambda path, ids: save_gray(path, np.uint8(255 * disc)), number=2)
    for file in (pets / "images").iterdir():
        Image.open(file).resize((60, 40)).save(file)
    for file in (pets / "masks").iterdir():
        soften(file)
    with pytest.raises(ValueError, match="gray values are mixtures of others.* in .*pet0") as told:
        build_pets(pets)
    # No command can tell a soft edge from a thin class.
    assert "Image.open" not in str(told.value) and "by hand; docs/data.md" in str(told.value)
    values = {int(v) for file in (pets / "masks").iterdir() for v in np.unique(Image.open(file))}
    classes = [
        {"name": "out", "color": [0, 0, 0], "value": sorted(v for v in values if v < 128)},
        {"name": "in", "color": [9, 9, 9], "value": sorted(v for v in values if v >= 128)},
    ]
    (pets / "classes.json").write_text(json.dumps({"classes": classes}))
    for label in labels_of(build_pets(pets)).values():
        np.testing.assert_array_equal(label, disc)


@pytest.mark.parametrize("quality", [95, 98, 100])
def test_values_that_a_jpeg_of_high_quality_made_are_named(pets, quality):
    disc = np.uint8(255 * (np.hypot(*np.mgrid[-60:60, -80:80]) < 40))

    def save(path, _):
        Image.fromarray(disc).save(path, "JPEG", quality=quality)
        Image.open(path).save(path, "PNG")

    make_pets(pets, save, number=2)
    said, classes = proposal(pets)
    rounded = len(classes["classes"]) + len(classes["ignored"]) - 2
    assert f"warning: {rounded} values, such as 254, look like rounding of 0, 255, as" in said


@pytest.mark.parametrize(
    "counts",
    [
        {"n0": 150, "n255": 150},
        {"n254": 1, "n1": 79, "n2": 5, "n0": 200, "n255": 15},  # Ids are near each other.
        {"n1": 2, "n2": 1, "n0": 200, "n255": 97},  # Nothing is near 255.
        {"n0": 150, "n200": 100, "n203": 50},  # Not rare.
    ],
)
def test_rare_classes_are_not_taken_for_what_a_jpeg_made(pets, counts):
    save_counts(pets, save_gray, **counts)
    assert "rounding" not in proposal(pets)[0]


def test_a_thin_class_between_two_others_is_built_once_it_is_listed(pets):
    """Outlines of a pixel: what an antialiased edge looks like, too."""
    ids = np.uint8(np.repeat([[0] * 9 + [1] + [2] * 10], 15, axis=0))
    make_pets(pets, lambda path, _: save_gray(path, ids), number=2)
    with pytest.raises(ValueError, match="1 of the 3 gray values .* list all values in .* by hand"):
        build_pets(pets)
    classes = [{"name": f"c{i}", "color": [i, i, i], "value": i} for i in range(3)]
    (pets / "classes.json").write_text(json.dumps({"classes": classes}))
    for label in labels_of(build_pets(pets)).values():
        np.testing.assert_array_equal(label, ids)


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
        (
            convert_mask("RGB"),
            "pet03.png is a mask of colors, but .*classes.json is of gray values",
        ),
        (many_classes, "classes.json is invalid: its number of classes is 256; it must be 2"),
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


def test_masks_with_and_without_a_palette_are_one_data_set_after_the_advice(pets):
    ids = make_pets(pets, save_label)
    save_gray(pets / "masks" / "pet03.png", ids["pet03"])
    with pytest.raises(ValueError, match='pet03.png is a mask of gray .* without "kind"'):
        build_pets(pets)
    classes = [{"name": f"c{i}", "color": [i, i, i], "value": i} for i in range(4)]
    (pets / "classes.json").write_text(json.dumps({"classes": classes}))
    for name, label in labels_of(build_pets(pets)).items():
        np.testing.assert_array_equal(label, ids[name])


@pytest.fixture
def swapped(pets):
    """A folder with a mask, added after the proposal, whose palette has the first two swapped."""
    ids = make_pets(pets, save_label)
    said, classes = proposal(pets)
    assert classes["palette"]["1"] == "#800000"
    file = pets / "masks" / "pet03.png"
    mask = Image.open(file)
    palette, table = mask.getpalette(), np.array([1, 0, 2, 3], np.uint8)
    mask = Image.fromarray(table[ids["pet03"]], mode="P")
    mask.putpalette(palette[3:6] + palette[:3] + palette[6:])
    mask.save(file)
    return pets, ids


def test_a_palette_of_another_order_is_refused_and_read_after_the_advice(swapped):
    pets, ids = swapped
    with pytest.raises(
        ValueError, match='pet03.png has the color #.*classes.json has #.*"palette"'
    ):
        build_pets(pets)
    for file in (pets / "masks").iterdir():  # "If the colors are right".
        eval(TO_COLORS, {"Image": Image, "file": file})
    (pets / "classes.json").unlink()
    colors = [one["color"] for one in proposal(pets)[1]["classes"]]
    for name, label in labels_of(build_pets(pets)).items():
        np.testing.assert_array_equal(np.array(colors)[label], voc_palette()[ids[name]])


def test_colors_of_palettes_do_not_matter_after_the_advice(swapped):
    pets, ids = swapped
    with pytest.raises(ValueError, match='If the values are right.*write "palette": null'):
        build_pets(pets)
    classes = json.loads((pets / "classes.json").read_text())
    (pets / "classes.json").write_text(json.dumps({**classes, "palette": None}))
    assert (labels_of(build_pets(pets))["pet03"] == np.array([1, 0, 2, 3])[ids["pet03"]]).all()


@pytest.mark.parametrize("gray", [False, True])
def test_palettes_are_compared_without_their_colors_in_a_file_by_hand(swapped, gray):
    """They would swap two classes. A gray mask between them has no colors to compare."""
    pets, ids = swapped
    if gray:
        save_gray(pets / "masks" / "pet00.png", ids["pet00"])
    classes = [{"name": f"c{i}", "color": [i, i, i], "value": i} for i in range(4)]
    (pets / "classes.json").write_text(json.dumps({"classes": classes}))
    with pytest.raises(
        ValueError, match='pet.* have different colors for the value 0.*"palette": null'
    ):
        build_pets(pets)
    (pets / "classes.json").write_text(json.dumps({"classes": classes, "palette": None}))
    for name, label in labels_of(build_pets(pets)).items():
        table = np.array([1, 0, 2, 3] if name == "pet03" else range(4))
        np.testing.assert_array_equal(label, table[ids[name]])


def save_sharing(path, ids):
    """The values 0 to 3 with a palette of two colors: those of 2 and 3 are absent, so black."""
    save_label(path, ids)
    before, after = path.read_bytes().split(b"\0\0\3\0PLTE")
    chunk = b"PLTE\0\0\0\xff\0\0"
    palette = struct.pack(">I", 6) + chunk + struct.pack(">I", zlib.crc32(chunk))
    path.write_bytes(before + palette + after[768 + 4 :])


def test_values_that_share_a_color_are_displayed_in_others(pets):
    ids = make_pets(pets, save_sharing)
    said, classes = proposal(pets)
    assert "Values share a color in the masks' palettes" in said
    assert [one["color"] for one in classes["classes"]] == voc_palette()[:4].tolist()
    assert classes["palette"] == {"0": "#000000", "1": "#ff0000", "2": "#000000", "3": "#000000"}
    for name, label in labels_of(build_pets(pets)).items():
        np.testing.assert_array_equal(label, ids[name])


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("save_other", [save_label, save_colors])
def test_a_conversion_that_would_merge_classes_is_not_advised(pets, save_other, listed):
    ids = make_pets(pets, save_sharing)
    if listed:
        proposal(pets)
    save_other(pets / "masks" / "pet03.png", ids["pet03"])
    with pytest.raises(ValueError, match="pet03.png") as told:
        build_pets(pets)
    if not (listed and save_other is save_colors):  # There, colors are not advised at all.
        assert "would merge classes" in str(told.value)
    assert "Image.open" not in str(told.value)


def test_a_palette_mask_among_masks_of_colors_is_not_to_be_merged_either(pets):
    ids = make_pets(pets, save_colors)
    proposal(pets)
    save_sharing(pets / "masks" / "pet03.png", ids["pet03"])
    with pytest.raises(ValueError, match="pet03.png is a mask of .*would merge classes"):
        build_pets(pets)
