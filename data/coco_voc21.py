"""TFDS builder: COCO 2017 instances as the 21 classes of PASCAL VOC.

--manual_dir holds train2017/, val2017/ and annotations/instances_train2017.json and _val2017.json;
either pair is enough. The splits are train, the paper's "trainval minus minival", and val, its
minival.

A pixel covered by two annotated regions is ignored (255), as in torchvision's COCO; classes that
VOC does not have are background. Sec. 4.1 selects images with annotation regions larger than 1000
pixels that contain VOC's classes, which can be read in two ways:

- per_region: at least one region of a VOC class has more than 1000 pixels;
- summed: the regions of VOC classes have more than 1000 pixels together, as in torchvision.

Both counts are printed. Areas are those in COCO's JSON. Reading train2017's JSON needs about 3 GB
of memory.
"""

import json
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from pycocotools import mask as coco_mask

from data.classes import COCO_NAMES, IGNORE_LABEL, ORIGINALS, VOC_CLASS_NAMES, voc_palette
from data.features import make_example, segmentation_info
from data.terminal import track

MIN_AREA = 1_000  # Pixels. Sec. 4.1.

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
        images, annotations = read_annotations(json_file)
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
            image = images[key]
            label = draw_label(annotations[key], image["height"], image["width"], json_file)
            name = pathlib.Path(image["file_name"]).stem
            yield name, make_example(name, folder / image["file_name"], label, json_file)


def read_annotations(
    json_file: pathlib.Path,
) -> tuple[dict[int, dict[str, Any]], dict[int, list[Annotation]]]:
    """COCO's JSON -> its images by id, and the regions of VOC's classes by their image's id.

    Args:
      json_file: instances_train2017.json or instances_val2017.json.

    Returns:
      The images as the JSON has them; the regions of each, with VOC's class ids.

    Raises:
      ValueError: The file is invalid. The message names it.
    """
    try:
        content = json.loads(json_file.read_text())
        images = {image["id"]: image for image in content["images"]}
        category_ids = {category["name"]: category["id"] for category in content["categories"]}
        class_ids = {
            category_ids[COCO_NAMES.get(name, name)]: class_id
            for class_id, name in enumerate(VOC_CLASS_NAMES[1:], start=1)
        }
        regions: dict[int, list[Annotation]] = {}
        for region in content["annotations"]:
            if region["category_id"] in class_ids:
                region["area"] = float(region["area"])
                region["class_id"] = class_ids[region["category_id"]]
                regions.setdefault(images[region["image_id"]]["id"], []).append(region)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{json_file} is not an instances JSON of COCO: {error!r}. Unpack it again."
        ) from error
    return images, regions


def draw_label(
    regions: Iterable[Annotation], height: int, width: int, json_file: pathlib.Path
) -> np.ndarray:
    """Regions -> [height, width] uint8 class ids; 255 where two regions cover a pixel.

    Raises ValueError, which names json_file and the region, if a region cannot be drawn.
    """
    label = np.zeros((height, width), np.uint8)
    covered = np.zeros((height, width), bool)
    for region in regions:
        try:
            inside = decode_region(region["segmentation"], height, width)
        except Exception as error:  # pycocotools raises any type of error for invalid JSON.
            raise ValueError(
                f"{json_file}: region {region.get('id')} of image {region['image_id']} cannot be "
                f"drawn: {error!r}."
            ) from error
        label[inside] = region["class_id"]
        label[inside & covered] = IGNORE_LABEL
        covered |= inside
    return label


def decode_region(segmentation: Any, height: int, width: int) -> np.ndarray:
    """Polygons, or an uncompressed or compressed RLE -> [height, width] bool."""
    if isinstance(segmentation, list):
        encoded = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], list):
        encoded = coco_mask.frPyObjects(segmentation, height, width)
    else:
        encoded = segmentation
    mask = coco_mask.decode(encoded)
    if mask.shape != (height, width):
        raise ValueError(f"its mask is {mask.shape}, the image {(height, width)}")
    return mask.astype(bool)
