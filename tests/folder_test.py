"""Anyone's photos and masks: what they are is found out, and built as it was agreed."""

import json

import numpy as np
import pytest
from PIL import Image

from data.build import build, open_dataset
from data.folder import find_splits
from data.mask_classes import ClassesProposed
from data.pipeline import eval_examples
from tests.conftest import save_label

COLOURS = np.array([(0, 0, 0), (255, 0, 0), (0, 0, 255), (224, 224, 192)], np.uint8)


def make(folder, save_mask, number=12, values=4):
    """images/ and masks/ of `number` pairs; mask i holds ids 0..values-1, at 20 x 15 pixels."""
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    ids = {}
    for i in range(number):
        photo = rng.integers(0, 256, (15, 20, 3)).astype(np.uint8)
        Image.fromarray(photo).save(folder / "images" / f"pet{i:02}.jpg")
        ids[f"pet{i:02}"] = rng.integers(0, values, (15, 20)).astype(np.uint8)
        save_mask(folder / "masks" / f"pet{i:02}.png", ids[f"pet{i:02}"])
    return ids


def save_colours(path, ids):
    Image.fromarray(COLOURS[ids]).save(path)


def save_grey(path, ids):
    Image.fromarray(ids).save(path)


@pytest.fixture
def pets(tmp_path):
    return tmp_path / "pets"


def build_pets(pets):
    return build("folder/pets", str(pets.parent / "shards"), str(pets))


def proposal(pets):
    with pytest.raises(ClassesProposed) as told:
        build_pets(pets)
    return str(told.value), json.loads((pets / "classes.json").read_text())


def labels_of(builder):
    return {
        example["id"].decode(): example["label"]
        for split in builder.info.splits
        for example in eval_examples(builder, split).as_numpy_iterator()
    }


@pytest.mark.parametrize(
    "save, kind, values",
    [
        (save_colours, "colours", ["#000000", "#0000ff", "#ff0000"]),
        (save_grey, "indices", [0, 1, 2, 3]),
        (save_label, "palette", [0, 1, 2, 3]),
    ],
)
def test_masks_are_found_out_proposed_and_built(pets, save, kind, values):
    ids = make(pets, save)
    said, classes = proposal(pets)
    assert "The masks have 4" in said and f"({kind}); proposed ids:" in said
    assert "give the same command again" in said
    assert classes["kind"] == kind
    assert [one["value"] for one in classes["classes"]] == values
    classes["classes"][1]["name"] = "paw"
    (pets / "classes.json").write_text(json.dumps(classes))
    builder = build_pets(pets)
    assert builder.info.metadata["class_names"][:2] == ["class_0", "paw"]
    # Colours are sorted: blue comes before red; VOC's colour of the border is ignored.
    table = np.array([0, 2, 1, 255]) if kind == "colours" else np.arange(4)
    labels = labels_of(builder)
    assert labels.keys() == ids.keys()
    for name, label in labels.items():
        np.testing.assert_array_equal(label, table[ids[name]])


def test_what_was_built_opens_without_its_originals(pets):
    make(pets, save_colours)
    proposal(pets)
    build_pets(pets)
    builder = open_dataset("folder/pets", str(pets.parent / "shards"))
    assert builder.info.metadata["palette"] == [[0, 0, 0], [0, 0, 255], [255, 0, 0]]
    assert builder.info.full_name == "folder/pets/1.0.0"


def test_black_and_white_masks_have_two_classes_and_255_beside_others_is_ignored(pets):
    make(pets, lambda path, ids: save_grey(path, 255 * ids), values=2)
    assert [one["value"] for one in proposal(pets)[1]["classes"]] == [0, 255]
    (pets / "classes.json").unlink()
    save_grey(pets / "masks" / "pet03.png", np.full((15, 20), 9, np.uint8))
    classes = proposal(pets)[1]
    assert [one["value"] for one in classes["classes"]] == [0, 9] and classes["ignored"] == [255]


def test_splits_by_lists_by_a_csv_or_by_the_names_hash(pets):
    make(pets, save_grey)
    by_hash = find_splits(pets)
    assert {split: len(pairs) for split, pairs in by_hash.items()} == {"train": 11, "val": 1}
    assert find_splits(pets) == by_hash
    (pets / "train.txt").write_text("pet00\npet01\n")
    (pets / "val.txt").write_text("pet02\n")
    assert {k: set(v) for k, v in find_splits(pets).items()} == {
        "train": {"pet00", "pet01"},
        "val": {"pet02"},
    }
    (pets / "pairs.csv").write_text(
        "image,mask,split\nimages/pet05.jpg,masks/pet05.png,train\n"
        "images/pet06.jpg,masks/pet06.png,test\n"
    )
    assert {k: set(v) for k, v in find_splits(pets).items()} == {
        "train": {"images/pet05"},
        "test": {"images/pet06"},
    }


def rotated(pets):
    photo = Image.open(pets / "images" / "pet03.jpg")
    exif = photo.getexif()
    exif[0x0112] = 6
    photo.save(pets / "images" / "pet03.jpg", exif=exif)


def other(mode, folder="masks"):
    def convert(pets):
        file = pets / folder / ("pet03.png" if folder == "masks" else "pet03.jpg")
        Image.open(file).convert(mode).save(file)

    return convert


def sixteen_bits(pets):
    Image.fromarray(np.zeros((15, 20), np.uint16)).save(pets / "masks" / "pet03.png")


def smaller(pets):
    save_grey(pets / "masks" / "pet03.png", np.zeros((14, 20), np.uint8))


def cut(pets):
    file = pets / "images" / "pet03.jpg"
    file.write_bytes(file.read_bytes()[:400])


def in_both(pets):
    (pets / "train.txt").write_text("pet00\npet01\n")
    (pets / "val.txt").write_text("pet01\n")


def many_classes(pets):
    classes = [{"name": f"c{i}", "colour": [0, 0, 0], "value": i} for i in range(256)]
    kind = {"kind": "indices", "classes": classes, "ignored": []}
    (pets / "classes.json").write_text(json.dumps(kind))


def jpeg_mask(pets):
    Image.fromarray(np.zeros((15, 20), np.uint8)).save(pets / "masks" / "pet03.png", "JPEG")


def unknown_value(pets):
    save_grey(pets / "masks" / "pet03.png", np.full((15, 20), 77, np.uint8))


@pytest.mark.parametrize(
    "damage, said",
    [
        (rotated, "pet03.jpg is to be rotated .*exif_transpose"),
        (other("CMYK", "images"), "pet03.jpg is a JPEG of mode CMYK.*Convert it"),
        (other("RGBA"), "pet03.png is a PNG of mode RGBA.*Convert it"),
        (other("RGB"), "pet03.png is a mask of colours, but .*classes.json is of indices"),
        (in_both, "pet01 is in .*train.txt and in .*val.txt"),
        (many_classes, "classes.json has 256 classes; there can be 255"),
        (jpeg_mask, "pet03.png is a JPEG of mode L"),
        (sixteen_bits, "pet03.png is a PNG of mode I;16.*Convert it"),
        (smaller, "pet03.png has 20 x 14 pixels, but .*pet03.jpg has 20 x 15"),
        (cut, "pet03.jpg cannot be read"),
        (unknown_value, "pet03.png holds 77, which .*classes.json does not know. Add it"),
        (lambda pets: (pets / "masks" / "pet03.png").unlink(), "pet03 has no partner in .*masks"),
        (lambda pets: (pets / "images" / "pet03.jpg").unlink(), "pet03 has no partner in .*images"),
        (lambda pets: (pets / "train.txt").touch() or (pets / "val.txt").touch(), "lists no ids"),
        (lambda pets: (pets / "classes.json").write_text("{}"), "classes.json is not as it was"),
        (lambda pets: (pets / "pairs.csv").write_text("a,b\n"), "pairs.csv needs a first line"),
    ],
)
def test_what_is_wrong_is_named(pets, damage, said):
    make(pets, save_grey)
    proposal(pets)
    damage(pets)
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        build_pets(pets)
    with pytest.raises(FileNotFoundError, match="Build it there once"):
        open_dataset("folder/pets", str(pets.parent / "shards"))


def test_masks_saved_as_jpeg_are_told_apart_from_classes(pets):
    mixtures = np.random.default_rng(0).integers(0, 256, (15, 20, 3)).astype(np.uint8)
    make(pets, lambda path, ids: Image.fromarray(mixtures).save(path))
    with pytest.raises(ValueError, match="there can be 255 classes. Masks that were saved as JPEG"):
        build_pets(pets)


def test_palettes_that_contradict_each_other_are_refused(pets):
    """As where each mask was reduced to its own colours: the same index, another class."""
    make(pets, save_label)
    mask = Image.open(pets / "masks" / "pet03.png")
    palette = mask.getpalette()
    mask.putpalette(palette[3:6] + palette[:3] + palette[6:])
    mask.save(pets / "masks" / "pet03.png")
    with pytest.raises(ValueError, match="pet03.png and .* have other colours for the value 0"):
        build_pets(pets)


def test_a_csv_from_a_spreadsheet_is_read(pets):
    make(pets, save_grey)
    rows = "image, mask, split\nimages/pet05.jpg, masks/pet05.png, train\n"
    (pets / "pairs.csv").write_bytes(b"\xef\xbb\xbf" + rows.encode())
    assert set(find_splits(pets)["train"]) == {"images/pet05"}
    (pets / "pairs.csv").write_text(rows.replace("train", "a/b"))
    with pytest.raises(ValueError, match="line 2: no name of a split, 'a/b'"):
        find_splits(pets)
    (pets / "pairs.csv").write_text(rows.replace("masks/pet05", "masks/gone"))
    with pytest.raises(FileNotFoundError, match="line 2: .*gone.png is missing"):
        find_splits(pets)


def test_a_single_pair_is_too_few(pets):
    make(pets, save_grey, number=1)
    with pytest.raises(ValueError, match="has 1 pairs, and none for train"):
        build_pets(pets)


@pytest.mark.parametrize("name", ["folder", "folder/", "folder/my pets", "folder/../x"])
def test_a_data_set_of_ones_own_needs_a_name(name, tmp_path):
    with pytest.raises(ValueError, match="Name your data set"):
        open_dataset(name, str(tmp_path))
