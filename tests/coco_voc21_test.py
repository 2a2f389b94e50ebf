"""COCO's regions become VOC's class ids, and images are chosen by either reading of the paper."""

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from data.build import build
from data.classes import COCO_NAMES, VOC_CLASS_NAMES
from data.coco_voc21 import draw_label
from data.pipeline import eval_examples
from tests.conftest import ROOT

NAMES = [COCO_NAMES.get(name, name) for name in VOC_CLASS_NAMES[1:]]
CATEGORIES = {name: 10 + i for i, name in enumerate(["frisbee", *NAMES])}


def square(left, top, side):
    right, bottom = left + side, top + side
    return [[left, top, right, top, right, bottom, left, bottom]]


def region(image, name, segmentation, area, **fields):
    return {
        "id": 7,
        "image_id": image,
        "category_id": CATEGORIES[name],
        "segmentation": segmentation,
        "area": area,
        "iscrowd": 0,
        **fields,
    }


@pytest.fixture
def coco(tmp_path):
    return make_coco(tmp_path)


def make_coco(folder):
    """Four images: of a person and a dog that overlap; of small things; of a frisbee; of none."""
    (folder / "annotations").mkdir()
    (folder / "val2017").mkdir()
    images = []
    for i in range(4):
        size = (80, 60 + i)
        Image.new("RGB", size).save(folder / "val2017" / f"00{i}.jpg")
        images.append({"id": i, "file_name": f"00{i}.jpg", "width": size[0], "height": size[1]})
    small = [region(1, "tv", square(5 + 30 * k, 5, 25), 625) for k in range(2)]
    content = {
        "images": images,
        "categories": [{"id": i, "name": name} for name, i in CATEGORIES.items()],
        "annotations": [
            region(0, "person", square(10, 10, 40), 1600),
            region(0, "dog", square(40, 20, 30), 900),
            region(0, "frisbee", square(0, 0, 80), 4800),
            *small,
            region(2, "frisbee", square(0, 0, 80), 4800),
        ],
    }
    (folder / "annotations" / "instances_val2017.json").write_text(json.dumps(content))
    return folder


def edit(coco, change):
    file = coco / "annotations" / "instances_val2017.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def labels_of(coco, data_dir, rule):
    builder = build(f"coco_voc21/{rule}", str(data_dir), str(coco))
    examples = eval_examples(builder, "val").as_numpy_iterator()
    return {example["id"].decode(): example["label"] for example in examples}


def test_regions_overlaps_and_other_classes(coco, tmp_path):
    label = labels_of(coco, tmp_path / "shards", "per_region")["000"]
    person, dog = VOC_CLASS_NAMES.index("person"), VOC_CLASS_NAMES.index("dog")
    expected = np.zeros((60, 80), int)
    expected[10:50, 10:50] = person
    expected[20:50, 40:70] = dog
    expected[20:50, 40:50] = 255
    np.testing.assert_array_equal(label, expected)


@pytest.mark.parametrize("rule, kept", [("per_region", {"000"}), ("summed", {"000", "001"})])
def test_each_rule_keeps_its_images_and_both_counts_are_told(coco, tmp_path, capsys, rule, kept):
    assert set(labels_of(coco, tmp_path / "shards", rule)) == kept
    assert "of 4 images, selected per_region 1, summed 2" in capsys.readouterr().out


def test_polygons_and_both_run_lengths_draw_the_same():
    mask = np.zeros((30, 40), np.uint8)
    mask[5:15, 10:22] = 1
    packed = coco_mask.encode(np.asfortranarray(mask))
    columns = mask.T.ravel()
    changes = np.flatnonzero(np.diff(columns)) + 1
    counts = np.diff([0, *changes, columns.size]).tolist()
    polygon = [[10, 5, 22, 5, 22, 15, 10, 15]]
    crowd = {"size": [30, 40], "counts": counts}
    for segmentation in (polygon, crowd, {**packed, "counts": packed["counts"].decode()}):
        regions = [{"class_id": 3, "image_id": 0, "segmentation": segmentation}]
        np.testing.assert_array_equal(draw_label(regions, 30, 40, None), 3 * mask)


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda c: c.pop("categories"), "is not an instances JSON"),
        (lambda c: c["categories"].pop(), "is not an instances JSON of COCO: KeyError.'tv'"),
        (lambda c: c["annotations"][0].update(segmentation=[[1]]), "region 7 of image 0 cannot be"),
        (
            lambda c: c["annotations"][0].update(segmentation={"size": [5, 5], "counts": [25]}),
            "region 7 of image 0 cannot be drawn",
        ),
        (lambda c: c["images"][0].update(height=61), r"80 x 61 pixels, but .*000.jpg has 80 x 60"),
        (lambda c: c["images"][0].update(file_name="gone.jpg"), "gone.jpg is missing"),
    ],
)
def test_what_is_wrong_is_named(coco, tmp_path, change, said):
    edit(coco, change)
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        build("coco_voc21", str(tmp_path / "shards"), str(coco))


def test_a_cut_json_is_named(coco, tmp_path):
    file = coco / "annotations" / "instances_val2017.json"
    file.write_text(file.read_text()[:500])
    with pytest.raises(ValueError, match="instances_val2017.json is not an instances JSON"):
        build("coco_voc21", str(tmp_path / "shards"), str(coco))


def test_another_folder_is_no_coco(tmp_path):
    (tmp_path / "something").touch()
    with pytest.raises(FileNotFoundError, match="No annotations/instances_train2017.json"):
        build("coco_voc21", str(tmp_path / "shards"), str(tmp_path))


@pytest.mark.parametrize("rule", ["per_region", "summed"])
def test_real_images_of_coco(tmp_path, rule):
    coco = ROOT.parent / "shared" / "data" / "coco_tiny"
    if not coco.is_dir():
        pytest.skip(f"no images of COCO in {coco}")
    builder = build(f"coco_voc21/{rule}", str(tmp_path), str(coco))
    assert set(builder.info.splits) == {"train", "val"}
    for split in builder.info.splits:
        for example in eval_examples(builder, split).as_numpy_iterator():
            assert example["image"].shape[:2] == example["label"].shape
            assert ((example["label"] > 0) & (example["label"] < 21)).any()
