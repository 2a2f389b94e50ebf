"""TFDS builder: COCO 2017 instances as the 21 classes of PASCAL VOC.

--manual_dir holds train2017/, val2017/ and annotations/instances_train2017.json and _val2017.json;
either pair is enough. The splits are train, the paper's "trainval minus minival", and val, its
minival.

A pixel covered by two annotated regions is ignored (255), as in torchvision's COCO; classes that
VOC does not have are background. Sec. 4.1 selects images with annotation regions larger than 1000
pixels that contain VOC's classes, which can be read in two ways:

- per_region: at least one region of a VOC class has more than 1000 pixels;
- summed: the regions of VOC classes have more than 1000 pixels together, as in torchvision.

Both counts are printed. Areas are those in COCO's JSON; a region without one, or with 0, has the
number of its pixels. An image without a size has that of its photo. Reading train2017's JSON needs
about 3 GB of memory.
"""

import contextlib
import json
import math
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from pycocotools import mask as coco_mask

from data.classes import COCO_NAMES, IGNORE_LABEL, ORIGINALS, VOC_CLASS_NAMES, voc_palette
from data.decoding import TRANSPOSED
from data.features import make_example, segmentation_info
from data.photos import read_header
from data.terminal import first_line, track

MIN_AREA = 1_000  # Pixels. Sec. 4.1.

MAX_OUTLINE = 4_000_000  # Pixels along a polygon, for which pycocotools takes 320 MB. Ours.

Annotation = dict[str, Any]  # From COCO's JSON, with VOC's class id as "class_id".

SELECTION_RULES = {
    "per_region": lambda annotations: max(region["area"] for region in annotations) > MIN_AREA,
    "summed": lambda annotations: sum(region["area"] for region in annotations) > MIN_AREA,
}


class CocoVoc21(tfds.core.GeneratorBasedBuilder):
    """COCO 2017 images with VOC's class ids 0..20 and 255; splits train, val."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name=rule, description=f"Images are selected {rule}.")
        for rule in SELECTION_RULES
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = ORIGINALS["coco_voc21"]

    def _info(self) -> tfds.core.DatasetInfo:
        return segmentation_info(self, __doc__, VOC_CLASS_NAMES, voc_palette()[:21])

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        coco = pathlib.Path(dl_manager.manual_dir)
        json_files = {
            split: coco / "annotations" / f"instances_{split}2017.json"
            for split in ("train", "val")
            if (coco / "annotations" / f"instances_{split}2017.json").exists()
        }
        if not json_files:
            raise FileNotFoundError(
                f"No annotations/instances_train2017.json or instances_val2017.json in {coco}."
            )
        return {
            split: self._generate_examples(file, coco / f"{split}2017")
            for split, file in json_files.items()
        }

    def _generate_examples(
        self, json_file: pathlib.Path, folder: pathlib.Path
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        images, annotations = read_annotations(json_file, folder)
        selected = {
            rule: [key for key, regions in annotations.items() if is_selected(regions)]
            for rule, is_selected in SELECTION_RULES.items()
        }
        counts = ", ".join(f"{rule} {len(keys)}" for rule, keys in selected.items())
        print(f"{json_file.name}: of {len(images)} images, selected {counts}.", flush=True)
        keys = selected[self.builder_config.name]
        if not keys:
            raise ValueError(f"{json_file}: the rule {self.builder_config.name} selects no image.")
        for key in track(keys, f"drawing {folder.name}", len(keys)):
            height, width = read_size(images[key], folder, json_file)
            label = draw_label(annotations[key], height, width, json_file)
            name = example_name(images[key])
            yield name, make_example(name, folder / images[key]["file_name"], label, json_file)


def read_annotations(
    json_file: pathlib.Path, folder: pathlib.Path
) -> tuple[dict[int, dict[str, Any]], dict[int, list[Annotation]]]:
    """COCO's JSON -> its images by id, and the regions of VOC's classes by their image's id.

    Args:
      json_file: instances_train2017.json or instances_val2017.json.
      folder: its photos, whose sizes are needed for regions without an area.

    Returns:
      The images as the JSON has them; the regions of each, with VOC's class ids and an area.

    Raises:
      ValueError: The file, or one of its entries, is invalid. The message names it.
      FileNotFoundError: The photo of a region without an area is missing.
    """
    images, categories, annotations = _read_instances(json_file)
    class_ids = find_class_ids(categories, json_file)
    regions: dict[int, list[Annotation]] = {}
    for region in annotations:
        with _naming_region(region, json_file):
            _check_references(region, images, categories)
        if region["category_id"] not in class_ids:
            continue
        region["class_id"] = class_ids[region["category_id"]]
        if region.get("area") in (None, 0):  # Some programs write 0 for all regions.
            size = read_size(images[region["image_id"]], folder, json_file)
            region["area"] = np.count_nonzero(draw_label([region], *size, json_file))
        with _naming_region(region, json_file):
            region["area"] = _check_area(region["area"])
        regions.setdefault(region["image_id"], []).append(region)
    return images, regions


def _read_instances(json_file):
    """COCO's JSON -> its images and names of categories, by their ids, and its annotations."""
    try:
        content = json.loads(json_file.read_text(encoding="utf-8-sig"))
        listed = _entries(content, "images", id=(int, str), file_name=str)
        images = {image["id"]: image for image in listed}
        listed = _entries(content, "categories", id=(int, str), name=str)
        categories = {category["id"]: category["name"] for category in listed}
        names = {example_name(image) for image in images.values()}
        annotations = _entries(content, "annotations")
    except (ValueError, RecursionError) as error:
        is_json = not isinstance(error, (json.JSONDecodeError, UnicodeDecodeError, RecursionError))
        remedy = "Correct it" if is_json else "It is no JSON, or cut off; save or unpack it again"
        raise ValueError(
            f"{json_file} is not an instances JSON of COCO: {first_line(error)}. {remedy}."
        ) from error
    if len(names) < len(content["images"]) or len(categories) < len(content["categories"]):
        raise ValueError(
            f"{json_file}: two images or two categories have one id, or two images one file_name "
            "up to its suffix. Delete one of the two."
        )
    return images, categories, annotations


def _entries(content, part, **fields):
    """A list of the JSON, by its name. Raises ValueError if an entry lacks one of the fields.

    Fields are given with their types.
    """
    entries = content.get(part) if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise ValueError(f"it has no list `{part}`")
    for i, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise ValueError(f"entry {i} of `{part}` is not an object")
        for field, types in fields.items():
            if field not in entry:
                raise ValueError(f"entry {i} of `{part}` has no field `{field}`")
            if not isinstance(entry[field], types):
                raise ValueError(f"the {field} of entry {i} of `{part}` is {entry[field]!r}")
    return entries


def example_name(image: Mapping[str, Any]) -> str:
    """An image of the JSON -> its example's id: the path of its file without the suffix."""
    return pathlib.PurePath(image["file_name"]).with_suffix("").as_posix()


def find_class_ids(categories: Mapping[int, str], json_file: pathlib.Path) -> dict[int, int]:
    """Names of categories by id -> VOC's class ids by the ids of their categories.

    Names are COCO's or VOC's, in upper or lower case, with or without spaces. Prints the classes
    without a category, which no label will have. Raises ValueError if no class has one.
    """
    names = [COCO_NAMES.get(name, name) for name in VOC_CLASS_NAMES]
    known = {
        _bare(name): class_id
        for spelling in (names, VOC_CLASS_NAMES)
        for class_id, name in enumerate(spelling)
        if class_id
    }
    class_ids = {
        key: known[_bare(name)] for key, name in categories.items() if _bare(name) in known
    }
    missing = [name for i, name in enumerate(names) if i and i not in class_ids.values()]
    if not class_ids:
        others = ", ".join(map(repr, [*categories.values()][:5]))
        raise ValueError(
            f"{json_file}: no category has a name of COCO's: {', '.join(missing)}. The file has "
            f"{len(categories)} categories: {others}{', ...' * (len(categories) > 5)}. Rename "
            "them; data sets of other classes are built as folder/NAME."
        )
    if missing:
        print(f"{json_file.name}: without regions of {', '.join(missing)}.", flush=True)
    return class_ids


def _bare(name):
    """A category's name without case, spaces, hyphens and underscores."""
    return re.sub(r"[\s_-]", "", name).casefold()


@contextlib.contextmanager
def _naming_region(region, json_file):
    """Any error becomes a ValueError that names the file, the region and its image."""
    try:
        yield
    except Exception as error:  # pycocotools raises any type of error for invalid JSON.
        raise ValueError(
            f"{json_file}: region {region.get('id')!r} of image {region.get('image_id')!r} is "
            f"invalid: {first_line(error)}. Correct it, or delete it."
        ) from error


def _check_references(region, images, categories):
    """Raises ValueError unless the region's image and category are listed in the JSON."""
    for key, listed in (("image_id", images), ("category_id", categories)):
        value = region.get(key)
        if isinstance(value, (list, dict)) or value not in listed:
            part = "images" if listed is images else "categories"
            raise ValueError(f"its {key} is {value!r}, which `{part}` does not list")


def _check_area(area):
    """A region's area -> the same as a number. Raises ValueError for all that is none."""
    try:
        number = float(area)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 <= number < math.inf:  # A NaN would not select its image, without a word.
        raise ValueError(f"its area is {area!r}; without one, its pixels are counted")
    return number


def read_size(
    image: Mapping[str, Any], folder: pathlib.Path, json_file: pathlib.Path
) -> tuple[int, int]:
    """An image of the JSON -> height and width in which its regions are drawn.

    They are those of its photo: where EXIF turns the photo by a quarter, as stored or as shown,
    whichever the JSON gives. A size of null is none. Raises FileNotFoundError without the photo,
    and ValueError if it cannot be read, if the JSON gives it another size, or if the JSON gives
    none and the regions could fit the photo both ways.
    """
    file = folder / image["file_name"]
    stored, orientation = read_header(file)
    sizes = {stored, stored[::-1]} if orientation in TRANSPOSED else {stored}
    given = image.get("height"), image.get("width")
    fitting = [
        size
        for size in sizes
        if all(one in (None, side) for one, side in zip(given, size, strict=True))
    ]
    if len(fitting) > 1:
        raise ValueError(
            f"{json_file} gives image {image['id']!r} no height and width, and {file} has EXIF "
            f"orientation {orientation}: viewers turn it, and its regions may fit it as stored, "
            f"{stored[1]} x {stored[0]}, or as shown, {stored[0]} x {stored[1]}. Write the width "
            "and height that they fit into the JSON."
        )
    if not fitting:
        height, width = (
            side if one is None else one for one, side in zip(given, stored, strict=True)
        )
        raise ValueError(
            f"{json_file} gives image {image['id']!r} {width!r} x {height!r} pixels, but {file} "
            f"has {stored[1]} x {stored[0]}. Use the photo that the regions were drawn on."
        )
    return fitting[0]


def draw_label(
    regions: Iterable[Annotation], height: int, width: int, json_file: pathlib.Path
) -> np.ndarray:
    """Regions -> [height, width] uint8 class ids; 255 where two regions cover a pixel.

    Raises ValueError, which names json_file and the region, if a region cannot be drawn.
    """
    label = np.zeros((height, width), np.uint8)
    covered = np.zeros((height, width), bool)
    for region in regions:
        with _naming_region(region, json_file):
            inside = decode_region(region.get("segmentation"), height, width)
        label[inside] = region["class_id"]
        label[inside & covered] = IGNORE_LABEL
        covered |= inside
    return label


def decode_region(segmentation: Any, height: int, width: int) -> np.ndarray:
    """Polygons, or an uncompressed or compressed RLE -> [height, width] bool.

    A polygon is clipped to the image. One of fewer than three points encloses nothing. Raises
    ValueError for what is not a region of an image of that size.
    """
    if not isinstance(segmentation, list):
        return decode_run_lengths(segmentation, height, width)
    for polygon in segmentation:
        check_polygon(polygon, height, width)
    polygons = [polygon for polygon in segmentation if len(polygon) >= 6]
    if not polygons:
        if any(segmentation):
            raise ValueError(
                "its polygons have fewer than three points; of a box, write all four corners"
            )
        return np.zeros((height, width), bool)
    encoded = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
    return coco_mask.decode(encoded).astype(bool)


def check_polygon(polygon: Any, height: int, width: int) -> None:
    """Raises ValueError unless [x, y, x, y, ...] can be drawn on an image of that size.

    pycocotools walks along the outline and keeps each step in memory, also outside the image, and
    NaN or infinity ends the process. Up to an image's width or height outside, it is clipped.
    """
    points = np.array(polygon)
    if points.ndim != 1 or (points.size and points.dtype.kind not in "iuf"):
        raise ValueError("a polygon is not a list of numbers, x and y in turn")
    if points.size % 2:
        raise ValueError(f"a polygon has {points.size} numbers, one x or y too few")
    points = points.reshape(-1, 2)
    size = np.array([width, height])
    inside = ((points >= -size) & (points <= 2 * size)).all(1)  # False for NaN.
    if not inside.all():
        x, y = points[~inside][0]
        raise ValueError(
            f"the point ({x:g}, {y:g}) is not in or near the image of {width} x {height} pixels"
        )
    steps = np.abs(np.diff(points, axis=0, append=points[:1])).max(1, initial=0)
    if steps.sum() > MAX_OUTLINE:
        raise ValueError(
            f"a polygon is {steps.sum():g} pixels long, at most {MAX_OUTLINE} are read"
        )


def decode_run_lengths(segmentation: Any, height: int, width: int) -> np.ndarray:
    """An uncompressed or compressed RLE -> [height, width] bool.

    Runs go down the columns, outside and inside the region in turn. Raises ValueError unless they
    are of an image of that size.
    """
    if not isinstance(segmentation, dict) or not {"size", "counts"} <= segmentation.keys():
        raise ValueError("its segmentation is neither polygons nor run lengths")
    if segmentation["size"] != [height, width]:
        raise ValueError(
            f"its run lengths are of the size {segmentation['size']}, the image is of "
            f"{[height, width]}"
        )
    counts = segmentation["counts"]
    counts = np.array(unpack_counts(counts) if isinstance(counts, str) else counts)
    if counts.ndim != 1 or counts.dtype.kind not in "iu":
        raise ValueError("its run lengths are not a list of whole numbers")
    # Each first, because their sum could overflow.
    if (counts < 0).any() or (counts > height * width).any() or counts.sum() != height * width:
        raise ValueError(f"its run lengths do not add up to the {height * width} pixels")
    return np.repeat(np.arange(counts.size) % 2 == 1, counts).reshape(width, height).T


def unpack_counts(text: str) -> list[int]:
    """COCO's compressed run lengths -> run lengths. Raises ValueError if the text is cut off.

    A character holds five bits, the lowest first, and whether more follow. From the fourth on, a
    number is the difference from the last but one. As rleFrString of pycocotools, which reads past
    the end of a text that is cut off.
    """
    counts, value, bits = [], 0, 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or bits > 30:
            raise ValueError(f"its compressed run lengths have an invalid {character!r}")
        value |= (code & 31) << bits
        bits += 5
        if not code & 32:
            if code & 16:  # Negative.
                value -= 1 << bits
            counts.append(value + counts[-2] if len(counts) > 2 else value)
            value = bits = 0
    if bits:
        raise ValueError("its compressed run lengths are cut off")
    return counts
