"""Names and layouts that people's images and masks have: what belongs together is paired."""

import os
import pathlib
import unicodedata

import numpy as np
import pytest

from data.build import build
from data.folder import find_splits
from tests.folder_test import labels_of, make_pets, save_gray


@pytest.fixture
def pets(tmp_path):
    return tmp_path / "pets"


def rename(pets, change):
    """Renames the files of images/ and masks/: change(folder, path in it) -> its new path."""
    for folder in ("images", "masks"):
        for file in sorted((pets / folder).iterdir()):
            new = pets / folder / change(folder, pathlib.Path(file.name))
            new.parent.mkdir(parents=True, exist_ok=True)
            file.rename(new)


@pytest.mark.parametrize(
    "image, mask",
    [
        ("pet", "pet_mask"),
        ("pet", "pet_gtFine_labelIds"),
        ("pet_leftImg8bit", "pet_labelIds"),
        ("pet_img", "pet_img-seg"),
        ("pet.rgb", "pet_GT"),
    ],
)
def test_an_ending_that_all_names_share_is_not_part_of_them(pets, image, mask):
    make_pets(pets, save_gray, number=3)
    wanted = {"images": image, "masks": mask}
    rename(pets, lambda folder, file: wanted[folder].replace("pet", file.stem) + file.suffix)
    pairs = find_splits(pets)
    names = {name for split in pairs.values() for name in split}
    assert names in ({f"pet{i:02}" for i in range(3)}, {f"pet{i:02}_img" for i in range(3)})
    for split in pairs.values():
        for name, (image_file, mask_file) in split.items():
            assert image_file.name[:5] == mask_file.name[:5] == name[:5]


def test_an_ending_of_some_names_is_part_of_them(pets):
    make_pets(pets, save_gray, number=3)
    (pets / "masks" / "pet00.png").rename(pets / "masks" / "pet00_mask.png")
    with pytest.raises(
        ValueError, match="pet00.jpg has no partner in .*masks.*or write .*pairs.csv"
    ):
        find_splits(pets)


@pytest.mark.parametrize("masks", [("train", "val"), ("Training", "validation")])
def test_folders_of_splits_are_the_splits(pets, masks):
    make_pets(pets, save_gray, number=6)
    folders = {"images": ("train", "val", "test"), "masks": masks}

    def change(folder, file):
        number = int(file.stem[-2:]) // 2
        return pathlib.Path(*folders[folder][number : number + 1], file)

    rename(pets, change)
    for file in (pets / "masks").glob("*.png"):  # A test split is often published without masks.
        file.unlink()
    assert {split: list(pairs) for split, pairs in find_splits(pets).items()} == {
        "train": ["train/pet00", "train/pet01"],
        "val": ["val/pet02", "val/pet03"],
    }
    (pets / "train.txt").write_text("train/pet00\n")
    (pets / "val.txt").write_text("train/pet01\n")
    assert list(find_splits(pets)["val"]) == ["train/pet01"]


def test_folders_of_no_split_are_part_of_the_name(pets):
    make_pets(pets, save_gray)
    rename(pets, lambda _, file: pathlib.Path("cats", "train", file))
    splits = find_splits(pets)
    assert [len(pairs) for pairs in splits.values()] == [11, 1]
    assert all(name.startswith("cats/train/pet") for name in splits["train"])


@pytest.mark.parametrize("folders", [("train",), ("train", "test")])
def test_a_split_to_score_is_needed_beside_others(pets, folders):
    make_pets(pets, save_gray)
    rename(pets, lambda _, file: pathlib.Path(folders[int(file.stem[-1]) % len(folders)], file))
    if len(folders) == 1:
        assert {split: len(pairs) for split, pairs in find_splits(pets).items()} == {
            "train": 11,
            "val": 1,
        }
    else:
        with pytest.raises(ValueError, match="has 12 pairs, but none for val"):
            find_splits(pets)


def test_names_that_other_systems_write_are_paired_and_built(pets):
    """An accent as macOS and as others write it; bytes that are not UTF-8; other suffixes."""
    ids = make_pets(pets, save_gray)
    latin1 = os.fsdecode(b"caf\xe9")
    for i, (image, mask) in enumerate(
        [
            (
                f"{unicodedata.normalize('NFD', 'é')}.JPG",
                f"{unicodedata.normalize('NFC', 'é')}.png",
            ),
            (f"{latin1}.jfif", f"{latin1}.PNG"),
            ("c, 'd' \"e\" 道.jpe", "c, 'd' \"e\" 道.png"),
            ("n" * 251 + ".jpg", "n" * 251 + ".png"),
        ]
    ):
        (pets / "images" / f"pet{i:02}.jpg").rename(pets / "images" / image)
        (pets / "masks" / f"pet{i:02}.png").rename(pets / "masks" / mask)
    labels = labels_of(build("folder/pets", str(pets.parent / "shards"), str(pets), accept=True))
    for i, name in enumerate(["é", "caf\\xe9", "c, 'd' \"e\" 道", "n" * 251]):
        np.testing.assert_array_equal(labels[name], ids[f"pet{i:02}"])
    (pets / "train.txt").write_text(unicodedata.normalize("NFD", "é"))
    (pets / "val.txt").write_text("caf\\xe9")
    assert {k: list(v) for k, v in find_splits(pets).items()} == {
        "train": ["é"],
        "val": ["caf\\xe9"],
    }


@pytest.mark.parametrize("disk, listed", [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_csv_names_accents_in_either_form(pets, disk, listed):
    make_pets(pets, save_gray, number=2)
    file = pets / "images" / f"{unicodedata.normalize(disk, 'é')}.jpg"
    (pets / "images" / "pet00.jpg").rename(file)
    name = unicodedata.normalize(listed, "é")
    lines = [f"images/{name}.jpg,masks/pet00.png", "images/pet01.jpg,masks/pet01.png"]
    (pets / "pairs.csv").write_text("\n".join(["image,mask", *lines]))
    pairs = {name: pair for split in find_splits(pets).values() for name, pair in split.items()}
    assert pairs["images/é"][0].samefile(file)


def test_an_id_stays_below_the_folder_of_its_masks(pets):
    make_pets(pets, save_gray)
    lines = [f"../pets/images/pet00.jpg,masks/pet00.png\n{pets}/images/pet01.jpg,masks/pet01.png"]
    (pets / "pairs.csv").write_text("\n".join(["image,mask", *lines]))
    names = [name for pairs in find_splits(pets).values() for name in pairs]
    assert sorted(names) == sorted(["pets/images/pet00", f"{pets}/images/pet01"[1:]])


def test_a_folder_without_images_is_named(pets):
    make_pets(pets, save_gray)
    for file in (pets / "images").iterdir():
        file.rename(file.with_suffix(".heic"))
    with pytest.raises(ValueError, match="images holds no image: no file with one of .jpg"):
        find_splits(pets)


def test_the_folders_of_pairs_csv_are_splits_too(pets):
    make_pets(pets, save_gray)
    for name in ("images", "masks"):
        for split, numbers in {"train": range(8), "Validation": range(8, 12)}.items():
            (pets / name / split).mkdir()
            for number in numbers:
                (file,) = (pets / name).glob(f"pet{number:02}.*")
                file.rename(pets / name / split / file.name)
    images = [file.relative_to(pets) for file in sorted(pets.glob("images/*/*"))]
    rows = [f"{file},masks/{file.parent.name}/{file.stem}.png" for file in images]
    (pets / "pairs.csv").write_text("\n".join(["image,mask", *rows]))
    splits = find_splits(pets)
    assert {split: len(pairs) for split, pairs in splits.items()} == {"train": 8, "val": 4}
    (pets / "pairs.csv").write_text("\n".join(["image,mask,subset", *(f"{row},x" for row in rows)]))
    with pytest.raises(ValueError, match="line 1: the column 'subset' is not one of"):
        find_splits(pets)


def test_a_suffix_in_a_list_of_names_is_named(pets):
    make_pets(pets, save_gray)
    (pets / "train.txt").write_text("pet00.jpg\n")
    (pets / "val.txt").write_text("pet01\n")
    with pytest.raises(ValueError, match="Write names without their suffix: pet00"):
        find_splits(pets)
