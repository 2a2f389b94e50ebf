"""A run's model on a whole split: one confusion matrix, a table, a JSON and a picture."""

import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import ml_collections
import numpy as np
import tensorflow as tf

from data.build import open_dataset
from data.classes import IGNORE_LABEL
from data.files import write_json
from data.pictures import side_by_side, whole_palette
from data.pipeline import eval_examples
from data.progress import track
from experiments.runs import build_model
from experiments.terminal import table
from model.evaluate import evaluate
from model.inference import class_ids, class_probabilities
from model.metrics import iou_per_class, mean_iou
from model.resnet import BACKBONES

NUM_PICTURED = 6  # Images in the picture, spread over the split.


def predictor(
    model: keras.Model, *, backbone: str, output_stride: int
) -> Callable[[tf.Tensor], tf.Tensor]:
    """A model at output_stride -> a compiled [B, H, W, 3] uint8 images -> [B, H, W] class ids."""

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8, name="images")])
    def predict(images):
        probabilities = class_probabilities(
            model,
            images,
            output_stride=output_stride,
            mean_pixel=BACKBONES[backbone].mean_pixel,
        )
        return class_ids(probabilities)

    return predict


class Evaluation:
    """How a run is scored: a split, an output_stride, and a model at it, to be given weights.

    Raises ValueError or FileNotFoundError where the data set, the split or the output_stride is
    not to be had.
    """

    def __init__(
        self,
        config: ml_collections.ConfigDict,
        *,
        split: str,
        output_stride: int,
        data_dir: str | None = None,
    ):
        self.config, self.split, self.output_stride = config, split, output_stride
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
        self.predict = predictor(
            self.model, backbone=config.model.backbone, output_stride=output_stride
        )

    def score(self, step: int) -> dict[str, Any]:
        """Scores all images of the split -> what eval.json holds; fractions, not percents.

        step: of the weights that the model was given. A class that is neither in a label nor in a
        prediction has the IoU null, and no part in the mean.
        """
        confusion = evaluate(
            self.predict,
            track(self.examples.as_numpy_iterator(), f"evaluating {self.split}", self.num_images),
            num_images=self.num_images,
            num_classes=len(self.class_names),
            ignore_label=IGNORE_LABEL,
        )
        if not confusion.any():
            raise ValueError(
                f"{self.split} of {self.builder.info.full_name} has no labels: all its pixels are "
                f"{IGNORE_LABEL}. It can be predicted, not scored."
            )
        iou = [None if np.isnan(value) else float(value) for value in iou_per_class(confusion)]
        return {
            "miou": mean_iou(confusion),
            "iou_per_class": dict(zip(self.class_names, iou, strict=True)),
            "num_images": self.num_images,
            "protocol": {
                "dataset": self.builder.info.full_name,
                "split": self.split,
                "output_stride": self.output_stride,
            },
            "step": step,
            "config": self.config.to_dict(),
            "versions": {"tensorflow": tf.__version__, "keras": keras.__version__},
        }

    def examples_pictured(self) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
        """A few examples, spread over the split: id, image, label, prediction."""
        spread = self.examples.shard(max(1, self.num_images // NUM_PICTURED), 0)
        for example in spread.take(NUM_PICTURED).as_numpy_iterator():
            prediction = np.asarray(self.predict(example["image"][None])[0])
            yield example["id"].decode(), example["image"], example["label"], prediction

    def pictures(self) -> dict[str, np.ndarray]:
        """By id: [H, 4 W, 3] uint8, photo, label, prediction, and errors in grey."""
        palette = whole_palette(self.builder.info.metadata["palette"])
        pictures = {}
        for name, image, label, prediction in self.examples_pictured():
            errors = (label != IGNORE_LABEL) & (label != prediction)
            parts = (image, palette[label], palette[prediction], palette[errors * IGNORE_LABEL])
            pictures[name] = np.concatenate(parts, axis=1)
        return pictures

    def write(self, folder: pathlib.Path, name: str, result: dict[str, Any]) -> None:
        """Writes NAME.json and NAME.png: image, label and prediction of a few images."""
        write_json(folder / f"{name}.json", result)
        palette = self.builder.info.metadata["palette"]
        pictured = list(self.examples_pictured())
        side_by_side(folder / f"{name}.png", pictured, self.class_names, palette)


def report(result: dict[str, Any]) -> str:
    """What Evaluation.score gives -> a table of percents, the mean last."""
    rows = [
        [name, "-" if iou is None else f"{100 * iou:.2f}"]
        for name, iou in result["iou_per_class"].items()
    ]
    return table([["class", "IoU %"], *rows, ["mIoU", f"{100 * result['miou']:.2f}"]])
