"""A run -> a folder for use elsewhere: an artefact, data.json, model_card.md and gate.json."""

import pathlib
import shutil
import tempfile
from typing import Any

import keras
import numpy as np

from data.build import open_dataset
from data.files import write_json, write_text
from data.pipeline import eval_examples
from deployment import formats, gate
from deployment.inference_graph import class_ids, frozen
from deployment.litert import resize_natively, write_litert
from deployment.metadata import describe
from deployment.model_card import model_card
from deployment.onnx_graph import write_onnx
from deployment.saved_model import Segmenter, write_saved_model
from evaluation.evaluator import Evaluation
from model.deeplabv3 import build_model
from model.layers import resize_bilinear
from model.resnet import BACKBONES
from training.checkpoints import load_weights
from training.run_folder import read_config

HEADER = ["format", "pixels differ %", "mIoU %", "its mIoU %", "ms", "its ms", "MB"]


class Exporter:
    """A run, how it is exported, and what the checkpoint makes of the gate's images.

    Raises ValueError or FileNotFoundError where the run or its data set is not to be had.
    """

    def __init__(
        self,
        run: pathlib.Path,
        *,
        inference: dict[str, Any],
        size: tuple[int, int] | None = None,
        gate_images: int,
        data_dir: str | None = None,
    ):
        self.run, self.inference, self.size, self.data_dir = run, inference, size, data_dir
        self.config = read_config(run)
        self.mean_pixel = BACKBONES[self.config.model.backbone].mean_pixel
        self.model, self.step = self.model_in("float32")
        self.data = describe(run, self.config, step=self.step, inference=inference, size=size)
        self.checkpoint = self._checkpoint(gate_images) if gate_images else None

    def model_in(self, precision: str) -> tuple[keras.Model, int]:
        """The run's model and the step of its weights."""
        stride = self.inference["output_stride"]
        model = build_model(self.config, output_stride=stride, precision=precision)
        return model, load_weights(model, self.run)

    def _checkpoint(self, gate_images):
        how = {"split": self.config.eval_data.split, **self.inference}
        try:
            evaluation = Evaluation(self.config, **how, data_dir=self.data_dir)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                "The gate needs images: name where they are with --data_dir, or do without it with "
                f"--gate_images=0. {error}"
            ) from error
        evaluation.check_class_names(self.data["class_names"])
        load_weights(evaluation.model, self.run)
        examples = eval_examples(evaluation.builder, evaluation.split).take(gate_images)
        return gate.samples(
            evaluation.predict,
            examples.as_numpy_iterator(),
            size=self.size,
            mean_pixel=self.mean_pixel,
        )

    def calibration(self) -> list[np.ndarray]:
        """[H, W, 3] images of what the run was trained on."""
        train = self.config.train_data
        builder = open_dataset(train.dataset, self.data_dir)
        examples = eval_examples(builder, train.split).take(gate.NUM_CALIBRATION)
        return [
            gate.fitted(example["image"], self.size, self.mean_pixel)
            for example in examples.as_numpy_iterator()
        ]

    def write(self, name: str, folder: pathlib.Path) -> list[str]:
        """Writes a format into a folder, in place of an export -> its row of the gate's table.

        Raises ValueError, and leaves the folder as it was, where the gate does not open.
        """
        kind = formats.FORMATS[name]
        check_replaceable(folder, kind)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}_") as beside:
            new = pathlib.Path(beside) / "new"
            self._write_artefact(name, new, pathlib.Path(beside))
            artefact = new / kind.file
            figures = {"format": name, "bytes": gate.size_in_bytes(artefact)}
            gated = "none, as was asked."
            if self.checkpoint:
                figures |= self._pass(name, artefact)
                split, miou = self.config.eval_data, figures["miou"]
                gated = (
                    f"on {figures['images']} images of {split.dataset}, {split.split}, "
                    f"{100 * figures['differing']:.4f} % of pixels differ from the checkpoint's; "
                    f"mIoU {100 * miou['export']:.2f} % beside {100 * miou['checkpoint']:.2f} %."
                )
            write_json(new / "gate.json", figures)
            card = model_card(self.data, name=name, runtime=kind.runtime, gated=gated)
            write_text(new / "model_card.md", card)
            if folder.exists():
                shutil.move(folder, pathlib.Path(beside) / "old")
            new.rename(folder)
        return row(name, figures)

    def _write_artefact(self, name, folder, beside):
        """The artefact and its data.json, into a new folder; `beside` is for what is in between."""
        precision = "mixed_bfloat16" if name == "saved_model_bfloat16" else "float32"
        model = self.model if precision == "float32" else self.model_in(precision)[0]
        is_litert = name.startswith("litert")
        probabilities = frozen(
            model,
            mean_pixel=self.mean_pixel,
            # In ONNX, where pixels lie behind one another, the two products are faster.
            resize=resize_natively if is_litert else resize_bilinear,
            **self.inference,
        )
        if name.startswith("saved_model"):
            write_json(beside / "data.json", self.data)
            write_saved_model(Segmenter(probabilities, beside / "data.json"), folder)
            return
        folder.mkdir()
        write_json(folder / "data.json", self.data)
        file = folder / formats.FORMATS[name].file

        def segment(images):
            return class_ids(probabilities(images))

        if name == "onnx":
            write_onnx(segment, file, size=self.size)
        else:
            precision = name.removeprefix("litert_")
            images = self.calibration() if precision == "int8" else ()
            write_litert(segment, file, size=self.size, precision=precision, calibration=images)

    def _pass(self, name, artefact):
        kind = formats.FORMATS[name]
        ids, seconds = gate.run_alone(kind.runtime, artefact, self.checkpoint.images)
        figures = gate.compare(ids, seconds, self.checkpoint, self.data["num_classes"])
        figures["limits"] = {"differing": kind.differing, "miou": kind.miou}
        if not gate.passes(figures, kind):
            miou = figures["miou"]
            limits = [f"{100 * kind.differing:g} % of pixels"] * (kind.differing < 1)
            limits += [f"{100 * kind.miou:g} mIoU points"] * (kind.miou < 1)
            raise ValueError(
                f"{name} is not what the checkpoint is: {100 * figures['differing']:.4f} % of "
                f"pixels differ, mIoU is {100 * miou['export']:.2f} % beside "
                f"{100 * miou['checkpoint']:.2f} %; at most {' and '.join(limits)} are allowed. "
                "Nothing was written."
            )
        return figures


def row(name: str, figures: dict[str, Any]) -> list[str]:
    """Figures of gate.json -> a row under HEADER."""
    size = f"{figures['bytes'] / 1e6:.2f}"
    if "differing" not in figures:
        return [name, "not gated", "", "", "", "", size]
    miou, seconds = figures["miou"], figures["median_seconds"]
    cells = [f"{100 * figures['differing']:.4f}"]
    cells += [f"{100 * miou[who]:.2f}" for who in ("checkpoint", "export")]
    cells += [f"{1000 * seconds[who]:.0f}" for who in ("checkpoint", "export")]
    return [name, *cells, size]


def check_replaceable(folder: pathlib.Path, kind: formats.Format) -> None:
    """Raises ValueError where a folder is there that is no export of this kind."""
    data = "assets/data.json" if kind.runtime == "tensorflow" else "data.json"
    artefact = kind.file or "saved_model.pb"
    if folder.exists() and not ((folder / artefact).exists() and (folder / data).exists()):
        raise ValueError(
            f"{folder} is there and is no export with {artefact} and {data}; choose another "
            "--output."
        )
