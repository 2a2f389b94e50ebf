"""A run's model on a whole split: one confusion matrix, a table, a JSON and a picture."""

import hashlib
import io
import itertools
import json
import pathlib
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

import keras
import ml_collections
import numpy as np
import tensorflow as tf

from data.build import open_dataset
from data.classes import IGNORE_LABEL
from data.files import write_bytes, write_json
from data.pictures import mask_png, whole_palette
from data.pipeline import check_split, eval_examples
from data.progress import track
from experiments.gallery import chosen, write_gallery
from experiments.runs import build_model, code_version
from experiments.terminal import table
from experiments.voc_submission import write_submission
from model.boundary import TRIMAP_WIDTHS
from model.deeplabv3 import corners_of
from model.evaluate import Counts, evaluate
from model.inference import (
    EXTRA_PIXEL,
    class_ids,
    class_probabilities,
    padding_multiple,
    predictions,
)
from model.metrics import (
    frequency_weighted_iou,
    interval,
    iou_per_class,
    mean_accuracy,
    mean_iou,
    mean_over_classes,
    pixel_accuracy,
    resampled_ious,
)
from model.resnet import BACKBONES

EVALUATOR_VERSION = 2  # One more where the same weights and images would score otherwise.
NUM_PICTURED = 6  # Images in the picture, spread over the split.


def predictor(
    model: keras.Model,
    *,
    backbone: str,
    output_stride: int,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
) -> Callable[[tf.Tensor], tf.Tensor]:
    """A model at output_stride -> a compiled [B, H, W, 3] uint8 images -> [B, H, W] class ids."""

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8, name="images")])
    def predict(images):
        probabilities = class_probabilities(
            model,
            images,
            output_stride=output_stride,
            mean_pixel=BACKBONES[backbone].mean_pixel,
            scales=scales,
            flip=flip,
            corners=corners_of(model),
        )
        return class_ids(probabilities)

    return predict


class Evaluation:
    """How a run is scored: on which split, and how; with a model that is to be given weights.

    Raises ValueError or FileNotFoundError where the data set, the split or the output_stride is
    not to be had.
    """

    def __init__(
        self,
        config: ml_collections.ConfigDict,
        *,
        split: str,
        output_stride: int,
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
        data_dir: str | None = None,
    ):
        self.config, self.split = config, split
        self.inference = {"output_stride": output_stride, "scales": tuple(scales), "flip": flip}
        self.builder = open_dataset(config.eval_data.dataset, data_dir)
        self.class_names = self.builder.info.metadata["class_names"]
        if config.model.num_classes != len(self.class_names):
            raise ValueError(
                f"model.num_classes is {config.model.num_classes}, but "
                f"{config.eval_data.dataset} has {len(self.class_names)} classes."
            )
        self.palette = whole_palette(self.builder.info.metadata["palette"])
        self.num_images = check_split(self.builder, split).num_examples
        self.model = build_model(config, output_stride=output_stride)
        self.predict = predictor(self.model, backbone=config.model.backbone, **self.inference)

    def check_class_names(self, trained: Sequence[str]) -> None:
        """Raises ValueError where a run was trained on other classes than it is scored on."""
        pairs = itertools.zip_longest(trained, self.class_names)
        differ = [f"{ours} is {theirs} there" for ours, theirs in pairs if ours != theirs]
        if differ:
            raise ValueError(
                f"What was trained on does not have the classes of {self.builder.info.full_name}: "
                f"{', '.join(differ[:5])}. Choose another --config.eval_data.dataset in training."
            )

    def predictions(self, ids: Collection[str] = ()) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
        """(example, [H, W] class ids) of each image of the split, or of some ids, in any order."""
        examples = eval_examples(self.builder, self.split, ids)
        return predictions(self.predict, examples.as_numpy_iterator())

    def score(self, step: int, masks: pathlib.Path | None = None) -> dict[str, Any]:
        """Scores all images of the split -> what eval.json holds; fractions, not percents.

        step: of the weights that the model was given. masks: a folder in which to leave each
        prediction as ID.png. A class that is neither in a label nor in a prediction has the IoU
        null, and no part in the mean. The counts it is all made of stay in self.counts.
        """
        pairs = track(self.predictions(), f"evaluating {self.split}", self.num_images)
        if masks:
            masks.mkdir(parents=True, exist_ok=True)
            pairs = self._saving(pairs, masks)
        self.counts = evaluate(
            pairs,
            num_images=self.num_images,
            num_classes=len(self.class_names),
            ignore_label=IGNORE_LABEL,
        )
        confusion = self.counts.confusions.sum(0)
        if not confusion.any():
            raise ValueError(
                f"{self.split} of {self.builder.info.full_name} has no labels: all its pixels are "
                f"{IGNORE_LABEL}. It can be predicted, not scored."
            )
        return {
            **scores(self.counts, self.class_names),
            "num_images": self.num_images,
            "protocol": self.protocol(self.counts.ids, self.counts.labels_sha256),
            "step": step,
            "config": self.config.to_dict(),
            "versions": {"tensorflow": tf.__version__, "keras": keras.__version__},
            "commit": code_version(),
        }

    def _saving(self, pairs, folder):
        """The same pairs, once the prediction of each is in the folder."""
        for example, prediction in pairs:
            png = mask_png(prediction, self.palette)
            write_bytes(folder / f"{example['id'].decode()}.png", png)
            yield example, prediction

    def protocol(self, ids: Iterable[str], labels_sha256: str) -> dict[str, Any]:
        """The ids of the images scored, and their labels -> all that comparable numbers share."""
        multiple = padding_multiple(self.inference["output_stride"], self.inference["scales"])
        plus_one = ", plus 1" if EXTRA_PIXEL[corners_of(self.model)] else ""
        protocol = {
            "dataset": self.builder.info.full_name,
            "split": self.split,
            "ids_sha256": hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest(),
            "labels_sha256": labels_sha256,
            "label": "the data set's own, at its own size; 255 not scored",
            "padding": f"mean pixel, bottom and right, to a multiple of {multiple}{plus_one}",
            **self.inference,
            "evaluator": EVALUATOR_VERSION,
        }
        text = json.dumps(protocol, sort_keys=True)
        return {**protocol, "hash": hashlib.sha256(text.encode()).hexdigest()[:12]}

    def pictures(self) -> dict[str, np.ndarray]:
        """A few, spread over the split, by id: [H, 4 W, 3] uint8, photo, label, prediction, errors.

        After score().
        """
        spread = self.counts.ids[:: max(1, self.num_images // NUM_PICTURED)][:NUM_PICTURED]
        pictures = {}
        for example, prediction in self.predictions(spread):
            image, label = example["image"], example["label"]
            errors = (label != IGNORE_LABEL) & (label != prediction)
            parts = (
                image,
                self.palette[label],
                self.palette[prediction],
                self.palette[errors * IGNORE_LABEL],
            )
            pictures[example["id"].decode()] = np.concatenate(parts, axis=1)
        return pictures

    def submit(self, file: pathlib.Path) -> None:
        """Predicts all images of VOC's test -> a .tgz for its server; no label is looked at.

        Raises ValueError for another data set or split, and where the folder is not there.
        """
        if file.is_dir() or not file.parent.is_dir():
            raise ValueError(f"{file} cannot be written: it is a folder, or is in none.")
        official = getattr(self.builder, "SPLIT_SIZES", {}).get("test")
        if self.builder.name != "voc2012" or self.split != "test":
            raise ValueError(
                f"VOC's server takes test of voc2012, not {self.split} of {self.builder.name}. "
                "--masks writes predictions of any."
            )
        if self.num_images != official:
            raise ValueError(
                f"VOC's server takes all {official} images of test; here are {self.num_images}."
            )
        sizes = {}

        def named():
            for example, prediction in track(
                self.predictions(), f"predicting {self.split}", self.num_images
            ):
                name = example["id"].decode()
                sizes[name] = example["image"].shape[:2]
                yield name, prediction

        write_submission(file, named(), sizes)

    def write(self, folder: pathlib.Path, name: str, result: dict[str, Any]) -> None:
        """Writes NAME.json, NAME.npz (the counts) and NAME.html, a page to look at."""
        # The counts first: a JSON is never without its own.
        write_counts(folder / f"{name}.npz", self.counts)
        write_json(folder / f"{name}.json", result)
        wanted = {image for ids in chosen(self.counts).values() for image in ids}
        write_gallery(
            folder / f"{name}.html",
            result,
            self.counts,
            self.predictions(wanted),
            self.palette,
        )


def inference_of(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """A run's config -> how it is scored: what Evaluation takes, by name."""
    scales = tuple(config.eval.scales)  # A list, in JSON.
    return {"split": config.eval_data.split, **config.eval, "scales": scales}


def result_name(how: dict[str, Any], own: dict[str, Any]) -> str:
    """How a run is scored, and its config's own way -> the name of the files, without a suffix."""
    if how == own:
        return "eval"
    name = f"eval_{how['split']}_os{how['output_stride']}"
    if how["scales"] != (1.0,):
        name += "_ms" + "_".join(f"{scale:g}" for scale in how["scales"])
    return name + ("_flip" if how["flip"] else "")


def scores(counts: Counts, class_names: Sequence[str]) -> dict[str, Any]:
    """The counts of a split -> every score that is made of them, by name; null where undefined."""
    confusion = counts.confusions.sum(0)
    boundary = counts.boundary[:, 0] / np.maximum(counts.boundary[:, 1], 1)
    boundary = np.where(counts.boundary[:, 1] > 0, boundary, np.nan)
    return {
        "miou": mean_iou(confusion),
        "miou_interval": interval(mean_over_classes(resampled_ious(counts.confusions))),
        "iou_per_class": _by_name(class_names, iou_per_class(confusion)),
        "pixel_accuracy": pixel_accuracy(confusion),
        "mean_accuracy": mean_accuracy(confusion),
        "frequency_weighted_iou": frequency_weighted_iou(confusion),
        "trimap_miou": _by_name(map(str, TRIMAP_WIDTHS), [mean_iou(c) for c in counts.trimap]),
        "boundary_iou": float(np.nanmean(boundary)),
        "boundary_iou_per_class": _by_name(class_names, boundary),
    }


def write_counts(file: pathlib.Path, counts: Counts) -> None:
    """Writes the counts of a split."""
    compressed = io.BytesIO()
    np.savez_compressed(compressed, **counts._asdict())
    write_bytes(file, compressed.getvalue())


def read_counts(file: pathlib.Path) -> Counts:
    """What write_counts wrote. Raises ValueError where it is damaged."""
    try:
        with np.load(file) as counts:
            texts = {"ids": counts["ids"].tolist(), "labels_sha256": str(counts["labels_sha256"])}
            return Counts(**{**counts, **texts})
    except (KeyError, TypeError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{file} is damaged: {error}. Evaluate the run again.") from error


def _by_name(names, values):
    return {
        name: None if np.isnan(value) else float(value)
        for name, value in zip(names, values, strict=True)
    }


def report(result: dict[str, Any]) -> str:
    """What Evaluation.score gives -> a table of percents, the means last."""

    def percent(value):
        return "-" if value is None else f"{100 * value:.2f}"

    rows = [
        [name, percent(iou), percent(result["boundary_iou_per_class"][name])]
        for name, iou in result["iou_per_class"].items()
    ]
    low, high = map(percent, result["miou_interval"])
    means = [
        ["pixel accuracy", percent(result["pixel_accuracy"])],
        ["mean accuracy", percent(result["mean_accuracy"])],
        ["frequency-weighted IoU", percent(result["frequency_weighted_iou"])],
        ["mean boundary IoU", percent(result["boundary_iou"])],
        *(
            [f"mIoU within {width} pixels of a boundary", percent(miou)]
            for width, miou in result["trimap_miou"].items()
        ),
        ["mIoU", percent(result["miou"])],
    ]
    return "\n".join(
        [
            table([["class", "IoU %", "boundary IoU %"], *rows]),
            "",
            table([["over all", "%"], *means]),
            f"95 % interval of mIoU over images: {low} to {high}",
        ]
    )
