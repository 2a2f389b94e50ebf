"""A run's model on a whole split: predicted, scored, and written for others to look at."""

import itertools
import pathlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import keras
import ml_collections
import numpy as np
import tensorflow as tf

from data.build import open_dataset
from data.classes import IGNORE_LABEL, ids_sha256
from data.files import write_bytes, write_json
from data.pictures import full_palette, mask_png
from data.pipeline import check_split, eval_examples
from data.terminal import track
from evaluation import cityscapes_submission, voc_submission
from evaluation.counts import evaluate
from evaluation.gallery import chosen, write_gallery
from evaluation.prediction import predictions, predictor
from evaluation.protocol import EVALUATOR_VERSION, code_version, protocol_hash
from evaluation.results import write_counts
from evaluation.scores import scores
from model.deeplabv3 import build_model, corners_of
from model.inference import padding_multiple

SUBMISSIONS = {  # What a test server takes, by data set, and what writes it.
    "voc2012": (".tgz", voc_submission.write_submission),
    "cityscapes": (".zip", cityscapes_submission.write_submission),
}
NUM_PICTURED = 6  # Images in the picture, spread over the split.


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
        self.palette = full_palette(self.builder.info.metadata["palette"])
        self.num_images = check_split(self.builder, split).num_examples
        official = getattr(self.builder, "SPLIT_SIZES", {})
        self.official_images = official.get(split, self.num_images)
        padding_multiple(output_stride, scales)  # It refuses scales that cannot be.
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

    def predictions(
        self, ids: Collection[str] | None = None
    ) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
        """(example, [H, W] class ids) of each image of the split, or of some ids, in any order."""
        examples = eval_examples(self.builder, self.split, ids)
        return predictions(self.predict, examples.as_numpy_iterator())

    def score(self, step: int, masks: pathlib.Path | None = None) -> dict[str, Any]:
        """Scores all images of the split -> what eval.json holds; fractions, not percents.

        step: of the weights that the model was given. masks: a folder in which to leave each
        prediction as ID.png. A class that no label has has the IoU null, and no part in
        the mean. The counts it is all made of stay in self.counts.
        """
        pairs = track(self.predictions(), f"evaluating {self.split}", self.num_images)
        if masks:
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
            "official_images": self.official_images,
            "protocol": self.protocol(self.counts.ids, self.counts.labels_sha256),
            "step": step,
            "config": self.config.to_dict(),
            "versions": {"tensorflow": tf.__version__, "keras": keras.__version__},
            "commit": code_version(),
        }

    def _saving(self, pairs, folder):
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
        """Predicts all images of a test split -> the file for its server; no label is looked at.

        Raises ValueError for another data set or split, and where the folder is not there.
        """
        if file.is_dir() or not file.parent.is_dir():
            raise ValueError(f"{file} cannot be written: it is a folder, or is in none.")
        name = self.builder.name
        if name not in SUBMISSIONS or self.split != "test":
            raise ValueError(
                f"There are servers for test of {' and '.join(SUBMISSIONS)}, not for {self.split} "
                f"of {name}. --masks writes predictions of any."
            )
        if self.num_images != self.official_images:
            raise ValueError(
                f"The server takes all {self.official_images} images of test; here are "
                f"{self.num_images}."
            )
        suffix, write = SUBMISSIONS[name]
        if file.suffix != suffix:
            raise ValueError(f"The server of {name} takes a {suffix}, not {file.name}.")
        sizes = {}
        write(file, self._named(sizes), sizes)

    def _named(self, sizes):
        """(id, [H, W] class ids) of each image; sizes are filled with theirs.

        Raises ValueError at the end where the ids are not the official ones.
        """
        for example, prediction in track(
            self.predictions(), f"predicting {self.split}", self.num_images
        ):
            name = example["id"].decode()
            sizes[name] = example["image"].shape[:2]
            yield name, prediction
        official = getattr(self.builder, "SPLIT_IDS_SHA256", {}).get(self.split)
        if len(sizes) != self.num_images or official not in (None, ids_sha256(sizes)):
            raise ValueError(
                f"The {len(sizes)} images that were predicted are not the official ones of "
                f"{self.split}. Build {self.builder.name} again."
            )

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
