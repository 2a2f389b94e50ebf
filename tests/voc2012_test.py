"""The VOC builder reads what VOC and SBD have, and names the file that is wrong."""

import hashlib
import resource
import subprocess
import sys
import tarfile

import numpy as np
import pytest
import scipy.io
import tensorflow_datasets as tfds
from PIL import Image

from data import voc2012
from data.build import build, describe_splits, open_dataset
from data.classes import VOC_CLASS_NAMES, VOC_SPLIT_SIZES
from data.features import read_ids, read_label
from data.pipeline import eval_examples
from data.voc2012 import Voc2012, combine_trainaug, read_mat
from tests.conftest import ROOT, save_label


@pytest.fixture
def voc(vocdevkit):
    return vocdevkit / "VOC2012"


@pytest.fixture
def sbd(voc, tmp_path):
    """SBD's benchmark_RELEASE with .mat labels, all 7, of all but the first of VOC's images.

    As the real one, it labels images of VOC's val too; it takes the place of SegmentationClassAug.
    """
    dataset = tmp_path / "benchmark_RELEASE" / "dataset"
    (dataset / "cls").mkdir(parents=True)
    (dataset / "img").mkdir()
    for file in sorted((voc / "SegmentationClassAug").glob("*.png")):
        if file.stem != "2007_000000":
            write_mat(dataset / "cls" / f"{file.stem}.mat", np.full_like(read_label(file), 7))
        file.unlink()
    (voc / "SegmentationClassAug").rmdir()
    (voc / "ImageSets" / "Segmentation" / "trainaug.txt").unlink()
    (dataset / "train.txt").write_text("2007_000001\n2007_000004\n2007_000002\n")
    (dataset / "val.txt").write_text("2007_000005\n2007_000003\n")
    return dataset


def write_mat(file, label):
    fields = {"Boundaries": np.zeros(1), "Segmentation": label, "CategoriesPresent": [7]}
    scipy.io.savemat(file, {"GTcls": fields}, do_compression=True)


def build_voc(manual_dir, data_dir, name="voc2012"):
    return build(name, str(data_dir), str(manual_dir) if manual_dir else None)


def labels_of(builder, split):
    examples = eval_examples(builder, split).as_numpy_iterator()
    return {example["id"].decode(): example["label"] for example in examples}


def test_leftovers_of_macos_are_not_labels(vocdevkit, voc, tmp_path):
    """An archive that macOS packed unpacks to a folder beside VOCdevkit, with a ._NAME per file."""
    upper = tmp_path / "zip" / "voc"
    upper.mkdir(parents=True)
    vocdevkit.rename(upper / "VOCdevkit")
    voc = upper / "VOCdevkit" / "VOC2012"
    for file in sorted(voc.rglob("*.*")):
        for copy in (voc, tmp_path / "zip" / "__MACOSX" / "VOCdevkit" / "VOC2012"):
            leftover = copy / file.relative_to(voc).with_name(f"._{file.name}")
            leftover.parent.mkdir(parents=True, exist_ok=True)
            leftover.write_bytes(b"\0\5\x16\7")
    builder = build_voc(tmp_path / "zip", tmp_path / "shards")
    assert builder.info.splits["trainaug"].num_examples == 4


def test_splits_images_and_labels_are_those_of_the_folder(vocdevkit, voc, tmp_path):
    builder = build_voc(vocdevkit, tmp_path / "shards")
    counts = {split: info.num_examples for split, info in builder.info.splits.items()}
    assert counts == {"train": 2, "val": 2, "trainval": 4, "trainaug": 4}
    assert builder.info.metadata["class_names"] == list(VOC_CLASS_NAMES)
    assert builder.info.metadata["palette"][1] == [128, 0, 0]
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


def test_what_is_partial_is_told(vocdevkit, tmp_path):
    said = describe_splits(build_voc(vocdevkit, tmp_path / "shards"))
    assert "val: 2 images, partial: the official split has 1449" in said
    assert "trainaug: 4 images, partial: the official split has 10582" in said


def test_jpegs_are_kept_byte_by_byte(vocdevkit, voc, tmp_path):
    builder = build_voc(vocdevkit, tmp_path / "shards")
    encoded = builder.as_dataset(split="val", decoders={"image": tfds.decode.SkipDecoding()})
    for example in encoded.as_numpy_iterator():
        original = voc / "JPEGImages" / f"{example['id'].decode()}.jpg"
        assert example["image"] == original.read_bytes()


def test_trainaug_is_what_sbd_labelled_and_vocs_train_less_vocs_val(voc, sbd, tmp_path):
    for i in (4, 5):  # Only SBD has these photos.
        (voc / "JPEGImages" / f"2007_00000{i}.jpg").rename(sbd / "img" / f"2007_00000{i}.jpg")
    builder = build_voc(tmp_path, tmp_path / "shards")
    labels = labels_of(builder, "trainaug")
    assert sorted(labels) == [f"2007_00000{i}" for i in (0, 1, 4, 5)]
    assert not labels.keys() & labels_of(builder, "val").keys()


@pytest.mark.parametrize("name, wins", [("voc2012", "voc"), ("voc2012/sbd_labels", "sbd")])
def test_where_an_image_has_both_labels_the_config_says_which_wins(sbd, tmp_path, name, wins):
    labels = labels_of(build_voc(tmp_path, tmp_path / "shards", name), "trainaug")
    from_sbd = {name for name, label in labels.items() if (label == 7).all()}
    only_sbd = {"2007_000004", "2007_000005"}
    assert from_sbd == (only_sbd if wins == "voc" else only_sbd | {"2007_000001"})


def test_the_official_lists_agree_with_the_algebra():
    """Whatever else SBD labelled is in VOC's val, and is taken out."""
    lists = ROOT.parent / "shared" / "data" / "voc_lists"
    if not lists.is_dir():
        pytest.skip(f"the official lists are not in {lists}")
    train, val, listed = (
        read_ids(lists / f"{split}.txt") for split in ("train", "val", "train_aug")
    )
    assert combine_trainaug(train, val, [*listed, *val[:500]]) == sorted(listed)
    assert (len(train), len(val), len(listed)) == tuple(
        VOC_SPLIT_SIZES[split] for split in ("train", "val", "trainaug")
    )


def test_the_whole_way_from_archives(voc, vocdevkit, sbd, tmp_path, monkeypatch):
    """Downloaded, as if, or put into --manual_dir; with the test archive, which has no labels."""
    test = tmp_path / "test" / "VOCdevkit" / "VOC2012"
    (test / "ImageSets" / "Segmentation").mkdir(parents=True)
    (test / "ImageSets" / "Segmentation" / "test.txt").write_text("2008_000006\n")
    (test / "JPEGImages").mkdir()
    Image.new("RGB", (20, 10)).save(test / "JPEGImages" / "2008_000006.jpg")
    folders = (vocdevkit, tmp_path / "benchmark_RELEASE", tmp_path / "test" / "VOCdevkit")
    manual_dir = tmp_path / "archives"
    manual_dir.mkdir()
    archives = []
    for archive, folder in zip(voc2012.ARCHIVES, folders, strict=True):
        file = manual_dir / archive.name
        with tarfile.open(file, "w:gz" if file.suffix == ".tgz" else "w") as tar:
            tar.add(folder, folder.name)
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        archives.append(archive._replace(size=file.stat().st_size, sha256=digest))
    monkeypatch.setattr(voc2012, "ARCHIVES", archives)
    builder = build_voc(manual_dir, tmp_path / "shards")
    fetched = tmp_path / "fetched" / "downloads" / "voc2012"
    fetched.mkdir(parents=True)
    monkeypatch.setattr(voc2012, "fetch", lambda archive, folder: manual_dir / archive.name)
    for built in (builder, build_voc(None, tmp_path / "fetched")):
        counts = {split: info.num_examples for split, info in built.info.splits.items()}
        assert counts == {"train": 2, "val": 2, "trainval": 4, "trainaug": 4, "test": 1}
        (label,) = labels_of(built, "test").values()
        assert label.shape == (10, 20) and (label == 255).all()


def test_without_the_test_archive_the_others_are_built(
    voc, vocdevkit, sbd, tmp_path, monkeypatch, capsys
):
    def fetched(archive, folder):
        if archive.name == "VOC2012test.tar":
            raise OSError("No host provided VOC2012test.tar")
        return tmp_path / archive.name

    monkeypatch.setattr(voc2012, "fetch", fetched)
    monkeypatch.setattr(voc2012, "unpack", lambda file, folder: tmp_path)
    builder = build_voc(None, tmp_path / "shards")
    assert set(builder.info.splits) == {"train", "val", "trainval", "trainaug"}
    said = capsys.readouterr().out
    assert "No test split: No host provided" in said and "test: left out" in said


@pytest.mark.parametrize(
    "place",
    ["VOCdevkit/benchmark_RELEASE", "VOCdevkit/VOC2012/dataset", "benchmark/benchmark_RELEASE"],
)
def test_sbd_is_found_wherever_people_put_it(sbd, tmp_path, place):
    (tmp_path / place).parent.mkdir(exist_ok=True)
    if place.endswith("dataset"):
        sbd.rename(tmp_path / place)
    else:
        sbd.parent.rename(tmp_path / place)
    assert "trainaug" in build_voc(tmp_path, tmp_path / "shards").info.splits


def test_a_folder_that_is_not_there_fetches_nothing(tmp_path):
    (tmp_path / "empty").mkdir()
    for folder in ("empty", "typo"):
        with pytest.raises(FileNotFoundError, match=f"{folder} is empty or not a folder"):
            build_voc(tmp_path / folder, tmp_path / "shards")


def test_an_image_of_train_and_val_is_named(vocdevkit, voc, tmp_path):
    val = voc / "ImageSets" / "Segmentation" / "val.txt"
    val.write_text(val.read_text() + "2007_000001\n")
    with pytest.raises(ValueError, match="2007_000001 is in train.txt and in val.txt"):
        build_voc(vocdevkit, tmp_path / "shards")


def test_an_archive_that_is_not_the_original_is_named(vocdevkit, tmp_path):
    (tmp_path / "benchmark.tgz").write_bytes(b"<html>")
    with pytest.raises(ValueError, match="benchmark.tgz has 6 bytes, but .* has 1419539633"):
        build_voc(tmp_path, tmp_path / "shards")


@pytest.mark.parametrize(
    "damage, said",
    [
        (lambda file: file.write_bytes(file.read_bytes()[:60]), "not a label of SBD"),
        (lambda file: scipy.io.savemat(file, {"GTinst": 1}), "not a label of SBD"),
        (lambda file: file.write_text("<html>"), "not a label of SBD"),
        (lambda file: file.unlink(), "is missing"),
    ],
)
def test_a_mat_that_is_wrong_is_named(sbd, damage, said):
    file = sbd / "cls" / "2007_000004.mat"
    damage(file)
    with pytest.raises((ValueError, FileNotFoundError), match=said) as error:
        read_mat(file)
    assert str(file) in str(error.value)


def test_the_folder_may_be_voc2012_itself_and_may_lack_sbd(voc, tmp_path):
    for file in (voc / "SegmentationClassAug").iterdir():
        file.unlink()
    (voc / "SegmentationClassAug").rmdir()
    builder = build_voc(voc, tmp_path / "shards")
    assert set(builder.info.splits) == {"train", "val", "trainval"}


def test_a_list_of_trainaug_is_held_against_the_labels(vocdevkit, voc, tmp_path):
    (voc / "SegmentationClassAug" / "2007_000005.png").unlink()
    with pytest.raises(
        ValueError, match=r"trainaug.txt .* differ in 1 images, such as 2007_000005"
    ):
        build_voc(vocdevkit, tmp_path / "shards")


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "val.txt lists no ids"),
        ("2007_000002\n2007_000003\n2007_000002\n", "val.txt lists 2007_000002 twice"),
        ("2007_000002\n2007_999999\n", "2007_999999.jpg is missing"),
    ],
)
def test_a_wrong_list_of_ids_is_named(vocdevkit, voc, tmp_path, text, said):
    (voc / "ImageSets" / "Segmentation" / "trainaug.txt").unlink()
    (voc / "ImageSets" / "Segmentation" / "val.txt").write_text(text)
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        build_voc(vocdevkit, tmp_path / "shards")


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


def mode(name):
    return lambda path: Image.open(path).convert(name).save(path)


def sixteen_bits(path):
    label = np.array(Image.open(path)).astype(np.uint16)
    label[4, 4] = 300
    Image.fromarray(label).save(path)


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
        (missing, "SegmentationClass", "missing"),
        (other_size, "SegmentationClass", "6 x 5 pixels"),
        (id_21, "SegmentationClass", r"ids \[21\]"),
        (mode("RGB"), "SegmentationClass", "is a PNG of RGB colors"),
        (mode("RGBA"), "SegmentationClass", "is a PNG of RGB colors"),
        (sixteen_bits, "SegmentationClass", "holds the id 300"),
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
    with pytest.raises(FileNotFoundError, match="python -m data.build voc2012 --manual_dir="):
        open_dataset("voc2012", str(tmp_path / "shards"))


def test_gray_photos_have_three_channels(vocdevkit, voc, tmp_path):
    photo = voc / "JPEGImages" / "2007_000002.jpg"
    mode("L")(photo)
    examples = eval_examples(build_voc(vocdevkit, tmp_path / "shards"), "val").as_numpy_iterator()
    image = next(one["image"] for one in examples if one["id"] == b"2007_000002")
    assert (image == image[..., :1]).all()
    # Libraries round a little differently.
    np.testing.assert_allclose(image[..., 0], np.array(Image.open(photo)), atol=2)


def test_a_full_disk_leaves_nothing_that_passes_for_whole(vocdevkit, tmp_path):
    """No file may grow over 8,000 bytes: as on a full disk, writing fails in the middle."""
    done = subprocess.run(
        [sys.executable, "-m", "data.build", "voc2012", f"--manual_dir={vocdevkit}"]
        + [f"--data_dir={tmp_path / 'shards'}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, 8_000)),
    )
    assert done.returncode == 1
    assert "cannot be written" in done.stderr and "--data_dir" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "shards").rglob("*tfrecord*"))
    with pytest.raises(FileNotFoundError, match="Build it there once"):
        open_dataset("voc2012", str(tmp_path / "shards"))


def test_another_folder_is_no_vocdevkit(tmp_path):
    (tmp_path / "something").touch()
    with pytest.raises(FileNotFoundError, match="is not a VOCdevkit"):
        build_voc(tmp_path, tmp_path / "shards")


def test_a_palette_png_is_read_as_indices_not_colors(voc):
    label = read_label(voc / "SegmentationClass" / "2007_000000.png")
    assert label.max() == 255 and set(np.unique(label)) <= {*range(21), 255}


def test_an_unknown_data_set_lists_those_there_are(tmp_path):
    with pytest.raises(ValueError, match="'imagenet'; choose one of shapes, voc2012"):
        open_dataset("imagenet", str(tmp_path))
    with pytest.raises(ValueError, match="choose one of voc2012/voc_labels, voc2012/sbd_labels"):
        open_dataset("voc2012/coarse", str(tmp_path))


def test_what_is_built_is_not_taken_for_built_anew(vocdevkit, tmp_path):
    build_voc(vocdevkit, tmp_path / "shards")
    with pytest.raises(FileExistsError, match="already exists in .*; --overwrite builds it again"):
        build_voc(vocdevkit, tmp_path / "shards")


def test_the_instructions_say_what_is_fetched():
    assert "5.3 GB" in Voc2012.MANUAL_DOWNLOAD_INSTRUCTIONS
    assert round(sum(archive.size for archive in voc2012.ARCHIVES) / 1e9, 1) == 5.3
