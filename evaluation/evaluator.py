"""One split of a data set, predicted with a model and scored."""

import itertools
import pathlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from data.build import open_dataset
from data.classes import IGNORE_LABEL, ids_sha256
from data.drawing import ERROR_COLOR, class_entries, comparison_panels, join_panels
from data.files import write_bytes, write_json
from data.pictures import full_palette, mask_png
from data.pipeline import check_split, eval_examples
from data.terminal import track
from evaluation.counts import Counts, count_pixels
from evaluation.gallery import select_examples, write_gallery
from evaluation.prediction import make_predictor, predict_examples
from evaluation.protocol import EVALUATOR_VERSION, code_version, protocol_hash
from evaluation.results import write_counts
from evaluation.scores import compute_scores
from model.deeplabv3 import corners_of
from model.inference import padding_multiple

NUM_SAMPLES = 6  # Images that TensorBoard shows of a split.


class Evaluator:
    """Scores a model on one split of a data set, with one inference strategy.

    Args:
      model: of deeplabv3, at output_stride; its weights may be filled later.
      dataset: a name as data.build has it, such as voc2012.
      split: the one to score.
      output_stride: of the model.
      scales, flip: over which probabilities are averaged.
      data_dir: where the shards are; TFDS's own default if None.

    Raises ValueError or FileNotFoundError where the data set or the split is missing, has another
    number of classes than the model, or a scale is not possible.
    """

    def __init__(
        self,
        model: keras.Model,
        *,
        dataset: str,
        split: str,
        output_stride: int,
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
        data_dir: str | None = None,
    ):
        self.model, self.dataset, self.split = model, dataset, split
        self.inference = {"output_stride": output_stride, "scales": tuple(scales), "flip": flip}
        self.builder = open_dataset(dataset, data_dir)
        self.class_names = self.builder.info.metadata["class_names"]
        num_classes = model.output_shape[-1]
        if num_classes != len(self.class_names):
            raise ValueError(
                f"model.num_classes is {num_classes}, but {dataset} has {len(self.class_names)} "
                "classes."
            )
        self.palette = full_palette(self.builder.info.metadata["palette"])
        self.num_images = check_split(self.builder, split).num_examples
        official = getattr(self.builder, "SPLIT_SIZES", {})
        self.official_images = official.get(split, self.num_images)
        padding_multiple(output_stride, scales)  # Raises for scales that are not possible.
        self.predict = make_predictor(model, scales=scales, flip=flip)

    def check_class_names(self, trained: Sequence[str]) -> None:
        """Raises ValueError where a run was trained on other classes than it is scored on."""
        pairs = itertools.zip_longest(trained, self.class_names)
        differ = [f"{ours} is {theirs} there" for ours, theirs in pairs if ours != theirs]
        if differ:
            raise ValueError(
                f"The training data does not have the classes of {self.builder.info.full_name}: "
                f"{', '.join(differ[:5])}. Choose another --config.eval_data.dataset in training."
            )

    def predictions(
        self, ids: Collection[str] | None = None
    ) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
        """(example, [H, W] class ids) of each image of the split, or of some ids, in any order."""
        examples = eval_examples(self.builder, self.split, ids)
        return predict_examples(self.predict, examples.as_numpy_iterator())

    def score(
        self,
        step: int,
        config: Mapping[str, Any],
        *,
        checkpoint: str = "last",
        masks: pathlib.Path | None = None,
        boundaries: bool = True,
    ) -> tuple[dict[str, Any], Counts]:
        """Scores all images of the split -> the content of eval.json, and the counts behind it.

        Args:
          step: the one that the model's weights are from.
          config: of the run, as plain data; eval.json keeps it.
          checkpoint: what the user named it: last, best or a step; eval.json keeps it.
          masks: a folder for the predictions, as ID.png.
          boundaries: whether there are scores near boundaries, too.

        Returns:
          Scores as fractions, with the protocol, and the pixel counts of each image. A class that
          no label has has the IoU null and no part in the mean.

        Raises:
          ValueError: another number of images came than the split has, or it has no labels.
        """
        pairs = track(self.predictions(), f"evaluating {self.split}", self.num_images)
        if masks:
            pairs = self._save_masks(pairs, masks)
        counts = count_pixels(
            pairs,
            num_images=self.num_images,
            num_classes=len(self.class_names),
            ignore_label=IGNORE_LABEL,
            boundaries=boundaries,
        )
        if not counts.confusions.any():
            raise ValueError(
                f"{self.split} of {self.builder.info.full_name} has no labels: all its pixels are "
                f"{IGNORE_LABEL}. It can be predicted, not scored."
            )
        result = {
            **compute_scores(counts, self.class_names),
            "num_images": self.num_images,
            "official_images": self.official_images,
            "protocol": self.protocol(counts.ids, counts.labels_sha256),
            "step": step,
            "checkpoint": checkpoint,
            "config": dict(config),
            "versions": {"tensorflow": tf.__version__, "keras": keras.__version__},
            "commit": code_version(),
        }
        return result, counts

    def _save_masks(self, pairs, folder):
        """The same pairs, once the prediction of each is in the folder."""
        for example, prediction in pairs:
            file = folder / f"{example['id'].decode()}.png"  # One's own ids may name folders.
            if not file.resolve().is_relative_to(folder.resolve()):
                raise ValueError(f"{file} would lie outside {folder}.")
            file.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(file, mask_png(prediction, self.palette))
            yield example, prediction

    def protocol(self, ids: Iterable[str], labels_sha256: str) -> dict[str, Any]:
        """The ids of the images scored, and their labels -> all that comparable numbers share."""
        multiple = padding_multiple(self.inference["output_stride"], self.inference["scales"])
        padding = f"mean pixel, bottom and right, to a multiple of {multiple}, plus 1"
        protocol = {
            "dataset": self.builder.info.full_name,
            "split": self.split,
            "num_images": self.num_images,
            "ids_sha256": ids_sha256(ids),
            "labels_sha256": labels_sha256,
            "label": "the data set's own, at its own size; 255 not scored",
            "padding": padding if corners_of(self.model) == "aligned" else "none",
            **self.inference,
            "evaluator": EVALUATOR_VERSION,
        }
        return {**protocol, "hash": protocol_hash(protocol)}

    def sample_images(self, ids: Sequence[str]) -> dict[str, np.ndarray]:
        """Ids -> a few of them, spread evenly, each with [H, W, 3] uint8 for a person to look at.

        Image, label, prediction and errors, side by side, with their titles and a legend.
        """
        some = ids[:: max(1, len(ids) // NUM_SAMPLES)][:NUM_SAMPLES]
        samples = {}
        for example, prediction in self.predictions(some):
            label = example["label"]
            panels = comparison_panels(example["image"], label, prediction, self.palette)
            present = np.union1d(label[label != IGNORE_LABEL], prediction)
            entries = class_entries(present, self.palette, self.class_names)
            entries.append(("error", ERROR_COLOR))
            if (label == IGNORE_LABEL).any():
                entries.append(("not scored", self.palette[IGNORE_LABEL].tolist()))
            samples[example["id"].decode()] = join_panels(panels, entries)
        return samples

    def write(
        self, folder: pathlib.Path, name: str, result: Mapping[str, Any], counts: Counts
    ) -> None:
        """What score() returned -> NAME.json, NAME.npz (the counts) and NAME.html in the folder."""
        # The counts first: a JSON never lies without its own.
        write_counts(folder / f"{name}.npz", counts)
        write_json(folder / f"{name}.json", result)
        wanted = {image for ids in select_examples(counts).values() for image in ids}
        write_gallery(
            folder / f"{name}.html", result, counts, self.predictions(wanted), self.palette
        )
