"""A run's model on a whole split: one confusion matrix, a table, a JSON and a picture."""

import hashlib
import json
import pathlib
import zipfile
from collections.abc import Callable, Container, Iterator, Sequence
from typing import Any

import keras
import ml_collections
import numpy as np
import tensorflow as tf

from data.build import open_dataset
from data.classes import IGNORE_LABEL
from data.files import write_json
from data.pictures import whole_palette
from data.pipeline import eval_examples
from data.progress import track
from experiments.gallery import chosen, write_gallery
from experiments.runs import build_model
from experiments.terminal import table
from experiments.voc_submission import write_submission
from model.boundary import TRIMAP_WIDTHS
from model.deeplabv3 import corners_of
from model.evaluate import Counts, evaluate
from model.inference import class_ids, class_probabilities
from model.metrics import (
    frequency_weighted_iou,
    interval,
    iou_per_class,
    mean_accuracy,
    mean_iou,
    pixel_accuracy,
    resampled_mean_ious,
)
from model.resnet import BACKBONES

EVALUATOR_VERSION = 1  # One more where the same weights and images would score otherwise.
PADDING = {
    "aligned": "mean pixel, bottom and right, to a multiple of output_stride, plus 1",
    "half_pixel": "mean pixel, bottom and right, to a multiple of output_stride",
}
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
        self.examples = eval_examples(self.builder, split)
        self.num_images = self.builder.info.splits[split].num_examples
        self.model = build_model(config, output_stride=output_stride)
        self.predict = predictor(self.model, backbone=config.model.backbone, **self.inference)

    def score(self, step: int) -> dict[str, Any]:
        """Scores all images of the split -> what eval.json holds; fractions, not percents.

        step: of the weights that the model was given. A class that is neither in a label nor in a
        prediction has the IoU null, and no part in the mean. The counts it is all made of stay in
        self.counts.
        """
        self.counts = evaluate(
            self.predict,
            track(self.examples.as_numpy_iterator(), f"evaluating {self.split}", self.num_images),
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
            "protocol": self.protocol(self.counts.ids),
            "step": step,
            "config": self.config.to_dict(),
            "versions": {"tensorflow": tf.__version__, "keras": keras.__version__},
        }

    def protocol(self, ids: Sequence[str]) -> dict[str, Any]:
        """The ids of the images scored -> all that numbers must share to stand side by side."""
        protocol = {
            "dataset": self.builder.info.full_name,
            "split": self.split,
            "ids_sha256": hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest(),
            "label": "the data set's own, at its own size; 255 not scored",
            "padding": PADDING[corners_of(self.model)],
            **self.inference,
            "evaluator": EVALUATOR_VERSION,
        }
        text = json.dumps(protocol, sort_keys=True)
        return {**protocol, "hash": hashlib.sha256(text.encode()).hexdigest()[:12]}

    def predicted(
        self, ids: Container[str]
    ) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
        """Some ids -> those examples: id, image, label, prediction."""
        for example in self.examples.as_numpy_iterator():
            if (name := example["id"].decode()) in ids:
                prediction = np.asarray(self.predict(example["image"][None])[0])
                yield name, example["image"], example["label"], prediction

    def pictures(self) -> dict[str, np.ndarray]:
        """A few, spread over the split, by id: [H, 4 W, 3] uint8, photo, label, prediction, errors.

        After score().
        """
        palette = whole_palette(self.builder.info.metadata["palette"])
        spread = self.counts.ids[:: max(1, self.num_images // NUM_PICTURED)][:NUM_PICTURED]
        pictures = {}
        for name, image, label, prediction in self.predicted(spread):
            errors = (label != IGNORE_LABEL) & (label != prediction)
            parts = (image, palette[label], palette[prediction], palette[errors * IGNORE_LABEL])
            pictures[name] = np.concatenate(parts, axis=1)
        return pictures

    def submit(self, file: pathlib.Path) -> None:
        """Predicts all images of the split -> a .tgz for VOC's server; no label is looked at.

        Raises ValueError where the folder it is to be in is not there.
        """
        if file.is_dir() or not file.parent.is_dir():
            raise ValueError(f"{file} cannot be written: it is a folder, or is in none.")
        sizes = {
            example["id"].decode(): example["image"].shape[:2]
            for example in self.examples.as_numpy_iterator()
        }
        examples = track(
            self.examples.as_numpy_iterator(), f"predicting {self.split}", self.num_images
        )
        predictions = (
            (example["id"].decode(), np.asarray(self.predict(example["image"][None])[0]))
            for example in examples
        )
        write_submission(file, predictions, sizes)

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
            self.predicted(wanted),
            self.builder.info.metadata["palette"],
        )


def scores(counts: Counts, class_names: Sequence[str]) -> dict[str, Any]:
    """The counts of a split -> every score that is made of them, by name; null where undefined."""
    confusion = counts.confusions.sum(0)
    boundary = counts.boundary[:, 0] / np.maximum(counts.boundary[:, 1], 1)
    boundary = np.where(counts.boundary[:, 1] > 0, boundary, np.nan)
    return {
        "miou": mean_iou(confusion),
        "miou_interval": interval(resampled_mean_ious(counts.confusions)),
        "iou_per_class": _by_name(class_names, iou_per_class(confusion)),
        "pixel_accuracy": pixel_accuracy(confusion),
        "mean_accuracy": mean_accuracy(confusion),
        "frequency_weighted_iou": frequency_weighted_iou(confusion),
        "trimap_miou": _by_name(map(str, TRIMAP_WIDTHS), [mean_iou(c) for c in counts.trimap]),
        "boundary_iou": float(np.nanmean(boundary)),
        "boundary_iou_per_class": _by_name(class_names, boundary),
    }


def write_counts(file: pathlib.Path, counts: Counts) -> None:
    """Writes the counts of a split: beside the file, then renamed."""
    beside = file.with_name(f".{file.name}")
    with beside.open("wb") as opened:
        np.savez_compressed(opened, **counts._asdict())
    beside.replace(file)


def read_counts(file: pathlib.Path) -> Counts:
    """What write_counts wrote. Raises ValueError where it is damaged."""
    try:
        with np.load(file) as counts:
            return Counts(**{**counts, "ids": counts["ids"].tolist()})
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
