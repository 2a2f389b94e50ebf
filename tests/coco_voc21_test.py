"""COCO's regions become VOC's class ids, and images are chosen by either reading of the paper."""

import json
import math
import pathlib

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from data.build import build
from data.classes import COCO_NAMES, VOC_CLASS_NAMES
from data.coco_voc21 import SELECTION_RULES, decode_region, draw_label, find_class_ids
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


@pytest.mark.parametrize(
    "areas, rules",
    [([1000], []), ([1001], ["per_region", "summed"]), ([500, 500], []), ([500, 501], ["summed"])],
)
def test_an_image_needs_more_than_1000_pixels(areas, rules):
    regions = [{"area": area} for area in areas]
    assert [name for name, is_selected in SELECTION_RULES.items() if is_selected(regions)] == rules


def test_two_regions_of_one_class_are_ignored_where_they_overlap():
    regions = [{"class_id": 3, "segmentation": square(left, 0, 4)} for left in (0, 2)]
    label = draw_label(regions, 4, 6, None)
    np.testing.assert_array_equal(label, 4 * [[3, 3, 255, 255, 3, 3]])


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


def first(content, **fields):
    content["annotations"][0].update(fields)


def name_twice(content):
    content["images"][1]["file_name"] = "000.png"


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda c: c.pop("categories"), "instances JSON of COCO: it has no list `categories`"),
        (lambda c: c.update(images=None), "it has no list `images`. Correct it"),
        (lambda c: c["images"][2].pop("file_name"), "entry 2 of `images` has no field `file_name`"),
        (lambda c: c["images"][2].update(id=[1]), r"the id of entry 2 of `images` is \[1\]"),
        (lambda c: c["categories"][0].update(name=None), "the name of entry 0 of `categories` is"),
        (
            lambda c: c["annotations"].append(3),
            "entry 6 of `annotations` is not an object. Correct",
        ),
        (lambda c: c["categories"].clear(), "no category has a name of COCO's: airplane"),
        (lambda c: c["categories"].pop(), "region 7 of image 1 .*its category_id is 30, which"),
        (lambda c: first(c, category_id=None), "region 7 of image 0 .*its category_id is None"),
        (lambda c: first(c, image_id=77), "region 7 of image 77 .*which `images` does not list"),
        (lambda c: first(c, image_id="1"), "region 7 of image '1' .*its image_id is '1', which"),
        (lambda c: first(c, image_id=[1]), r"image \[1\] .*its image_id is \[1\], which `images`"),
        (lambda c: first(c, area=math.nan), "region 7 of image 0 .*its area is nan"),
        (lambda c: first(c, area=[3]), r"its area is \[3\]; without one"),
        (lambda c: first(c, area=-3), "its area is -3; without one"),
        (lambda c: first(c, segmentation=[[1]]), "region 7 of image 0 .*1 numbers"),
        (lambda c: first(c, segmentation=None), "region 7 of image 0 .*neither polygons nor"),
        (lambda c: c["images"].append(c["images"][0]), "two images or two categories have one id"),
        (name_twice, "two images one file_name"),
        (lambda c: c["images"][0].update(height=61), r"80 x 61 pixels, but .*000.jpg has 80 x 60"),
        (lambda c: c["images"][0].update(height="60"), "80 x '60' pixels, but .*000.jpg"),
        (lambda c: c["images"][0].update(height=80, width=60), "60 x 80 pixels, but .*000.jpg"),
        (lambda c: c["images"][0].update(height=10**9), "80 x 1000000000 pixels, but .*000.jpg"),
        (lambda c: c["images"][0].update(file_name="gone.jpg"), "gone.jpg is missing"),
    ],
)
def test_what_is_wrong_is_named(coco, tmp_path, change, said):
    edit(coco, change)
    with pytest.raises((ValueError, FileNotFoundError), match=said) as told:
        build("coco_voc21", str(tmp_path / "shards"), str(coco))
    assert "npack" not in str(told.value) or "is missing" in str(told.value)


FILE = pathlib.Path("a.json")
NEAR = [60, 40, 79, 40, 79, 59, 60, 59]


@pytest.mark.parametrize(
    "segmentation, said",
    [
        ([[math.nan, 1, 9, 1, 9, 9]], r"the point \(nan, 1\)"),
        ([[math.inf, 1, 9, 1, 9, 9]], r"the point \(inf, 1\)"),
        ([NEAR, [1, 1, 2e8, 3.5e8, 9, 9]], r"the point \(2e\+08, 3.5e\+08\)"),
        ([[1, 1, 10**30, 1, 9, 9]], "not a list of numbers"),
        ([[1, 1, 9, 1, 9, 9, 5]], "7 numbers"),
        ([["1", "1", "9", "1", "9", "9"]], "not a list of numbers"),
        ([[10, 10, 30, 30]], "fewer than three points; of a box, write all four corners"),
        ([[0, 0, 160, 120] * 20_000], "pixels long"),
        ({"size": [60, 80], "counts": [10, 10]}, "do not add up to the 4800 pixels"),
        ({"size": [60, 80], "counts": [10, 2**62, 2**62, 2**62, 2**62 - 10]}, "do not add up"),
        ({"size": [60, 80], "counts": [-10, 4810]}, "do not add up"),
        ({"size": [80, 60], "counts": [4800]}, r"size \[80, 60\], the image is of \[60, 80\]"),
        ({"size": [60, 80], "counts": [1.5, 4798.5]}, "not a list of whole numbers"),
        ({"size": [60, 80], "counts": "PPP"}, "cut off"),
        ({"size": [60, 80], "counts": "o" * 10_000}, "invalid 'o'"),
        ({"size": [60, 80]}, "neither polygons nor run lengths"),
    ],
)
def test_a_region_that_cannot_be_drawn_is_named(segmentation, said):
    """Given to pycocotools, the first three end the process; others are drawn, and wrong."""
    regions = [{"id": 7, "class_id": 3, "image_id": 0, "segmentation": segmentation}]
    with pytest.raises(ValueError, match=f"a.json: region 7 of image 0 is invalid: .*{said}"):
        draw_label(regions, 60, 80, pathlib.Path("a.json"))


@pytest.mark.parametrize("segmentation, pixels", [([], 0), ([[]], 0), ([NEAR], 19 * 19)])
def test_what_encloses_nothing_draws_nothing(segmentation, pixels):
    two_points = [[5, 5, 30, 20]] if pixels else []
    for polygons in (two_points + segmentation, segmentation + two_points):
        assert decode_region(polygons, 60, 80).sum() == pixels


def test_a_polygon_that_reaches_outside_is_clipped_as_by_pycocotools():
    rng = np.random.default_rng(0)
    for _ in range(50):
        points = rng.uniform(-1, 2, (8, 2)) * [80, 60]
        polygon = points.ravel().tolist()
        expected = coco_mask.decode(coco_mask.frPyObjects([polygon], 60, 80))[..., 0]
        np.testing.assert_array_equal(decode_region([polygon], 60, 80), expected)


def test_run_lengths_are_those_of_pycocotools():
    rng = np.random.default_rng(0)
    for density in (0, 0.01, 0.5, 1):
        mask = np.asfortranarray(rng.random((200, 300)) < density)
        packed = coco_mask.encode(mask.astype(np.uint8))
        segmentation = {"size": [200, 300], "counts": packed["counts"].decode()}
        np.testing.assert_array_equal(decode_region(segmentation, 200, 300), mask)


def test_sizes_areas_and_categories_that_the_json_lacks(coco, tmp_path, capsys):
    complete = labels_of(coco, tmp_path / "complete", "summed")

    def shorten(content):
        for image in content["images"]:
            del image["height"], image["width"]
        for one in content["annotations"]:
            del one["area"]
        used = {CATEGORIES[name] for name in ("person", "dog", "tv", "frisbee")}
        content["categories"] = [one for one in content["categories"] if one["id"] in used]

    edit(coco, shorten)
    shorter = labels_of(coco, tmp_path / "shorter", "summed")
    assert shorter.keys() == complete.keys() == {"000", "001"}
    for name, label in complete.items():
        np.testing.assert_array_equal(shorter[name], label)
    assert "without regions of airplane, bicycle," in capsys.readouterr().out


@pytest.mark.parametrize("area", [None, 0])
def test_null_is_as_absent_and_so_is_an_area_of_0(coco, tmp_path, area):
    """Some programs write an area of 0 for all regions."""
    complete = labels_of(coco, tmp_path / "complete", "summed")

    def empty(content):
        for image in content["images"]:
            image.update(height=None, width=None)
        for one in content["annotations"]:
            one["area"] = area

    edit(coco, empty)
    emptied = labels_of(coco, tmp_path / "emptied", "summed")
    assert emptied.keys() == complete.keys()
    for name, label in complete.items():
        np.testing.assert_array_equal(emptied[name], label)


SHOWN, STORED = {"width": 80, "height": 60}, {"width": 60, "height": 80}


def turn_first_photo(coco, regions, **size):
    """Its EXIF turns the first photo by a quarter: 80 x 60 are shown. A person is green."""
    photo = np.zeros((60, 80, 3), np.uint8)
    photo[10:50, 5:55] = [0, 255, 0]
    stored = Image.fromarray(photo).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    stored.save(coco / "val2017" / "000.jpg", exif=exif, quality=95, subsampling=0)

    def change(content):
        content["images"][0] = {"id": 0, "file_name": "000.jpg", **size}
        content["annotations"] = [region(0, "person", regions, 2000)]

    edit(coco, change)


@pytest.mark.parametrize(
    "polygon, size",
    [
        ([5, 10, 55, 10, 55, 50, 5, 50], SHOWN),
        ([5, 10, 55, 10, 55, 50, 5, 50], {"width": 80}),
        ([10, 25, 50, 25, 50, 75, 10, 75], STORED),
    ],
)
def test_regions_of_a_turned_photo_are_drawn_in_the_size_that_is_given(
    coco, tmp_path, polygon, size
):
    turn_first_photo(coco, [polygon], **size)
    builder = build("coco_voc21", str(tmp_path / "shards"), str(coco))
    (example,) = eval_examples(builder, "val").as_numpy_iterator()
    green = example["image"][..., 1] > 128
    assert green.sum() == 50 * 40 and green.shape == (60, 80)
    person = VOC_CLASS_NAMES.index("person")
    np.testing.assert_array_equal(example["label"].reshape(60, 80), person * green)


def test_a_turned_photo_without_a_size_is_named(coco, tmp_path):
    turn_first_photo(coco, [[5, 10, 55, 10, 55, 50, 5, 50]])
    said = "gives image 0 no height and width, and .*000.jpg has EXIF orientation 6: .*80 x 60"
    with pytest.raises(ValueError, match=said):
        build("coco_voc21", str(tmp_path / "shards"), str(coco))


def test_categories_are_known_in_every_spelling(capsys):
    spellings = {
        "aeroplane": ["aeroplane", "airplane", "Airplane"],
        "diningtable": ["diningtable", "Dining Table", "dining_table"],
        "tvmonitor": ["tv", "TV monitor", "TV-Monitor"],
        "cat": ["cat", "Cat", " CAT "],
    }
    names = [name for group in spellings.values() for name in group]
    found = find_class_ids({**dict(enumerate(names)), 50: "background", 51: "Kite"}, FILE)
    expected = [VOC_CLASS_NAMES.index(name) for name, group in spellings.items() for _ in group]
    assert found == dict(enumerate(expected))
    missing = capsys.readouterr().out.split("without regions of ")[1].strip().split(", ")
    assert len(missing) == 16 and not {"airplane", "dining table", "tv", "cat"} & {*missing}
    with pytest.raises(ValueError, match="The file has 2 categories: 'kite', 'puppy'. Rename them"):
        find_class_ids({1: "kite", 2: "puppy"}, FILE)


def test_a_cut_json_is_named(coco, tmp_path):
    file = coco / "annotations" / "instances_val2017.json"
    file.write_text(file.read_text()[:500])
    with pytest.raises(ValueError, match="2017.json is not an instances JSON.*cut off; save or un"):
        build("coco_voc21", str(tmp_path / "shards"), str(coco))


def test_another_folder_is_no_coco(tmp_path):
    (tmp_path / "something").touch()
    with pytest.raises(FileNotFoundError, match="No annotations/instances_train2017.json"):
        build("coco_voc21", str(tmp_path / "shards"), str(tmp_path))


@pytest.fixture
def real_coco():
    coco = ROOT.parent / "shared" / "data" / "coco_tiny"
    if not coco.is_dir():
        pytest.skip(f"no images of COCO in {coco}")
    return coco


@pytest.mark.parametrize("rule", ["per_region", "summed"])
def test_real_images_of_coco(real_coco, tmp_path, rule):
    builder = build(f"coco_voc21/{rule}", str(tmp_path), str(real_coco))
    assert set(builder.info.splits) == {"train", "val"}
    for split in builder.info.splits:
        for example in eval_examples(builder, split).as_numpy_iterator():
            assert example["image"].shape[:2] == example["label"].shape
            assert ((example["label"] > 0) & (example["label"] < 21)).any()


def test_real_regions_are_drawn_as_by_pycocotools(real_coco):
    for split in ("train", "val"):
        coco = COCO(real_coco / "annotations" / f"instances_{split}2017.json")
        for region in coco.anns.values():
            image = coco.imgs[region["image_id"]]
            drawn = decode_region(region["segmentation"], image["height"], image["width"])
            np.testing.assert_array_equal(drawn, coco.annToMask(region))
