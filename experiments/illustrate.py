"""Draws docs/output_stride.png: images, labels, and predictions at output strides 8, 16 and 32.

    python -m experiments.run table1:os8 table1:os16 table1:os32 --scale=shapes
    python -m experiments.illustrate

Every row of the picture is an image of the val split of `shapes`; its columns are the image, the
label, and the predictions of Table 1's rows at output stride 8, 16 and 32, with their mIoU over the
whole split. The networks are equal but for strides and rates; each is trained and evaluated at its
output stride. Images are the first ones of the split with at least four classes beside the
background: no prediction has a say in the choice.
"""

import argparse
import io
import json
import pathlib

from data.terminal import errors_in_a_line, make_parser, parse_early, percent

ROOT = pathlib.Path(__file__).parent.parent
FILE = ROOT / "docs" / "output_stride.png"


def define_command_line() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = make_parser("experiments.illustrate", __doc__)
    parser.add_argument(
        "--runs", type=pathlib.Path, default=pathlib.Path("runs"), help="the folder of all runs"
    )
    parser.add_argument("--data_dir", help="TFDS data directory")
    parser.add_argument("--output", type=pathlib.Path, default=FILE, help="the PNG to write")
    return parser


if __name__ == "__main__":
    parse_early(define_command_line())  # Before TensorFlow is imported.

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from data.build import open_dataset
from data.classes import IGNORE_LABEL
from data.files import write_bytes
from data.pictures import full_palette
from data.pipeline import eval_examples
from evaluation.prediction import make_predictor
from experiments import plan, tables
from model.deeplabv3 import deeplabv3
from training.checkpoints import load_weights
from training.run_folder import read_config

ROWS = ("os8", "os16", "os32")  # Of Table 1.
NUM_IMAGES, MIN_CLASSES = 3, 4
SIDE, GAP, TITLE_HEIGHT = 180, 6, 24  # Pixels of an image, between images, and of the titles.


def choose_examples(dataset: str, split: str, data_dir: str | None) -> list[dict]:
    """The first NUM_IMAGES examples of a split that show MIN_CLASSES classes or more."""
    chosen = []
    for example in eval_examples(open_dataset(dataset, data_dir), split).as_numpy_iterator():
        if len(set(np.unique(example["label"])) - {0, IGNORE_LABEL}) >= MIN_CLASSES:
            chosen.append(example)
        if len(chosen) == NUM_IMAGES:
            return chosen
    raise ValueError(f"{split} of {dataset} has too few images with {MIN_CLASSES} classes.")


def predict_column(run: pathlib.Path, examples: list[dict]) -> tuple[str, list[np.ndarray]]:
    """A run's folder, and examples -> the title of its column, and [H, W] class ids of each."""
    config = read_config(run)
    score = json.loads((run / "eval.json").read_text())
    model = deeplabv3(**{**config.model, "output_stride": config.eval.output_stride})
    load_weights(model, run)
    predict = make_predictor(model, scales=config.eval.scales, flip=config.eval.flip)
    title = f"output stride {config.eval.output_stride}: {percent(score['miou'])}"
    return title, [predict(example["image"][None])[0].numpy() for example in examples]


def draw(titles: list[str], columns: list[list[np.ndarray]]) -> bytes:
    """Titles, and columns of [H, W, 3] uint8 images -> a PNG, every pixel enlarged to a square."""
    width = len(columns) * (SIDE + GAP) - GAP
    height = TITLE_HEIGHT + NUM_IMAGES * (SIDE + GAP) - GAP
    sheet = Image.new("RGB", (width, height), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for i, (title, images) in enumerate(zip(titles, columns, strict=True)):
        left = i * (SIDE + GAP)
        pen.text((left + 2, 3), title, fill="black", font=font)
        for j, image in enumerate(images):
            picture = Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.NEAREST)
            sheet.paste(picture, (left, TITLE_HEIGHT + j * (SIDE + GAP)))
    file = io.BytesIO()
    sheet.quantize(256).save(file, "PNG", optimize=True)
    return file.getvalue()


def folder_of(row: str, runs: pathlib.Path) -> pathlib.Path:
    """A row of Table 1, and the folder of all runs -> the folder of the run that it scores."""
    name = f"table1/{row}"
    return plan.folder_of(runs, tables.row_of(name).shares or name, "shapes", 0)


def illustrate(runs: pathlib.Path, data_dir: str | None) -> bytes:
    """A folder of runs, with Table 1's at the scale of shapes -> the picture as a PNG."""
    folders = [folder_of(row, runs) for row in ROWS]
    if missing := [folder for folder in folders if not (folder / "eval.json").exists()]:
        raise FileNotFoundError(
            f"{missing[0]} has not been run: python -m experiments.run "
            f"{' '.join(f'table1:{row}' for row in ROWS)} --scale=shapes"
        )
    config = read_config(folders[0])
    examples = choose_examples(**config.eval_data, data_dir=data_dir)
    palette = full_palette(
        open_dataset(config.eval_data.dataset, data_dir).info.metadata["palette"]
    )
    titles, columns = (
        ["image", "label"],
        [
            [example["image"] for example in examples],
            [palette[example["label"]] for example in examples],
        ],
    )
    for folder in folders:
        title, predictions = predict_column(folder, examples)
        titles.append(title)
        columns.append([palette[class_ids] for class_ids in predictions])
    return draw(titles, columns)


def main() -> None:
    arguments = define_command_line().parse_args()
    with errors_in_a_line():
        write_bytes(arguments.output, illustrate(arguments.runs, arguments.data_dir))
        print(f"-> {arguments.output}")


if __name__ == "__main__":
    main()
