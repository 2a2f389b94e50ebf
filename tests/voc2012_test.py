"""The VOC builder reads what VOC has, and names the file that is wrong."""

import numpy as np
import pytest
from PIL import Image

from data.build import build, open_dataset
from data.classes import VOC_CLASS_NAMES
from data.pipeline import eval_examples
from data.voc2012 import Voc2012, read_example
from tests.conftest import save_label


@pytest.fixture
def voc(vocdevkit):
    return vocdevkit / "VOC2012"


def build_voc(vocdevkit, data_dir):
    return build("voc2012", str(data_dir), originals=str(vocdevkit))


def test_splits_images_and_labels_are_those_of_the_folder(vocdevkit, voc, tmp_path):
    builder = build_voc(vocdevkit, tmp_path / "shards")
    counts = {split: info.num_examples for split, info in builder.info.splits.items()}
    assert counts == {"train": 2, "val": 2, "trainval": 4, "trainaug": 4}
    assert builder.info.metadata["class_names"] == list(VOC_CLASS_NAMES)
    for split in counts:
        listed = (voc / "ImageSets" / "Segmentation" / f"{split}.txt").read_text().split()
        examples = list(eval_examples(builder, split).as_numpy_iterator())
        assert sorted(example["id"].decode() for example in examples) == listed
        for example in examples:
            name = example["id"].decode()
            label_file = voc / "SegmentationClass" / f"{name}.png"
            if not label_file.exists():
                label_file = voc / "SegmentationClassAug" / f"{name}.png"
            np.testing.assert_array_equal(example["label"], np.array(Image.open(label_file)))
            assert example["image"].shape[:2] == example["label"].shape


def test_jpegs_are_kept_byte_by_byte(vocdevkit, voc, tmp_path):
    builder = build_voc(vocdevkit, tmp_path / "shards")
    import tensorflow_datasets as tfds

    encoded = builder.as_dataset(split="val", decoders={"image": tfds.decode.SkipDecoding()})
    for example in encoded.as_numpy_iterator():
        original = voc / "JPEGImages" / f"{example['id'].decode()}.jpg"
        assert example["image"] == original.read_bytes()


def test_vocs_own_label_wins_where_both_exist(vocdevkit, tmp_path):
    """Its borders of 255 are there in trainaug; only what SBD alone labelled has none."""
    builder = build_voc(vocdevkit, tmp_path / "shards")
    bordered = [
        (example["label"] == 255).any()
        for example in eval_examples(builder, "trainaug").as_numpy_iterator()
    ]
    assert sorted(bordered) == [False, False, True, True]


def test_the_folder_may_be_voc2012_itself_and_may_lack_sbd(voc, tmp_path):
    for path in (voc / "ImageSets" / "Segmentation").glob("trainaug.txt"):
        path.unlink()
    builder = build_voc(voc, tmp_path / "shards")
    assert set(builder.info.splits) == {"train", "val", "trainval"}


def test_the_other_name_of_the_list_is_found(vocdevkit, voc, tmp_path):
    lists = voc / "ImageSets" / "Segmentation"
    (lists / "trainaug.txt").rename(lists / "train_aug.txt")
    assert "trainaug" in build_voc(vocdevkit, tmp_path / "shards").info.splits


def cut_short(path):
    path.write_bytes(path.read_bytes()[:300])


def no_image(path):
    path.write_text("<html>404</html>")


def other_size(path):
    save_label(path, np.zeros((5, 6)))


def id_21(path):
    label = np.array(Image.open(path))
    label[4, 4] = 21
    save_label(path, label)


def colours(path):
    Image.open(path).convert("RGB").save(path)


def missing(path):
    path.unlink()


@pytest.mark.parametrize(
    "damage, folder, said",
    [
        (cut_short, "JPEGImages", "cannot be read"),
        (no_image, "JPEGImages", "cannot be read"),
        (missing, "JPEGImages", "missing"),
        (cut_short, "SegmentationClass", "cannot be read"),
        (no_image, "SegmentationClass", "cannot be read"),
        (other_size, "SegmentationClass", "6 x 5 pixels"),
        (id_21, "SegmentationClass", r"ids \[21\]"),
        (colours, "SegmentationClass", "mode RGB"),
    ],
)
def test_a_wrong_file_is_named_and_no_shards_are_left(
    vocdevkit, voc, tmp_path, damage, folder, said
):
    wrong = next((voc / folder).glob("2007_000002.*"))
    damage(wrong)
    with pytest.raises((ValueError, FileNotFoundError), match=said) as error:
        build_voc(vocdevkit, tmp_path / "shards")
    assert str(wrong) in str(error.value)
    with pytest.raises(FileNotFoundError, match="python -m data.build voc2012 --originals="):
        open_dataset("voc2012", str(tmp_path / "shards"))


def test_a_missing_mask_is_named(vocdevkit, voc, tmp_path):
    (voc / "SegmentationClass" / "2007_000002.png").unlink()
    with pytest.raises(FileNotFoundError, match="No label 2007_000002.png in .*SegmentationClass"):
        build_voc(vocdevkit, tmp_path / "shards")


def test_another_folder_is_no_vocdevkit(tmp_path):
    with pytest.raises(FileNotFoundError, match="is no VOCdevkit"):
        build_voc(tmp_path, tmp_path / "shards")


def test_a_palette_png_is_read_as_indices_not_colours(voc):
    name = "2007_000000"
    example = read_example(
        voc / "JPEGImages" / f"{name}.jpg", voc / "SegmentationClass" / f"{name}.png"
    )
    assert example["label"].max() == 255 and set(np.unique(example["label"])) <= {*range(21), 255}


def test_facts_of_a_voc_folder_are_asked_for(tmp_path):
    assert Voc2012.MANUAL_DOWNLOAD_INSTRUCTIONS
    with pytest.raises(ValueError, match="Name the VOCdevkit folder"):
        build("voc2012", str(tmp_path))


def test_an_unknown_data_set_lists_those_there_are(tmp_path):
    with pytest.raises(ValueError, match="'imagenet'; there are shapes, voc2012"):
        open_dataset("imagenet", str(tmp_path))


def test_what_is_built_is_not_taken_for_built_anew(vocdevkit, tmp_path):
    build_voc(vocdevkit, tmp_path / "shards")
    with pytest.raises(FileExistsError, match="already; delete that folder to build it again"):
        build_voc(vocdevkit, tmp_path / "shards")
