"""What a run leaves behind as it goes: log.csv, TensorBoard's events, checkpoints, evaluations."""

import csv
import json
import pathlib
import time
from collections.abc import Sequence

import keras
import ml_collections
import numpy as np
import tensorflow as tf

from data.files import write_json, write_text
from data.terminal import Progress
from evaluation.evaluator import Evaluation
from training.checkpoints import checkpoint_manager, copy_weights, weights_by_name

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
    """A CSV file with a row for some of a run's steps, which goes on where the run goes on."""

    def __init__(self, path: pathlib.Path, fields: Sequence[str], first_step: int):
        rows = list(csv.reader(path.open())) if path.exists() else []
        rows = [row for row in rows[1:] if len(row) == len(fields)]  # The last may be cut.
        kept = [row for row in rows if int(row[0]) <= first_step]
        write_text(path, "".join(",".join(row) + "\n" for row in [fields, *kept]))
        self._file = path.open("a")
        self.steps = {int(row[0]) for row in kept}

    def write(self, step: int, values: Sequence[float]) -> None:
        """Appends a step and the values of the other fields."""
        self._file.write(",".join([str(step), *(f"{value:.6g}" for value in values)]) + "\n")
        self._file.flush()
        self.steps.add(step)


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

    def picture(self, step: int, name: str, picture: np.ndarray) -> None:
        """Adds a picture, [H, W, 3] uint8."""
        with self._events.as_default(step):
            tf.summary.image(name, picture[None])
        self._events.flush()

    def text(self, name: str, text: str) -> None:
        """Adds a text in Markdown."""
        with self._events.as_default(0):
            tf.summary.text(name, text)
        self._events.flush()


class Records:
    """Takes note of each step, and saves and evaluates when it is time to."""

    def __init__(
        self,
        workdir: pathlib.Path,
        config: ml_collections.ConfigDict,
        evaluation: Evaluation,
        model: keras.Model,
        checkpoint: tf.train.Checkpoint,
        first_step: int,
    ):
        self.workdir, self.config = workdir, config
        self._evaluation, self._model = evaluation, model
        self._checkpoints = checkpoint_manager(checkpoint, workdir)
        self._log = StepTable(workdir / "log.csv", LOG_FIELDS, first_step)
        fields = ("step", "miou", *evaluation.class_names)
        self._evaluations = StepTable(workdir / "evaluations.csv", fields, first_step)
        self._events = Events(workdir)
        self._events.text("config", f"```\n{config.to_json(indent=2)}\n```")
        self._progress = Progress("step", config.steps)
        self._values, self._logged_at, self._saved_at = [], time.monotonic(), time.monotonic()
        if self._evaluates(first_step) and first_step not in self._evaluations.steps:
            self.evaluate(first_step)  # The run was stopped between saving it and this.

    def note(self, step: int, learning_rate: float, values: Sequence[float]) -> None:
        """A step that was taken: its learning rate, and its loss, regularization, gradient norm."""
        self._values.append(values)
        batch_size = self.config.train_data.batch_size
        if self._progress.due(step):
            details = f"loss {values[0]:.3f} | learning rate {learning_rate:.5f}"
            speed = self._progress.rate(step) * batch_size
            self._progress.show(step, f"{details} | {speed:.1f} images/s")
        last = step == self.config.steps
        if step % STEPS_BETWEEN_LOGS == 0 or last:
            taken = np.array(self._values)
            loss, regularization, norm = taken[np.isfinite(taken).all(1)].mean(0)
            speed = batch_size * len(self._values) / (time.monotonic() - self._logged_at)
            values = (loss, regularization, learning_rate, norm, speed)
            self._log.write(step, values)
            self._events.scalars(step, dict(zip(LOG_FIELDS[1:], values, strict=True)))
            self._values, self._logged_at = [], time.monotonic()
        evaluates = self._evaluates(step)
        if evaluates or last or time.monotonic() - self._saved_at > SECONDS_BETWEEN_CHECKPOINTS:
            self.save(step)
        if evaluates:
            self.evaluate(step)
            self._logged_at = time.monotonic()

    def _evaluates(self, step):
        """Whether it is time to; after the last step finish() does."""
        return 0 < step < self.config.steps and step % self.config.eval_every == 0

    def save(self, step: int) -> None:
        """Writes a checkpoint; the last three are kept.

        Raises FloatingPointError(step) in place of saving weights that are no numbers, or so large
        that their squares are none.
        """
        if not np.isfinite(float(tf.add_n(self._model.losses))):
            raise FloatingPointError(step)
        self._checkpoints.save(step)
        self._saved_at = time.monotonic()

    def evaluate(self, step: int) -> dict:
        """Scores the model as it is -> what eval.json holds; keeps the best one's weights apart."""
        copy_weights(self._model, self._evaluation.model)
        result = self._evaluation.score(step)
        iou = {f"iou/{name}": value for name, value in result["iou_per_class"].items()}
        scores = {"miou": result["miou"], **iou}
        self._events.scalars(step, {name: x for name, x in scores.items() if x is not None})
        for name, picture in self._evaluation.pictures().items():
            self._events.picture(step, f"{self.config.eval_data.split}/{name}", picture)
        print(f"step {step}: mIoU {100 * result['miou']:.2f} %", flush=True)
        self._keep_if_best(result)
        if step not in self._evaluations.steps:
            self._evaluations.write(step, [np.nan if x is None else x for x in scores.values()])
        return result

    def _keep_if_best(self, result):
        """Keeps the weights with the highest mIoU so far, chosen on the split that scored them."""
        file = self.workdir / "best.json"
        if file.exists() and json.loads(file.read_text())["miou"] >= result["miou"]:
            return
        folder = self.workdir / "best"
        weights = tf.train.Checkpoint(model=weights_by_name(self._model))
        tf.train.CheckpointManager(weights, folder, max_to_keep=1).save(result["step"])
        chosen_on = f"{self.config.eval_data.dataset}, {self.config.eval_data.split}"
        note = {"step": result["step"], "miou": result["miou"], "chosen_on": chosen_on}
        write_json(file, note)

    def finish(self, step: int) -> dict:
        """The last evaluation, written as eval.json, eval.npz and eval.html."""
        result = self.evaluate(step)
        self._evaluation.write(self.workdir, "eval", result)
        return result
