"""The audit finds what it is for, and nothing in a data set that is whole."""

import json
import subprocess

import imagehash
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image, ImageFilter

from data.audit import audit, find_near_duplicates, format_summary, split_pairs
from data.build import audit_hash, build
from data.classes import VOC_CLASS_NAMES, ids_sha256, voc_palette
from data.features import segmentation_info
from tests.conftest import ROOT
from tests.preloaded_python import preloaded_python


def photo(seed):
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    return Image.fromarray(noise).resize((64, 48))


class Faulty(tfds.core.GeneratorBasedBuilder):
    """In train: an id out of range, a label of another size, one all 255, a photo of val."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return segmentation_info(self, "", VOC_CLASS_NAMES, voc_palette()[:21])

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in ("train", "val")}

    def _generate_examples(self, split):
        label = np.zeros((48, 64), np.uint8)
        label[:10] = 3
        if split == "val":
            yield self.one("shared", photo(0), label)
            yield self.one("alone", photo(1), label)
            return
        yield self.one("like_shared", photo(0).filter(ImageFilter.GaussianBlur(1)), label)
        yield self.one("out_of_range", photo(2), np.where(label, 21, label))
        yield self.one("smaller", photo(3), label[:40])
        yield self.one("ignored", photo(4), np.full_like(label, 255))
        yield self.one("good", photo(5), label)

    def one(self, name, image, label):
        return name, {"image": np.array(image), "label": label[..., None], "id": name}


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    builder = Faulty(data_dir=tmp_path_factory.mktemp("shards"))
    builder.download_and_prepare()
    return audit(builder)


def test_each_fault_is_found_and_named(result):
    train = result["splits"]["train"]
    assert train["out_of_range"] == {"out_of_range": [21]}
    assert train["size_mismatch"] == {"smaller": ((64, 48), (64, 40))}
    assert train["all_ignored"] == ["ignored"]
    ((one, other, distance),) = result["shared"]["train and val"]["near"]
    assert (one, other) == ("like_shared", "shared") and distance <= 4
    assert len(result["problems"]) >= 3


def test_pixels_and_images_of_each_class_are_counted(result):
    val = result["splits"]["val"]
    assert val["images"] == 2 and val["images_with"][3] == 2
    assert set(val["samples"][3]) == {"alone", "shared"} and not val["samples"][4]
    assert val["pixels"][3] == 2 * 10 * 64 and sum(val["pixels"]) == 2 * 48 * 64
    assert not any(val[kind] for kind in ("out_of_range", "size_mismatch", "all_ignored"))
    assert val["ids_sha256"] == ids_sha256(["alone", "shared"]) == ids_sha256(["shared", "alone"])


def test_only_what_is_trained_on_is_held_against_what_is_scored():
    assert split_pairs(["train", "val", "trainval", "test"]) == [
        ("train", "val"),
        ("train", "test"),
        ("val", "test"),
        ("trainval", "test"),
    ]
    assert split_pairs(["train_fine", "val_fine", "train_coarse"]) == [
        ("train_fine", "val_fine"),
        ("val_fine", "train_coarse"),
    ]
    assert split_pairs(["training", "holdout"]) == [("training", "holdout")]


def test_hashes_near_each_other_are_found_whatever_the_order():
    bits = np.random.default_rng(0).integers(0, 2, (300, 64)).astype(bool)
    train = {f"t{i}": row for i, row in enumerate(bits)}
    scored = {"v": bits[250] ^ (np.arange(64) < 3), "w": ~bits[0]}
    assert find_near_duplicates(train, scored) == [("t250", "v", 3)]


def build_images(tmp_path, images, train, val):
    """Images of 64 x 48, and the digits of those in each split -> a data set of two classes."""
    folder = tmp_path / "originals"
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    label = Image.fromarray((np.indices((48, 64))[0] // 24).astype(np.uint8))
    for i, image in enumerate(images):
        image.save(folder / "images" / f"{i}.png")
        label.save(folder / "masks" / f"{i}.png")
    for split, names in (("train", train), ("val", val)):
        (folder / f"{split}.txt").write_text("\n".join(names))
    return build("folder/made", str(tmp_path / "shards"), str(folder), accept=True)


def test_images_of_one_color_are_not_copies_of_each_other(tmp_path):
    colors = [Image.new("RGB", (64, 48), (40 * i, 10, 200)) for i in range(4)]
    result = audit(build_images(tmp_path, [*colors, photo(0), photo(0)], "0124", "35"))
    assert result["shared"]["train and val"] == {"ids": [], "near": [("4", "5", 0)]}
    assert [sorted(result["splits"][s]["blank"]) for s in ("train", "val")] == [list("012"), ["3"]]
    summary = format_summary(result)
    assert "  3 images of one color, a gradient or little else, not compared" in summary
    assert "  1 image of one color, a gradient or little else, not compared" in summary
    assert "train and val: 0 shared ids, 1 similar image\n" in summary
    assert find_near_duplicates({}, {}) == []


def test_near_blank_images_are_not_copies_of_each_other(tmp_path):
    """A tile with an edge along a side, and a gradient, have the hash of all such images."""
    tiles = np.random.default_rng(0).integers(0, 2, (6, 48, 64, 1)) + 40 * np.arange(6)[
        :, None, None, None
    ].repeat(3, -1)
    tiles[0, :, :1] = 255
    tiles[1, :, :1] = 200
    ramp = np.linspace(0, 1, 64)[None, :, None]
    tiles[2], tiles[3] = 200 * ramp, 10 + 240 * ramp
    hashes = [imagehash.phash(Image.fromarray(tile)) for tile in tiles[2:4].astype(np.uint8)]
    assert hashes[0] - hashes[1] <= 4
    images = list(map(Image.fromarray, tiles.astype(np.uint8)))
    result = audit(build_images(tmp_path, images, "024", "135"))
    assert result["shared"]["train and val"]["near"] == []
    assert [sorted(result["splits"][s]["blank"]) for s in ("train", "val")] == [
        list("024"),
        list("135"),
    ]


def run_audit(*arguments):
    return subprocess.run(
        [preloaded_python(), "-m", "data.audit", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


def test_the_program_writes_a_table_a_json_and_a_page(vocdevkit, tmp_path):
    builder = build("voc2012", str(tmp_path / "shards"), str(vocdevkit))
    assert audit_hash(builder) is None
    done = run_audit("voc2012", f"--data_dir={tmp_path / 'shards'}", f"--manual_dir={vocdevkit}")
    assert done.returncode == 0, done.stderr
    assert "2 images of 1449" in done.stdout and "no problems" in done.stdout
    folder = builder.data_path
    facts = json.loads((folder / "audit.json").read_text())
    assert facts["splits"]["val"]["images"] == 2 and facts["sbd_against_voc"]["images"] == 4
    page = (folder / "audit.html").read_text()
    assert (
        page.split("<h2>Least agreement")[1].count("<img ") == 3 * 4
        and "aeroplane" in page
        and 'src="http' not in page
    )
    assert len(audit_hash(builder)) == 64


def test_a_data_set_that_is_not_built_names_the_command(tmp_path):
    done = run_audit("voc2012", f"--data_dir={tmp_path}")
    assert done.returncode == 1 and "python -m data.build voc2012" in done.stderr
    assert "Traceback" not in done.stderr
