"""Cityscapes' labelIds become the 19 classes that are scored."""

import numpy as np
import pytest
from PIL import Image

from data.build import build
from data.cityscapes import to_train_ids
from data.pipeline import eval_examples


@pytest.fixture
def cityscapes(tmp_path):
    return make_cityscapes(tmp_path)


def make_cityscapes(root):
    """Two cities of train_fine, one image of val_fine, one of train_coarse."""
    rng = np.random.default_rng(0)
    images = {
        ("gtFine", "train"): ["aachen_000000_000019", "bochum_000000_000313"],
        ("gtFine", "val"): ["munster_000000_000019"],
        ("gtCoarse", "train_extra"): ["nuremberg_000000_000001"],
    }
    for (kind, folder), names in images.items():
        for name in names:
            city = name.split("_")[0]
            photo = root / "leftImg8bit" / folder / city / f"{name}_leftImg8bit.png"
            label = root / kind / folder / city / f"{name}_{kind}_labelIds.png"
            for file, shape, top in ((photo, (16, 32, 3), 256), (label, (16, 32), 34)):
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rng.integers(0, top, shape).astype(np.uint8)).save(file)
    return root


def test_splits_photos_and_ids(cityscapes, tmp_path):
    for folder in ("leftImg8bit", "gtFine"):  # macOS leaves such files.
        for file in sorted((cityscapes / folder).rglob("*.png")):
            file.with_name(f"._{file.name}").write_bytes(b"\0\5\x16\7")
    builder = build("cityscapes", str(tmp_path / "shards"), str(cityscapes))
    counts = {split: info.num_examples for split, info in builder.info.splits.items()}
    assert counts == {"train_fine": 2, "val_fine": 1, "train_coarse": 1}
    assert len(builder.info.metadata["class_names"]) == len(builder.info.metadata["palette"]) == 19
    (example,) = eval_examples(builder, "val_fine").as_numpy_iterator()
    name = "munster_000000_000019"
    assert example["id"].decode() == name
    photo = cityscapes / "leftImg8bit" / "val" / "munster" / f"{name}_leftImg8bit.png"
    np.testing.assert_array_equal(example["image"], np.array(Image.open(photo)))
    label = cityscapes / "gtFine" / "val" / "munster" / f"{name}_gtFine_labelIds.png"
    expected = to_train_ids(np.array(Image.open(label)), label)
    np.testing.assert_array_equal(example["label"], expected)


def test_ids_are_those_of_the_official_scripts():
    """road is 7 -> 0, bicycle 33 -> 18; ground, trailers and the like are ignored."""
    ids = to_train_ids(np.arange(34, dtype=np.uint8)[None], None)[0]
    assert {i: int(ids[i]) for i in (7, 8, 11, 24, 26, 28, 31, 33)} == {
        7: 0,
        8: 1,
        11: 2,
        24: 11,
        26: 13,
        28: 15,
        31: 16,
        33: 18,
    }
    assert (ids[[0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30]] == 255).all()
    assert sorted(ids[ids != 255]) == list(range(19))


def test_what_is_wrong_is_named(cityscapes, tmp_path):
    label = next((cityscapes / "gtFine" / "val").rglob("*.png"))
    Image.fromarray(np.full((16, 32), 255, np.uint8)).save(label)
    with pytest.raises(ValueError, match=rf"{label.name} holds the ids \[255\]; labelIds are 0 to"):
        build("cityscapes", str(tmp_path / "shards"), str(cityscapes))
    label.unlink()
    with pytest.raises(FileNotFoundError, match=f"{label.name} is missing"):
        build("cityscapes", str(tmp_path / "shards"), str(cityscapes))


def test_another_folder_is_no_cityscapes(tmp_path):
    (tmp_path / "something").touch()
    with pytest.raises(FileNotFoundError, match="is not Cityscapes"):
        build("cityscapes", str(tmp_path / "shards"), str(tmp_path))
