"""A run's log.csv, evaluations.csv, TensorBoard events, checkpoints and evaluations, as it goes."""

import csv
import io
import json
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from data.files import write_text
from data.terminal import Progress, percent
from evaluation.counts import Counts
from evaluation.evaluator import Evaluator
from training.checkpoints import Checkpoints, copy_weights

STEPS_BETWEEN_LOGS = 20
SECONDS_BETWEEN_CHECKPOINTS = 120
LOG_FIELDS = (
    "step",
    "loss",
    "regularization",
    "learning_rate",
    "gradient_norm",
    "images_per_second",
)


class StepTable:
    """A CSV file with a row for some of a run's steps; it resumes where the run resumes."""

    def __init__(self, path: pathlib.Path, fields: Sequence[str], first_step: int):
        rows = []
        if path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                rows = list(csv.reader(file))
        rows = [row for row in rows[1:] if len(row) == len(fields)]  # The last may be cut.
        kept = [row for row in rows if int(row[0]) <= first_step]
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([fields, *kept])
        write_text(path, text.getvalue())
        self._file = path.open("a", newline="", encoding="utf-8")
        self._writer = csv.writer(self._file, lineterminator="\n")
        self.steps = {int(row[0]) for row in kept}

    def write(self, step: int, values: Sequence[float]) -> None:
        """Appends a step and the values of the other fields."""
        self._writer.writerow([step, *(f"{value:.6g}" for value in values)])
        self._file.flush()
        self.steps.add(step)


def evaluation_fields(class_names: Sequence[str]) -> list[str]:
    """Class names -> the columns of evaluations.csv: step, mIoU, and the IoU of each class.

    A class that is named like another column is iou/NAME, as in TensorBoard.
    """
    fields = ["step", "miou"]
    for name in class_names:
        column = name
        while column in fields or (column != name and column in class_names):
            column = f"iou/{column}"
        fields.append(column)
    return fields


class Events:
    """What TensorBoard shows of a run."""

    def __init__(self, workdir: pathlib.Path):
        self._events = tf.summary.create_file_writer(str(workdir))

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Adds values by name."""
        with self._events.as_default(step):
            for name, value in values.items():
                tf.summary.scalar(name, value)
        self._events.flush()

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """Adds an image, [H, W, 3] uint8."""
        with self._events.as_default(step):
            tf.summary.image(name, image[None])
        self._events.flush()

    def text(self, name: str, text: str) -> None:
        """Adds a text in Markdown."""
        with self._events.as_default(0):
            tf.summary.text(name, text)
        self._events.flush()


class Recorder:
    """Writes what a run leaves behind, and says at the terminal how far it is.

    Args:
      workdir: the run's folder.
      checkpoints: where the model's weights are saved.
      evaluator: scores the model, with a copy of its weights.
      model: the one that is trained.
      steps: of the whole run.
      batch_size: of all devices together; for images per second.
      config: of the run, as plain data, for TensorBoard and eval.json.
      first_step: how many steps the run has taken by now.
    """

    def __init__(
        self,
        workdir: pathlib.Path,
        checkpoints: Checkpoints,
        evaluator: Evaluator,
        model: keras.Model,
        *,
        steps: int,
        batch_size: int,
        config: Mapping[str, Any],
        first_step: int,
    ):
        self.workdir, self.steps, self.batch_size, self.config = workdir, steps, batch_size, config
        self._checkpoints, self._evaluator, self._model = checkpoints, evaluator, model
        checkpoints.write_list()
        self._log = StepTable(workdir / "log.csv", LOG_FIELDS, first_step)
        fields = evaluation_fields(evaluator.class_names)
        self._evaluations = StepTable(workdir / "evaluations.csv", fields, first_step)
        self._events = Events(workdir)
        self._events.text("config", f"```\n{json.dumps(config, indent=2)}\n```")
        self._progress = Progress("step", steps)
        self._values, self._logged_at, self._saved_at = [], time.monotonic(), time.monotonic()

    def log(self, step: int, learning_rate: float, values: Sequence[float]) -> None:
        """Notes a step: its learning rate, and its loss, regularization and gradient norm.

        Shows the progress twice a second, and writes means to log.csv every STEPS_BETWEEN_LOGS.
        """
        self._values.append(values)
        if self._progress.due(step):
            details = f"loss {values[0]:.3f} | learning rate {learning_rate:.5f}"
            speed = self._progress.rate(step) * self.batch_size
            self._progress.show(step, f"{details} | {speed:.1f} images/s")
        if step % STEPS_BETWEEN_LOGS == 0 or step == self.steps:
            taken = np.array(self._values)
            loss, regularization, norm = taken[np.isfinite(taken).all(1)].mean(0)
            speed = self.batch_size * len(self._values) / (time.monotonic() - self._logged_at)
            values = (loss, regularization, learning_rate, norm, speed)
            self._log.write(step, values)
            self._events.scalars(step, dict(zip(LOG_FIELDS[1:], values, strict=True)))
            self._values, self._logged_at = [], time.monotonic()

    def save_is_due(self) -> bool:
        """Whether the last checkpoint is older than SECONDS_BETWEEN_CHECKPOINTS."""
        return time.monotonic() - self._saved_at > SECONDS_BETWEEN_CHECKPOINTS

    def save(self, step: int) -> None:
        """Writes a checkpoint; the last ones are kept.

        Raises FloatingPointError(step, what was non-finite) in place of saving weights that are
        non-finite, or so large that their squares are.
        """
        if not np.isfinite(regularization := float(tf.add_n(self._model.losses))):
            raise FloatingPointError(step, f"regularization after it {regularization}")
        self._checkpoints.save(step)
        self._saved_at = time.monotonic()

    def evaluate(self, step: int, *, boundaries: bool = False) -> tuple[dict[str, Any], Counts]:
        """Scores the model as it is -> what Evaluator.score returns; keeps the best weights.

        The devices wait for it, so pixels near boundaries are left to the last evaluation.
        """
        copy_weights(self._model, self._evaluator.model)
        result, counts = self._evaluator.score(step, self.config, boundaries=boundaries)
        iou = {f"iou/{name}": value for name, value in result["iou_per_class"].items()}
        scores = {"miou": result["miou"], **iou}
        self._events.scalars(step, {name: x for name, x in scores.items() if x is not None})
        for name, image in self._evaluator.sample_images(counts.ids).items():
            self._events.image(step, f"{self._evaluator.split}/{name}", image)
        print(f"step {step}: mIoU {percent(result['miou'])} %", flush=True)
        chosen_on = f"{self._evaluator.dataset}, {self._evaluator.split}"
        self._checkpoints.save_best(step, result["miou"], chosen_on)
        if step not in self._evaluations.steps:
            self._evaluations.write(step, [np.nan if x is None else x for x in scores.values()])
        self._logged_at = time.monotonic()  # The evaluation is not part of the steps' speed.
        return result, counts

    def has_evaluated(self, step: int) -> bool:
        """Whether evaluations.csv has the step."""
        return step in self._evaluations.steps

    def finish(self, step: int) -> dict[str, Any]:
        """The last evaluation, written as eval.json, eval.npz and eval.html -> its scores."""
        result, counts = self.evaluate(step, boundaries=True)
        self._evaluator.write(self.workdir, "eval", result, counts)
        return result
