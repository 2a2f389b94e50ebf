"""A run -> a folder for use elsewhere: an artifact, data.json, model_card.md and gate.json."""

import json
import pathlib
import shutil
import tempfile
from typing import Any

import keras
import numpy as np

from data.build import open_dataset
from data.files import write_json, write_text
from data.pipeline import eval_examples
from data.terminal import percent
from deployment import gate
from deployment.artifact import write_artifact
from deployment.formats import FORMATS, Format
from deployment.metadata import describe
from deployment.model_card import model_card
from evaluation.evaluator import Evaluator
from model.backbones import BACKBONES
from model.deeplabv3 import deeplabv3
from training.checkpoints import load_weights
from training.run_folder import read_config

HEADER = [
    "format",
    "pixels differ %",
    "checkpoint mIoU %",
    "export mIoU %",
    "checkpoint ms",
    "export ms",
    "MB",
]


class Exporter:
    """Exports a run, and holds the checkpoint's predictions of the parity check's images.

    Args:
      run: the run's folder.
      checkpoint: the weights to export: last, best or a step that is kept.
      inference: output_stride, scales and flip of the export.
      size: [H, W] of all images, or None for any.
      gate_images: how many images the parity check compares; 0 skips it.
      data_dir: where the shards are; TFDS's own default if None.

    Raises ValueError or FileNotFoundError where the run or its data set is missing or damaged.
    """

    def __init__(
        self,
        run: pathlib.Path,
        *,
        checkpoint: str = "last",
        inference: dict[str, Any],
        size: tuple[int, int] | None = None,
        gate_images: int,
        data_dir: str | None = None,
    ):
        self.run, self.inference, self.size, self.data_dir = run, inference, size, data_dir
        self.checkpoint = checkpoint
        config = read_config(run)
        self.arguments = {**config.model, "output_stride": inference["output_stride"]}
        self.train_data, self.eval_data = dict(config.train_data), dict(config.eval_data)
        self.mean_pixel = BACKBONES[config.model.backbone].mean_pixel
        self.model = deeplabv3(**self.arguments)
        self.step = load_weights(self.model, run, checkpoint)
        plain = json.loads(config.to_json())
        self.data = describe(
            run, plain, checkpoint=checkpoint, step=self.step, inference=inference, size=size
        )
        self.samples = self._predict_samples(gate_images) if gate_images else None

    def _predict_samples(self, gate_images):
        try:
            evaluator = Evaluator(
                self.model,
                **self.eval_data,
                **self.inference,
                data_dir=self.data_dir,
            )
        except FileNotFoundError as error:
            raise FileNotFoundError(
                "The parity check needs images: name where they are with --data_dir, or skip it "
                f"with --gate_images=0. {error}"
            ) from error
        evaluator.check_class_names(self.data["class_names"])
        examples = eval_examples(evaluator.builder, evaluator.split).take(gate_images)
        return gate.predict_samples(
            evaluator.predict,
            examples.as_numpy_iterator(),
            size=self.size,
            mean_pixel=self.mean_pixel,
        )

    def calibration(self) -> list[np.ndarray]:
        """[H, W, 3] images of the run's training split."""
        builder = open_dataset(self.train_data["dataset"], self.data_dir)
        examples = eval_examples(builder, self.train_data["split"]).take(
            gate.NUM_CALIBRATION_IMAGES
        )
        return [
            gate.fit_to_size(example["image"], self.size, self.mean_pixel)
            for example in examples.as_numpy_iterator()
        ]

    def write(self, name: str, folder: pathlib.Path) -> list[str]:
        """Writes a format into a folder, in place of an export -> its row under HEADER.

        Raises ValueError, and leaves the folder as it was, where the parity check fails.
        """
        kind = FORMATS[name]
        check_replaceable(folder, kind)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}_") as beside:
            new = pathlib.Path(beside) / "new"
            self._write_artifact(name, new)
            artifact = new / kind.file
            figures = {"format": name, "bytes": gate.size_in_bytes(artifact)}
            parity = "skipped (--gate_images=0)."
            if self.samples:
                figures |= self._check_parity(name, artifact)
                data, miou = self.eval_data, figures["miou"]
                parity = (
                    f"on {figures['images']} images of {data['dataset']}, {data['split']}, "
                    f"{100 * figures['differing']:.4f} % of pixels differ from the checkpoint's; "
                    f"mIoU {percent(miou['export'])} %, "
                    f"the checkpoint's {percent(miou['checkpoint'])} %."
                )
            write_json(new / "gate.json", figures)
            card = model_card(self.data, name=name, runtime=kind.runtime, parity=parity)
            write_text(new / "model_card.md", card)
            if folder.exists():
                shutil.move(folder, pathlib.Path(beside) / "old")
            new.rename(folder)
        return row(name, figures)

    def _write_artifact(self, name, folder):
        """The artifact and its data.json, into a new folder."""
        write_artifact(
            name,
            self._model_in_bfloat16() if name == "saved_model_bfloat16" else self.model,
            folder,
            data=self.data,
            size=self.size,
            calibration=self.calibration() if name == "litert_int8" else (),
            mean_pixel=self.mean_pixel,
            **self.inference,
        )

    def _model_in_bfloat16(self) -> keras.Model:
        model = deeplabv3(**self.arguments, precision="mixed_bfloat16")
        load_weights(model, self.run, self.checkpoint)
        return model

    def _check_parity(self, name, artifact):
        kind = FORMATS[name]
        ids, seconds = gate.run_isolated(kind.runtime, artifact, self.samples.images)
        figures = gate.compare(ids, seconds, self.samples, self.data["num_classes"])
        figures["tolerance"] = {"differing": kind.differing, "miou": kind.miou}
        if not gate.is_within_tolerance(figures, kind):
            miou = figures["miou"]
            tolerance = [f"{100 * kind.differing:g} % of pixels"] * (kind.differing < 1)
            tolerance += [f"{100 * kind.miou:g} mIoU points"] * (kind.miou < 1)
            raise ValueError(
                f"{name} does not reproduce the checkpoint: {100 * figures['differing']:.4f} % of "
                f"pixels differ, mIoU is {percent(miou['export'])} %, the checkpoint's "
                f"{percent(miou['checkpoint'])} %; at most {' and '.join(tolerance)} may differ. "
                "Nothing was written."
            )
        return figures


def row(name: str, figures: dict[str, Any]) -> list[str]:
    """Figures of gate.json -> a row under HEADER."""
    size = f"{figures['bytes'] / 1e6:.2f}"
    if "differing" not in figures:
        return [name, "not checked", "", "", "", "", size]
    miou, seconds = figures["miou"], figures["median_seconds"]
    cells = [f"{100 * figures['differing']:.4f}"]
    cells += [percent(miou[who]) for who in ("checkpoint", "export")]
    cells += [f"{1000 * seconds[who]:.0f}" for who in ("checkpoint", "export")]
    return [name, *cells, size]


def check_replaceable(folder: pathlib.Path, kind: Format) -> None:
    """Raises ValueError where a folder exists that is not an export of this kind."""
    data = "assets/data.json" if kind.runtime == "tensorflow" else "data.json"
    artifact = kind.file or "saved_model.pb"
    if folder.exists() and not ((folder / artifact).exists() and (folder / data).exists()):
        raise ValueError(
            f"{folder} exists and is not an export with {artifact} and {data}; choose another "
            "--output."
        )
