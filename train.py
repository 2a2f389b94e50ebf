r"""Trains one row of one table of the paper, and evaluates it.

    python train.py                                                a miniature; needs no download
    python train.py --config=experiments/table5.py:mg124_pooling   the paper's 77.21
    python train.py --config=experiments/table5.py:mg121@shapes    another row, in miniature
    python train.py --config.steps=300 --workdir=runs/short        any field of the config

It writes runs/NAME/: config.json, data.json (classes, and the hash of the data's audit), log.csv,
checkpoints/, TensorBoard events, eval.json (mIoU and the IoU of each class) and eval.png (image,
label and prediction). Interrupted, it goes on where it stopped when the same command is given
again.
"""

import os

# Before TensorFlow is imported. It turns oneDNN off on CPUs without AVX-512, where it still makes a
# training step over three times as fast.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import csv
import functools
import pathlib
import time
from collections.abc import Callable, Sequence

import keras
import ml_collections
import numpy as np
import tensorflow as tf
from absl import flags

from data.build import open_dataset
from data.classes import IGNORE_LABEL
from data.files import write_text
from data.pipeline import check_split, train_batches
from data.progress import Progress, duration
from experiments.evaluation import Evaluation, report
from experiments.runs import (
    build_model,
    checkpoint_manager,
    copy_weights,
    open_run,
    restore,
    training_checkpoint,
    write_data,
)
from experiments.terminal import define_config, run_program
from model.losses import pixel_cross_entropy
from model.resnet import BACKBONES

CONFIG = define_config("experiments/base.py:shapes")
flags.declare_key_flag("config")  # So that --help shows it.
WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder; runs/NAME if not given.")
DATA_DIR = flags.DEFINE_string("data_dir", None, "Shards; ~/tensorflow_datasets if not given.")

LR_POWER = 0.9  # Sec. 4.1.
MOMENTUM = 0.9  # The authors' code.
STEPS_BETWEEN_LOGS = 20
SECONDS_BETWEEN_CHECKPOINTS = 120
INTERRUPTED = 130  # Exit code of a run that was interrupted and can go on: the shell's for Ctrl-C.
LOG_FIELDS = ("step", "loss", "regularisation", "learning_rate", "images_per_second")


def make_optimizer(config: ml_collections.ConfigDict) -> keras.optimizers.Optimizer:
    """SGD with momentum; learning_rate * (1 - step / steps)^0.9 ("poly", Sec. 4.1)."""
    schedule = keras.optimizers.schedules.PolynomialDecay(
        config.learning_rate, config.steps, end_learning_rate=0.0, power=LR_POWER
    )
    return keras.optimizers.SGD(schedule, momentum=MOMENTUM, name="sgd")


def make_train_step(
    model: keras.Model, optimizer: keras.optimizers.Optimizer
) -> Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """A model and its optimizer -> a compiled (images, labels) -> (loss, regularisation).

    The loss is the mean over the batch's valid pixels, 0 where it has none.
    """

    @tf.function
    def train_step(images, labels):
        with tf.GradientTape() as tape:
            logits = model(images, training=True)
            total, valid = pixel_cross_entropy(labels, logits, ignore_label=IGNORE_LABEL)
            loss = tf.math.divide_no_nan(total, valid)
            regularisation = tf.add_n(model.losses)
            objective = loss + regularisation
        gradients = tape.gradient(objective, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        return loss, regularisation

    return train_step


class Log:
    """log.csv and TensorBoard's events, which go on where a run goes on."""

    def __init__(self, workdir: pathlib.Path, first_step: int):
        path = workdir / "log.csv"
        rows = list(csv.reader(path.open())) if path.exists() else []
        rows = [row for row in rows[1:] if len(row) == len(LOG_FIELDS)]  # The last may be cut.
        kept = [row for row in rows if int(row[0]) <= first_step]
        write_text(path, "".join(",".join(row) + "\n" for row in [LOG_FIELDS, *kept]))
        self._file = path.open("a")
        self._events = tf.summary.create_file_writer(str(workdir))

    def write(self, step: int, values: Sequence[float]) -> None:
        """Appends a step and the values of the other LOG_FIELDS to both."""
        self._file.write(",".join([str(step), *(f"{value:.6g}" for value in values)]) + "\n")
        self._file.flush()
        for name, value in zip(LOG_FIELDS[1:], values, strict=True):
            self.scalar(step, name, value)

    def scalar(self, step: int, name: str, value: float) -> None:
        """Adds one value to TensorBoard's events alone."""
        with self._events.as_default():
            tf.summary.scalar(name, value, step=step)
        self._events.flush()


def check_numbers(config: ml_collections.ConfigDict) -> None:
    """Raises ValueError for a number of a config that must be at least 1 and is not."""
    for group, field in (
        (config, "steps"),
        (config, "eval_every"),
        (config.train_data, "batch_size"),
        (config.train_data, "crop_size"),
    ):
        if group[field] < 1:
            raise ValueError(f"{field} is {group[field]}; it must be at least 1.")


def train(
    config: ml_collections.ConfigDict, workdir: pathlib.Path, data_dir: str | None = None
) -> None:
    """Trains a config in workdir, from its newest checkpoint on, and evaluates it.

    Raises ValueError, FileNotFoundError or FileExistsError, before workdir is touched, for a
    config that cannot be run there; KeyboardInterrupt after Ctrl-C, when the steps are saved.
    """
    check_numbers(config)
    keras.utils.set_random_seed(config.seed)
    model = build_model(config)
    optimizer = make_optimizer(config)
    optimizer.build(model.trainable_variables)
    builder = open_dataset(config.train_data.dataset, data_dir)
    check_split(builder, config.train_data.split)
    batches = functools.partial(
        train_batches,
        builder,
        config.train_data.split,
        batch_size=config.train_data.batch_size,
        crop_size=config.train_data.crop_size,
        mean_pixel=BACKBONES[config.model.backbone].mean_pixel,
        seed=config.seed,
    )
    evaluation = Evaluation(
        config,
        split=config.eval_data.split,
        output_stride=config.eval.output_stride,
        data_dir=data_dir,
    )
    open_run(workdir, config)
    write_data(workdir, builder, config.train_data.split)
    manager = checkpoint_manager(training_checkpoint(model, optimizer), workdir)
    if manager.latest_checkpoint:
        restore(manager.checkpoint, manager.latest_checkpoint)
        print(f"{workdir} goes on from step {int(optimizer.iterations)}.", flush=True)
    log = Log(workdir, int(optimizer.iterations))

    def evaluate_now():
        copy_weights(model, evaluation.model)
        result = evaluation.score(int(optimizer.iterations))
        log.scalar(result["step"], "miou", result["miou"])
        print(f"step {result['step']}: mIoU {100 * result['miou']:.2f} %", flush=True)
        return result

    try:
        batches = batches(first_step=int(optimizer.iterations))
        fit(model, optimizer, batches, config, log, manager, evaluate_now)
    except KeyboardInterrupt:
        # A step is one call into TensorFlow, which an interrupt cannot cut in two.
        manager.save(int(optimizer.iterations))
        raise
    result = evaluate_now()
    evaluation.write(workdir, "eval", result)
    print(report(result))


def fit(
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    batches: tf.data.Dataset,
    config: ml_collections.ConfigDict,
    log: Log,
    manager: tf.train.CheckpointManager,
    evaluate_now: Callable[[], object],
) -> None:
    """Takes the steps that are left, with logs, checkpoints and evaluations on the way."""
    step = int(optimizer.iterations)
    batch_size = config.train_data.batch_size
    train_step = make_train_step(model, optimizer)
    progress = Progress("step", config.steps)
    losses, logged_at, saved_at = [], time.monotonic(), time.monotonic()
    iterator = iter(batches)
    while step < config.steps:
        learning_rate = float(optimizer.learning_rate)  # Of this step; the next has a lower one.
        losses.append(train_step(*next(iterator)))
        step += 1
        if progress.due(step):
            details = f"loss {losses[-1][0]:.3f} | learning rate {learning_rate:.5f}"
            progress.show(step, f"{details} | {progress.rate(step) * batch_size:.1f} images/s")
        if step % STEPS_BETWEEN_LOGS == 0 or step == config.steps:
            loss, regularisation = np.mean(losses, axis=0)
            speed = batch_size * len(losses) / (time.monotonic() - logged_at)
            log.write(step, (loss, regularisation, learning_rate, speed))
            losses, logged_at = [], time.monotonic()
        evaluates = step % config.eval_every == 0 and step < config.steps
        if (
            evaluates
            or step == config.steps
            or time.monotonic() - saved_at > SECONDS_BETWEEN_CHECKPOINTS
        ):
            manager.save(step)
            saved_at = time.monotonic()
        if evaluates:
            evaluate_now()
            logged_at = time.monotonic()


def main(_) -> None:
    config = CONFIG.value
    workdir = pathlib.Path(WORKDIR.value or f"runs/{config.name}")
    start = time.monotonic()
    try:
        train(config, workdir, DATA_DIR.value)
    except KeyboardInterrupt:
        saved = tf.train.latest_checkpoint(workdir / "checkpoints")
        print(
            f"\nStopped; saved {saved or 'nothing yet'}. The same command goes on from there.",
            flush=True,
        )
        os._exit(INTERRUPTED)  # The input's threads still run; on the ordinary way out they crash.
    print(f"{workdir}: trained and evaluated in {duration(time.monotonic() - start)}")


if __name__ == "__main__":
    run_program(main)
