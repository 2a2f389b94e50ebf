r"""Writes a run in formats for use elsewhere, once each is seen to do what the run does.

    python export.py --run=runs/shapes/base
    python export.py --run=runs/base --output_stride=8 --scales=0.75,1,1.25 --flip
    python export.py --run=runs/base --format=saved_model_bfloat16,litert_int8,onnx
    python export.py --run=runs/base --format=litert_float16 --size=513,513

Formats: saved_model, saved_model_bfloat16, litert_float32, litert_float16, litert_int8, onnx; each
becomes RUN/FORMAT, with data.json, model_card.md and gate.json. uint8 images go in, class ids come
out; it needs its own runtime alone, none of this project:

    segment = tf.saved_model.load("runs/shapes/base/saved_model")
    class_ids = segment(images)  # [B, H, W, 3] uint8 RGB -> [B, H, W] uint8

The gate runs each, in a process of its own, on images of the run's evaluation and compares with the
checkpoint. Where more differs than the format may, or it does not run, nothing of it is left, and
the exit code is 1.
"""

import os

# Before TensorFlow is imported; train.py says why.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import importlib.util
import pathlib
import shutil
import tempfile
from typing import Any

import ml_collections
import numpy as np
from absl import flags

from data.build import open_dataset
from data.files import write_json, write_text
from data.pipeline import eval_examples
from experiments import gate
from experiments.evaluation import Evaluation, inference_of
from experiments.imported import as_run
from experiments.model_card import describe, model_card
from experiments.portable import resize_natively, write_litert, write_onnx
from experiments.runs import build_model, load_weights, read_config, read_data
from experiments.serving import Segmenter, class_ids, frozen, write_saved_model
from experiments.terminal import run_program, table
from model.layers import resize_bilinear
from model.resnet import BACKBONES

RUN = flags.DEFINE_string(
    "run", None, "The run's folder; or others' model, see README.", required=True
)
FORMAT = flags.DEFINE_list("format", "saved_model", f"Of {', '.join(gate.FORMATS)}.")
OUTPUT = flags.DEFINE_string("output", None, "The folder of one format; RUN/FORMAT if not given.")
OUTPUT_STRIDE = flags.DEFINE_integer("output_stride", None, "The run's own for eval if not given.")
SCALES = flags.DEFINE_list("scales", None, "Of the image, 0.5,1,1.5 say; the run's if not given.")
FLIP = flags.DEFINE_bool("flip", None, "Whether mirrored too; as the run if not given.")
SIZE = flags.DEFINE_list("size", None, "H,W of all images, in LiteRT and ONNX: faster. Or any.")
GATE_IMAGES = flags.DEFINE_integer("gate_images", 16, "0: no gate, for who lacks the data set.", 0)
DATA_DIR = flags.DEFINE_string("data_dir", None, "Shards; ~/tensorflow_datasets if not given.")


class Export:
    """A run, how it is exported, and what the checkpoint makes of the gate's images.

    Raises ValueError or FileNotFoundError where the run or its data set is not to be had.
    """

    def __init__(self, run: pathlib.Path, inference: dict[str, Any], size: tuple[int, int] | None):
        self.run, self.inference, self.size = run, inference, size
        self.config = read_config(run)
        self.mean_pixel = BACKBONES[self.config.model.backbone].mean_pixel
        self.model, self.step = self.model_in("float32")
        self.data = describe(run, self.config, step=self.step, inference=inference, size=size)
        self.checkpoint = self._checkpoint() if GATE_IMAGES.value else None

    def model_in(self, precision: str):
        """The run's model and the step of its weights."""
        stride = self.inference["output_stride"]
        model = build_model(self.config, output_stride=stride, precision=precision)
        return model, load_weights(model, self.run)

    def _checkpoint(self) -> gate.Samples:
        how = {"split": self.config.eval_data.split, **self.inference}
        evaluation = Evaluation(self.config, **how, data_dir=DATA_DIR.value)
        evaluation.check_class_names(self.data["class_names"])
        load_weights(evaluation.model, self.run)
        examples = eval_examples(evaluation.builder, evaluation.split).take(GATE_IMAGES.value)
        return gate.samples(
            evaluation.predict,
            examples.as_numpy_iterator(),
            size=self.size,
            mean_pixel=self.mean_pixel,
        )

    def calibration(self) -> list[np.ndarray]:
        """[H, W, 3] images of what the run was trained on."""
        train = self.config.train_data
        builder = open_dataset(train.dataset, DATA_DIR.value)
        examples = eval_examples(builder, train.split).take(gate.NUM_CALIBRATION)
        return [
            gate.fitted(example["image"], self.size, self.mean_pixel)
            for example in examples.as_numpy_iterator()
        ]

    def write(self, name: str, folder: pathlib.Path) -> list[str]:
        """Writes a format into a folder, in place of an export -> its row of the gate's table.

        Raises ValueError, and leaves the folder as it was, where the gate does not open.
        """
        kind = gate.FORMATS[name]
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
                split = self.config.eval_data
                gated = (
                    f"compared with the checkpoint on {figures['images']} images of "
                    f"{split.dataset}, {split.split}: gate.json."
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
        file = folder / gate.FORMATS[name].file

        def segment(images):
            return class_ids(probabilities(images))

        if name == "onnx":
            write_onnx(segment, file, size=self.size)
        else:
            precision = name.removeprefix("litert_")
            images = self.calibration() if precision == "int8" else ()
            write_litert(segment, file, size=self.size, precision=precision, calibration=images)

    def _pass(self, name, artefact):
        kind = gate.FORMATS[name]
        ids, seconds = gate.run_alone(kind.runtime, artefact, self.checkpoint.images)
        figures = gate.compare(ids, seconds, self.checkpoint, self.data["num_classes"])
        figures["limits"] = {"differing": kind.differing, "miou": kind.miou}
        if not gate.passes(figures, kind):
            shares = f"{100 * figures['differing']:.4f} % of pixels differ"
            miou = figures["miou"]
            raise ValueError(
                f"{name} is not what the checkpoint is: {shares}, mIoU is "
                f"{100 * miou['export']:.2f} % beside {100 * miou['checkpoint']:.2f} %; at most "
                f"{100 * kind.differing:g} % and {100 * kind.miou:g} points are allowed. Nothing "
                "was written."
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


HEADER = ["format", "pixels differ %", "mIoU %", "its mIoU %", "ms", "its ms", "MB"]


def check_replaceable(folder: pathlib.Path, kind: gate.Format) -> None:
    """Raises ValueError where a folder is there that is no export of this kind."""
    data = "assets/data.json" if kind.runtime == "tensorflow" else "data.json"
    artefact = kind.file or "saved_model.pb"
    if folder.exists() and not ((folder / artefact).exists() and (folder / data).exists()):
        raise ValueError(
            f"{folder} is there and is no export with {artefact} and {data}; choose another "
            "--output."
        )


def check_formats(names: list[str]) -> None:
    """Raises ValueError for an unknown format, and where one lacks a library or a flag."""
    for name in names:
        if name not in gate.FORMATS:
            raise ValueError(f"No format {name!r}; there are {', '.join(gate.FORMATS)}.")
        for module, package in gate.FORMATS[name].libraries.items():
            if importlib.util.find_spec(module) is None:
                raise ValueError(f"{name} needs {package}: pip install {package}")
        if SIZE.value and name.startswith("saved_model"):
            raise ValueError(f"{name} takes images of any size: no --size.")
    if not names or (OUTPUT.value and len(names) > 1):
        raise ValueError("Name a --format; with --output one alone.")


def asked_size() -> tuple[int, int] | None:
    """--size as (H, W), None where it is not given. Raises ValueError where it is no size."""
    if SIZE.value is None:
        return None
    if len(SIZE.value) != 2 or not all(side.isdecimal() and int(side) for side in SIZE.value):
        raise ValueError(f"--size={','.join(SIZE.value)} is no H,W in pixels, as in 513,513.")
    return int(SIZE.value[0]), int(SIZE.value[1])


def asked_inference(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """The run's own inference, but for what the flags say. Raises ValueError for no scale."""
    own = inference_of(config)
    asked = {"output_stride": OUTPUT_STRIDE.value, "scales": SCALES.value, "flip": FLIP.value}
    how = {k: own[k] if value is None else value for k, value in asked.items()}
    try:
        scales = tuple(map(float, how["scales"]))
    except ValueError:
        scales = ()
    if not scales or not all(0 < scale < float("inf") for scale in scales):
        raise ValueError(f"--scales={','.join(how['scales'])} are no positive numbers.")
    return {**how, "scales": scales}


def main(_) -> None:
    run = as_run(RUN.value)
    inference, size = asked_inference(read_config(run)), asked_size()
    read_data(run)
    check_formats(FORMAT.value)
    folders = {name: pathlib.Path(OUTPUT.value or run / name) for name in FORMAT.value}
    for name, folder in folders.items():
        check_replaceable(folder, gate.FORMATS[name])
    export = Export(run, inference, size)
    rows, failed = [], []
    for name, folder in folders.items():
        try:
            rows.append(export.write(name, folder))
            print(f"{run}, step {export.step} -> {folder}", flush=True)
        except ValueError as error:
            failed.append(str(error))
    if rows:
        print(table([HEADER, *rows]))
    if failed:
        raise ValueError("\n".join(failed))


if __name__ == "__main__":
    run_program(main)
