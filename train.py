r"""Trains one row of one table of the paper, and evaluates it.

    python train.py                                                a miniature; needs no download
    python train.py --config=experiments/table5.py:mg124_pooling   the paper's 77.21
    python train.py --config=experiments/table5.py:mg121@shapes    another row, in miniature
    python train.py --config.steps=300 --workdir=runs/short        any field of the config
    python train.py --config=experiments/protocols.py:stage2       stage 2, from stage 1's weights

It writes runs/NAME/: config.json, data.json (classes, and the hash of the data's audit), log.csv,
evaluations.csv, checkpoints/, best/, TensorBoard events, eval.json (all scores), eval.npz (pixel
counts of each image) and eval.html (scores, plots and images, to look at). Interrupted, it goes on
where it stopped when the same command is given again.
"""

import os

# Before TensorFlow is imported. It turns oneDNN off on CPUs without AVX-512, where it still makes a
# training step over three times as fast.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import contextlib
import math
import pathlib
import signal
import time
from collections.abc import Iterable

import keras
import ml_collections
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from absl import flags

from data.build import open_dataset
from data.pipeline import batch_ids, check_split, train_batches
from data.terminal import duration
from evaluation.evaluator import Evaluation
from evaluation.protocol import inference_of
from evaluation.scores import report
from experiments.command_line import define_config, run_program
from model.resnet import BACKBONES
from pretrained.initialize import initialise
from training.checkpoints import has_checkpoint, restore_newest
from training.checks import check_config, warn_of_few_images
from training.preemption import (
    INTERRUPTED,
    PREEMPTED,
    WORKER_GONE,
    Preempted,
    preempt,
    wait_for_chief,
)
from training.recorder import Records
from training.run_folder import open_run, write_data
from training.strategy import STRATEGIES, all_workers_have, is_chief, make_strategy
from training.train_step import TrainState, TrainStep, make_state, make_train_step

CONFIG = define_config("experiments/base.py:shapes")
flags.declare_key_flag("config")  # So that --help shows it.
WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder; runs/NAME if not given.")
DATA_DIR = flags.DEFINE_string("data_dir", None, "Shards; ~/tensorflow_datasets if not given.")
STRATEGY = flags.DEFINE_enum(
    "strategy", "auto", STRATEGIES, "Where to compute; auto takes what is there."
)
TPU = flags.DEFINE_string("tpu", None, "A TPU's name or address; `local` on its own machine.")
DETERMINISTIC = flags.DEFINE_bool(
    "deterministic", False, "Takes ops that give the same bits every time on a GPU too; slower."
)


def train(
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    data_dir: str | None = None,
    strategy: tf.distribute.Strategy | None = None,
) -> None:
    """Trains a config in workdir, from its newest checkpoint on, and evaluates it.

    strategy: one device if None. Where there are several workers each calls this; one of them, the
    chief, writes and evaluates. Raises ValueError, FileNotFoundError or FileExistsError, before
    workdir is touched, for a config that cannot be run there; KeyboardInterrupt after Ctrl-C, and
    Preempted after SIGTERM, when the steps are saved; one of WORKER_GONE where another one stops.
    """
    strategy = strategy or tf.distribute.get_strategy()
    builder, state, train_step, records = prepare(config, workdir, data_dir, strategy)
    batches = distributed_batches(builder, config, strategy, state.steps_taken())
    try:
        fit(train_step, state, batches, config.steps, records)
    except FloatingPointError as error:
        message = f"Step {error.args[0]} gave no numbers; the chief names its images."
        if records:
            message = not_a_number(builder, config, workdir, *error.args)
        raise ValueError(message) from error
    except (KeyboardInterrupt, Preempted):
        # A step is one call into TensorFlow, which an interrupt cannot cut in two.
        if records:
            with contextlib.suppress(FloatingPointError):
                records.save(state.steps_taken())
        raise
    if records:
        print(report(records.finish(state.steps_taken())))


def prepare(
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    data_dir: str | None,
    strategy: tf.distribute.Strategy,
) -> tuple[tfds.core.DatasetBuilder, TrainState, TrainStep, Records | None]:
    """What train takes -> its data, state and step, from workdir's newest checkpoint if it has one.

    And, for the chief, the records of a run that is there by then. Raises as train does.
    """
    chief = is_chief(strategy)
    check_config(config, num_replicas=strategy.num_replicas_in_sync)
    if chief:
        warn_of_few_images(config)
    keras.utils.set_random_seed(config.seed)
    builder = open_dataset(config.train_data.dataset, data_dir)
    check_split(builder, config.train_data.split)
    with strategy.scope():
        state = make_state(config)
        if config.init_from.path and not has_checkpoint(workdir):
            loaded = initialise(state.model, config)
            if chief:
                print(loaded, flush=True)
    train_step = make_train_step(
        state,
        strategy,
        upsample_logits=config.upsample_logits,
        rematerialize=config.rematerialize,
        jit_compile=config.jit_compile,
    )
    if chief:
        evaluation = Evaluation(config, **inference_of(config), data_dir=data_dir)
        evaluation.check_class_names(builder.info.metadata["class_names"])
        open_run(workdir, config)
        write_data(workdir, builder, config.train_data.split)
    checkpoint = state.checkpoint()
    if restore_newest(checkpoint, workdir) is not None:
        print(f"{workdir} goes on from step {state.steps_taken()}.", flush=True)
    first_step = state.steps_taken()
    if not all_workers_have(first_step, strategy):
        raise ValueError(
            f"{workdir} holds {first_step} steps here, and another number for another worker. It "
            "must be one folder that all of them see."
        )
    if not chief:
        return builder, state, train_step, None
    records = Records(workdir, config, evaluation, state.model, checkpoint, first_step)
    return builder, state, train_step, records


def distributed_batches(
    builder: tfds.core.DatasetBuilder,
    config: ml_collections.ConfigDict,
    strategy: tf.distribute.Strategy,
    first_step: int,
) -> Iterable[tuple[tf.Tensor, tf.Tensor]]:
    """The config's training batches, for each of the strategy's replicas its piece."""

    def pieces(context: tf.distribute.InputContext):
        return train_batches(
            builder,
            config.train_data.split,
            batch_size=config.train_data.batch_size,
            crop_size=config.train_data.crop_size,
            mean_pixel=BACKBONES[config.model.backbone].mean_pixel,
            seed=config.seed,
            first_step=first_step,
            hard_classes=config.train_data.hard_classes,
            hard_class_factor=config.train_data.hard_class_factor,
            worker=context.input_pipeline_id,
            num_workers=context.num_input_pipelines,
            num_replicas=context.num_replicas_in_sync,
        )

    return strategy.distribute_datasets_from_function(pieces)


def fit(
    train_step: TrainStep,
    state: TrainState,
    batches: Iterable[tuple[tf.Tensor, tf.Tensor]],
    steps: int,
    records: Records | None,
) -> None:
    """Takes the steps that are left.

    Raises FloatingPointError(step) where a step's loss, gradient or weights are no numbers. A
    gradient may be infinite where the loss is scaled: the optimizer leaves that step out.
    """
    scaled = isinstance(state.optimizer, keras.optimizers.LossScaleOptimizer)
    iterator = iter(batches)
    for step in range(state.steps_taken() + 1, steps + 1):
        learning_rate = float(state.optimizer.learning_rate)  # Of this step, not of the next.
        values = [float(value) for value in train_step(*next(iterator))]
        if not all(map(math.isfinite, values[:2] if scaled else values)):
            raise FloatingPointError(step)
        if records:
            records.note(step, learning_rate, values)


def not_a_number(
    builder: tfds.core.DatasetBuilder,
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    step: int,
) -> str:
    """A step that gave no numbers -> what to say; its batch is in a file of workdir then."""
    batches = distributed_batches(builder, config, tf.distribute.get_strategy(), step - 1)
    images, labels = next(iter(batches))
    ids = batch_ids(
        builder,
        config.train_data.split,
        batch_size=config.train_data.batch_size,
        seed=config.seed,
        step=step - 1,
        hard_classes=config.train_data.hard_classes,
        hard_class_factor=config.train_data.hard_class_factor,
    )
    file = workdir / f"not_a_number_step{step}.npz"
    np.savez_compressed(file, images=images, labels=labels, ids=ids)
    saved = tf.train.latest_checkpoint(workdir / "checkpoints")
    return (
        f"The loss of step {step}, its gradient or the weights it left are no numbers. Its batch "
        f"is in {file}: {', '.join(ids)}. The newest checkpoint is of before: "
        f"{saved or 'none yet'}; from there the same command takes the same steps again. A lower "
        "--config.learning_rate in another --workdir is the usual cure; if it is always these "
        "images, look at them."
    )


def main(_) -> None:
    config = CONFIG.value
    if config.model.atrous_rates == (None,):  # What a flag makes of None.
        config.model.atrous_rates = None
    workdir = pathlib.Path(WORKDIR.value or f"runs/{config.name}")
    strategy = make_strategy(STRATEGY.value, TPU.value)
    if DETERMINISTIC.value:
        tf.config.experimental.enable_op_determinism()
    signal.signal(signal.SIGTERM, preempt if is_chief(strategy) else wait_for_chief)
    start = time.monotonic()
    try:
        train(config, workdir, DATA_DIR.value, strategy)
    except (KeyboardInterrupt, Preempted) as stopped:
        saved = tf.train.latest_checkpoint(workdir / "checkpoints")
        print(
            f"\nStopped; saved {saved or 'nothing yet'}. The same command goes on from there.",
            flush=True,
        )
        # The input's threads still run; on the ordinary way out they crash.
        os._exit(PREEMPTED if isinstance(stopped, Preempted) else INTERRUPTED)
    except WORKER_GONE as error:
        if signal.alarm(0):  # SIGTERM came, and the chief has saved.
            os._exit(PREEMPTED)
        raise ConnectionError(
            "Another worker of this run stopped, or cannot be reached. If it says why, mend that; "
            "then give all of them their command again: they go on from the newest checkpoint."
        ) from error
    print(f"{workdir}: trained and evaluated in {duration(time.monotonic() - start)}")


if __name__ == "__main__":
    run_program(main)
