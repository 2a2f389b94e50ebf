"""Your own images and masks: pairs and splits are found, and errors named."""

import json
import os
import pathlib
import subprocess

import numpy as np
import pytest
from PIL import Image

from data.build import build, open_dataset
from data.folder import find_splits
from data.mask_classes import ClassesProposed
from data.pipeline import eval_examples
from tests.conftest import ROOT
from tests.preloaded_python import preloaded_python

COLORS = np.array([(0, 0, 0), (255, 0, 0), (0, 0, 255), (224, 224, 192)], np.uint8)


def make_pets(folder, save_mask, number=12, values=4):
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


def save_colors(path, ids):
    Image.fromarray(COLORS[ids]).save(path)


def save_gray(path, ids):
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


def test_what_was_built_opens_without_its_originals(pets):
    make_pets(pets, save_colors)
    proposal(pets)
    build_pets(pets)
    builder = open_dataset("folder/pets", str(pets.parent / "shards"))
    assert builder.info.metadata["palette"] == [[0, 0, 0], [0, 0, 255], [255, 0, 0]]
    assert builder.info.full_name == "folder/pets/1.0.0"


def test_a_proposal_that_is_accepted_is_built_at_once(pets):
    make_pets(pets, save_colors)
    builder = build("folder/pets", str(pets.parent / "shards"), str(pets), accept=True)
    assert builder.info.metadata["class_names"] == ["background", "class_1", "class_2"]
    assert (pets / "classes.json").exists()


def test_a_data_set_is_replaced_only_by_one_that_is_complete(pets):
    make_pets(pets, save_colors)
    shards = str(pets.parent / "shards")
    build("folder/pets", shards, str(pets), accept=True)
    before = labels_of(open_dataset("folder/pets", shards))
    with pytest.raises(FileExistsError, match="--overwrite builds it again"):
        build("folder/pets", shards, str(pets))
    photo = (pets / "images" / "pet03.jpg").read_bytes()
    cut(pets)
    with pytest.raises(ValueError, match="pet03.jpg cannot be read"):
        build("folder/pets", shards, str(pets), overwrite=True)
    assert labels_of(open_dataset("folder/pets", shards)).keys() == before.keys()
    (pets / "images" / "pet03.jpg").write_bytes(photo)
    save_colors(pets / "masks" / "pet03.png", np.ones((15, 20), np.uint8))
    builder = build("folder/pets", shards, str(pets), overwrite=True)
    after = labels_of(open_dataset("folder/pets", shards))
    assert builder.data_path == open_dataset("folder/pets", shards).data_path
    assert (after["pet03"] == 2).all() and not (before["pet03"] == 2).all()
    assert not [*pathlib.Path(shards).glob(".*")]


def run_build(pets, *flags):
    return subprocess.run(
        [preloaded_python(), "-m", "data.build", "folder/pets", f"--manual_dir={pets}", *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "TFDS_DATA_DIR": str(pets.parent / "shards")},
    )


def test_the_command_asks_for_names_and_ends_with_the_next_command(pets):
    make_pets(pets, save_colors)
    asked = run_build(pets)
    assert asked.returncode == 0, asked.stderr
    assert "#ff0000" in asked.stdout and "Nothing is built yet" in asked.stdout
    built = run_build(pets)  # From classes.json as it was proposed.
    assert built.stdout.splitlines()[-1] == "Next: python train.py --data=folder/pets"


def test_leftovers_of_macos_are_not_pairs(pets):
    make_pets(pets, save_gray)
    for name in ("images/._pet00.jpg", "masks/._pet00.png", "images/._pet99.jpg"):
        (pets / name).write_bytes(b"\0\5\x16\7")
    (pets / "images" / "Thumbs.db").touch()
    assert sum(len(pairs) for pairs in find_splits(pets).values()) == 12


def test_splits_by_lists_by_a_csv_or_by_the_names_hash(pets):
    make_pets(pets, save_gray)
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
    exif[0x0112] = 3
    photo.save(pets / "images" / "pet03.jpg", exif=exif)


def smaller(pets):
    save_gray(pets / "masks" / "pet03.png", np.zeros((14, 20), np.uint8))


def cut(pets):
    file = pets / "images" / "pet03.jpg"
    file.write_bytes(file.read_bytes()[:400])


def in_both(pets):
    (pets / "train.txt").write_text("pet00\npet01\n")
    (pets / "val.txt").write_text("pet01\n")


@pytest.mark.parametrize(
    "damage, said",
    [
        (rotated, "pet03.jpg has EXIF orientation 3: .*exiftool -Orientation= .*pet03.jpg"),
        (in_both, "pet01 is in .*train.txt and in .*val.txt"),
        (smaller, "pet03.png has 20 x 14 pixels, but .*pet03.jpg has 20 x 15"),
        (cut, "pet03.jpg cannot be read"),
        (
            lambda pets: (pets / "masks" / "pet03.png").unlink(),
            "pet03.jpg has no partner in .*masks",
        ),
        (
            lambda pets: (pets / "images" / "pet03.jpg").unlink(),
            "pet03.png has no partner in .*images",
        ),
        (lambda pets: (pets / "train.txt").touch() or (pets / "val.txt").touch(), "lists no ids"),
        (lambda pets: (pets / "pairs.csv").write_text("a,b\n"), "pairs.csv needs a first line"),
    ],
)
def test_what_is_wrong_is_named(pets, damage, said):
    make_pets(pets, save_gray)
    proposal(pets)
    damage(pets)
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        build_pets(pets)
    with pytest.raises(FileNotFoundError, match="Build it there once"):
        open_dataset("folder/pets", str(pets.parent / "shards"))


def test_a_csv_from_a_spreadsheet_is_read(pets):
    make_pets(pets, save_gray)
    rows = "image, mask, split\nimages/pet05.jpg, masks/pet05.png, train\n"
    (pets / "pairs.csv").write_bytes(b"\xef\xbb\xbf" + rows.encode())
    assert set(find_splits(pets)["train"]) == {"images/pet05"}
    (pets / "pairs.csv").write_text(rows.replace("train", "a/b"))
    with pytest.raises(ValueError, match="line 2: invalid split name 'a/b'"):
        find_splits(pets)
    (pets / "pairs.csv").write_text(rows.replace("masks/pet05", "masks/gone"))
    with pytest.raises(FileNotFoundError, match="line 2: .*gone.png is missing"):
        find_splits(pets)


@pytest.mark.parametrize(
    "header, splits, said",
    [
        ("split", ["train", "Train"], "line 3: the split Train differs from train only by case"),
        ("split", ["train", "train "], "line 3: invalid split name 'train '"),
        ("split", ["train", "nan"], "line 3: the split is 'nan'"),
        ("split", ["NaN", "train"], "line 2: the split is 'NaN'"),
        ("split", ["train", ""], "line 3: the split is ''"),
        ("split", ["train", "val,x"], "line 3: it has more fields"),
        ("Split", ["train", "val"], "line 1: write split for the column 'Split'"),
        ("split ", ["train", "val"], "line 1: write split for the column 'split '"),
    ],
)
def test_splits_that_are_nearly_others_or_missing_are_named(pets, header, splits, said):
    make_pets(pets, save_gray, number=2)
    rows = [f"images/pet0{i}.jpg,masks/pet0{i}.png,{split}" for i, split in enumerate(splits)]
    (pets / "pairs.csv").write_text("\n".join([f"image,mask,{header}", *rows]))
    with pytest.raises(ValueError, match=said):
        find_splits(pets)


def test_masks_of_one_class_are_not_built(pets):
    """As where those of a second class are ignored, or absent."""
    make_pets(pets, save_gray)
    classes = [{"name": name, "color": [0, 0, 0], "value": i} for name, i in (("a", 0), ("b", 9))]
    (pets / "classes.json").write_text(json.dumps({"classes": classes, "ignored": [1, 2, 3]}))
    with pytest.raises(ValueError, match="a single class of .*classes.json: a. .*nothing to learn"):
        build_pets(pets)
    with pytest.raises(FileNotFoundError, match="Build it there once"):
        open_dataset("folder/pets", str(pets.parent / "shards"))


def write_splits(pets, one_class):
    """Two classes in all masks but those of the split one_class; a third one in none."""
    ids = make_pets(pets, save_gray, values=2)
    for split, names in (("train", list(ids)[:9]), ("val", list(ids)[9:])):
        (pets / f"{split}.txt").write_text("\n".join(names))
        for name in names if split == one_class else ():
            save_gray(pets / "masks" / f"{name}.png", np.ones((15, 20), np.uint8))
    classes = [{"name": f"c{i}", "color": [i, i, i], "value": i} for i in range(3)]
    (pets / "classes.json").write_text(json.dumps({"classes": classes}))


def test_a_train_split_of_one_class_is_not_built(pets):
    write_splits(pets, one_class="train")
    with pytest.raises(ValueError, match="masks of train hold a single class of .*json: c1. With"):
        build_pets(pets)
    with pytest.raises(FileNotFoundError, match="Build it there once"):
        open_dataset("folder/pets", str(pets.parent / "shards"))


def test_other_splits_of_one_class_and_classes_of_no_mask_are_named(pets, capsys):
    write_splits(pets, one_class="val")
    build_pets(pets)
    said = capsys.readouterr().out
    assert "warning: the masks of val hold a single class: c1. Training" in said
    assert f"warning: no mask has these classes of {pets / 'classes.json'}: c2.\n" in said


def test_there_is_no_warning_where_all_splits_have_all_classes(pets, capsys):
    make_pets(pets, save_gray)
    proposal(pets)
    build_pets(pets)
    assert "warning:" not in capsys.readouterr().out


def test_a_single_pair_is_too_few(pets):
    make_pets(pets, save_gray, number=1)
    with pytest.raises(ValueError, match="has 1 pairs, but none for train"):
        build_pets(pets)


@pytest.mark.parametrize("name", ["folder", "folder/", "folder/my pets", "folder/../x"])
def test_a_data_set_of_ones_own_needs_a_name(name, tmp_path):
    with pytest.raises(ValueError, match="Name your data set"):
        open_dataset(name, str(tmp_path))
