r"""Trains a network, one row of a table of the paper or your own data, and evaluates it.

    python train.py                                                a miniature; needs no download
    python train.py --config=experiments/table5.py:mg124_pooling   the paper's 77.21
    python train.py --config=experiments/table5.py:mg121@shapes    another row, in miniature
    python train.py --config.steps=300 --workdir=runs/short        any field of the config
    python train.py --data=folder/pets                             your own data, once it is built
    python train.py --config=experiments/protocols.py:stage2       stage 2, from stage 1's weights

It writes runs/NAME/: config.json, data.json (classes, and the hash of the data's audit), log.csv,
evaluations.csv, checkpoints/, best/, TensorBoard events, eval.json (all scores), eval.npz (pixel
counts of each image) and eval.html (scores, plots and images, to look at). The same command again
resumes an interrupted run where it stopped.
"""

import contextlib
import math
import os
import pathlib
import signal
import time
from collections.abc import Iterable, Mapping
from typing import Any

from absl import flags

from experiments.base import SCALES
from experiments.command_line import (
    config_overrides,
    define_config,
    define_data_dir,
    parse_flags,
    run_program,
)
from experiments.own_data import (
    MOBILE_SCALE,
    RANDOM_SCALE,
    default_run_name,
    default_scale,
    describe_start,
    own_data_config,
)

STRATEGIES = ("auto", "one_device", "mirrored", "multi_worker", "tpu")
CONFIG = define_config("experiments/base.py:shapes")
flags.declare_key_flag("config")  # So that --help shows it.
DATA = flags.DEFINE_string(
    "data",
    None,
    "Data set to train on and evaluate, such as folder/pets, in place of --config.",
)
SCALE = flags.DEFINE_enum(
    "scale",
    None,
    SCALES,
    f"With --data: size of the network. Default: {MOBILE_SCALE} if its ImageNet weights are on "
    f"this machine, else {RANDOM_SCALE}.",
)
WORKDIR = flags.DEFINE_string(
    "workdir", None, "Run folder. Default: runs/ and the config's name, e.g. runs/shapes/base."
)
DATA_DIR = define_data_dir()
STRATEGY = flags.DEFINE_enum(
    "strategy", "auto", STRATEGIES, "Where to compute; auto uses every device it finds."
)
TPU = flags.DEFINE_string("tpu", None, "TPU name or address; `local` on the TPU VM itself.")
DETERMINISTIC = flags.DEFINE_bool(
    "deterministic", False, "Use deterministic ops (bitwise reproducible on GPUs); slower."
)
if __name__ == "__main__":
    ARGUMENTS = parse_flags()  # Before TensorFlow is imported.

import keras
import ml_collections
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from data.build import open_dataset
from data.pipeline import batch_ids, check_split, train_batches
from data.terminal import duration, percent
from evaluation.evaluator import Evaluator
from evaluation.scores import report
from experiments.base import as_data, inference_of
from model.backbones import BACKBONES
from model.deeplabv3 import deeplabv3
from model.layers import freeze_batch_norm
from pretrained.calibrate_batch_norm import calibrate_batch_norm
from pretrained.initialize import initialize
from training.checkpoints import Checkpoints, read_best
from training.checks import check_training, warn_of_small_batch
from training.optimizer import make_optimizer
from training.preemption import (
    INTERRUPTED,
    PREEMPTED,
    WORKER_LOST,
    Preempted,
    postponed_signals,
    preempt,
    wait_for_chief,
)
from training.recorder import Recorder
from training.run_folder import open_run, read_finished, write_data
from training.strategy import all_workers_have, describe_devices, is_chief, make_strategy
from training.train_step import TrainState, TrainStep, make_state, make_train_step


def train(
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    data_dir: str | None = None,
    strategy: tf.distribute.Strategy | None = None,
) -> None:
    """Trains a config in workdir, from its newest checkpoint on, and evaluates the result.

    Args:
      config: what to train, as experiments/ has it.
      workdir: the run's folder.
      data_dir: where the shards are; TFDS's own default if None.
      strategy: one device if None. Where there are several workers each of them calls this; one,
        the chief, writes and evaluates.

    Raises:
      ValueError, FileNotFoundError, FileExistsError: the config cannot be run there. workdir has
        not been touched.
      KeyboardInterrupt, Preempted: after Ctrl-C and SIGTERM, once the steps are saved.
      one of WORKER_LOST: another worker stopped.
    """
    strategy = strategy or tf.distribute.get_strategy()
    check(config, strategy)
    builder = open_dataset(config.train_data.dataset, data_dir)
    check_split(builder, config.train_data.split)
    keras.utils.set_random_seed(config.seed)  # After a build of the data set, which draws numbers.
    state, train_step = build(config, strategy)
    checkpoints = Checkpoints(workdir, state.model, state.checkpoint())
    if config.init_from.path and not checkpoints.exist():
        load_initial_weights(state.model, config, builder, strategy)
    evaluator = open_folder(config, workdir, builder, data_dir) if is_chief(strategy) else None
    first_step = resume(workdir, checkpoints, state, strategy)
    recorder = None
    if evaluator:
        recorder = Recorder(
            workdir,
            checkpoints,
            evaluator,
            state.model,
            steps=config.steps,
            batch_size=config.train_data.batch_size,
            config=as_data(config),
            first_step=first_step,
        )
        if evaluation_is_due(first_step, config) and not recorder.has_evaluated(first_step):
            recorder.evaluate(first_step)  # The run stopped between saving it and this.
    batches = distributed_batches(builder, config, strategy, first_step)
    try:
        fit(config, train_step, state, batches, recorder)
    except FloatingPointError as error:
        message = f"Non-finite values at step {error.args[0]}; the chief names its images."
        if recorder:
            message = save_nonfinite_step(builder, config, workdir, *error.args)
        raise ValueError(message) from error
    except (KeyboardInterrupt, Preempted):
        if recorder:
            with contextlib.suppress(FloatingPointError):
                recorder.save(state.steps_taken())
        raise
    if recorder:
        result = recorder.finish(state.steps_taken())
        print(f"{report(result)}\n{last_and_best(workdir, result)}", flush=True)


def last_and_best(workdir: pathlib.Path, result: Mapping[str, Any]) -> str:
    """A finished run and the content of its eval.json -> a line on its last and best weights."""
    last = f"Last: step {result['step']}, mIoU {percent(result['miou'])}."
    if best := read_best(workdir):
        last += f" Best: step {best['step']}, mIoU {percent(best['miou'])}; eval.py, export.py and "
        last += "predict.py use it with --checkpoint=best."
    return last


def fit(
    config: ml_collections.ConfigDict,
    train_step: TrainStep,
    state: TrainState,
    batches: Iterable[tuple[tf.Tensor, tf.Tensor]],
    recorder: Recorder | None,
) -> None:
    """Takes the steps that remain; where there is a recorder, logs, saves and evaluates them.

    Raises FloatingPointError(step, what was non-finite) where a step's loss, gradient or weights
    are. A gradient may be infinite where the loss is scaled: the optimizer skips that step.
    """
    scaled = isinstance(state.optimizer, keras.optimizers.LossScaleOptimizer)
    iterator = iter(batches)
    for step in range(state.steps_taken() + 1, config.steps + 1):
        with postponed_signals():
            learning_rate = float(state.optimizer.learning_rate)  # Of this step, not of the next.
            values = [float(value) for value in train_step(*next(iterator))]
        if not all(map(math.isfinite, values[:2] if scaled else values)):
            names = ("loss", "regularization", "gradient norm")
            told = (f"{name} {value:.4g}" for name, value in zip(names, values, strict=True))
            raise FloatingPointError(step, ", ".join(told))
        if recorder is None:
            continue
        recorder.log(step, learning_rate, values)
        if evaluation_is_due(step, config) or step == config.steps or recorder.save_is_due():
            recorder.save(step)
        if evaluation_is_due(step, config):
            recorder.evaluate(step)


def evaluation_is_due(step: int, config: ml_collections.ConfigDict) -> bool:
    """Whether a step is followed by an evaluation. After the last one, finish() evaluates."""
    return 0 < step < config.steps and step % config.eval_every == 0


def check(config: ml_collections.ConfigDict, strategy: tf.distribute.Strategy) -> None:
    """Raises ValueError for a value of the config that is not possible; warns of a small batch."""
    check_training(
        steps=config.steps,
        eval_every=config.eval_every,
        learning_rate=config.learning_rate,
        backbone_learning_rate_factor=config.backbone_learning_rate_factor,
        batch_size=config.train_data.batch_size,
        crop_size=config.train_data.crop_size,
        hard_class_factor=config.train_data.hard_class_factor,
        freeze_batch_norm=config.freeze_batch_norm,
        has_initial_weights=bool(config.init_from.path),
        num_replicas=strategy.num_replicas_in_sync,
        num_classes=config.model.num_classes,
    )
    if is_chief(strategy) and not config.freeze_batch_norm:
        warn_of_small_batch(config.train_data.batch_size)


def build(
    config: ml_collections.ConfigDict, strategy: tf.distribute.Strategy
) -> tuple[TrainState, TrainStep]:
    """A config -> the state at step 0, with random weights, and one compiled step."""
    with strategy.scope():
        model = deeplabv3(**config.model, precision=config.precision)
        if config.freeze_batch_norm:
            freeze_batch_norm(model)
        optimizer = make_optimizer(
            config.learning_rate, steps=config.steps, precision=config.precision
        )
        state = make_state(model, optimizer)
    train_step = make_train_step(
        state,
        strategy,
        backbone_learning_rate_factor=config.backbone_learning_rate_factor,
        upsample_logits=config.upsample_logits,
        rematerialize=config.rematerialize,
        jit_compile=config.jit_compile,
    )
    return state, train_step


def load_initial_weights(
    model: keras.Model,
    config: ml_collections.ConfigDict,
    builder: tfds.core.DatasetBuilder,
    strategy: tf.distribute.Strategy,
) -> None:
    """Fills a model with the weights that its config starts from.

    Batch norm that they lack, and that is to be trained, is calibrated on the training images.
    """
    with strategy.scope():
        table, folded = initialize(model, dict(config.model), **config.init_from)
        if is_chief(strategy):
            print(table, flush=True)
    if folded and not config.freeze_batch_norm:
        batches = distributed_batches(builder, config, strategy, first_step=0)
        batch_size = config.train_data.batch_size
        calibrate_batch_norm(model, folded, batches, batch_size=batch_size, strategy=strategy)


def open_folder(
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    builder: tfds.core.DatasetBuilder,
    data_dir: str | None,
) -> Evaluator:
    """Creates the run's folder, or checks that it fits -> the evaluator of the run.

    The evaluator comes first: a run that cannot be scored leaves no folder.
    """
    model = deeplabv3(**{**config.model, "output_stride": config.eval.output_stride})
    evaluator = Evaluator(
        model,
        dataset=config.eval_data.dataset,
        **inference_of(config),
        data_dir=data_dir,
    )
    evaluator.check_class_names(builder.info.metadata["class_names"])
    open_run(workdir, as_data(config))
    write_data(workdir, builder, config.train_data.split)
    return evaluator


def resume(
    workdir: pathlib.Path,
    checkpoints: Checkpoints,
    state: TrainState,
    strategy: tf.distribute.Strategy,
) -> int:
    """Fills the state from the newest checkpoint, if there is one -> the steps taken by now.

    Raises ValueError where the workers do not see the same checkpoint.
    """
    if checkpoints.restore() is not None:
        print(f"Resuming {workdir} from step {state.steps_taken()}.", flush=True)
    check_one_folder(workdir, state.steps_taken(), strategy)
    return state.steps_taken()


def check_one_folder(workdir: pathlib.Path, steps: int, strategy: tf.distribute.Strategy) -> None:
    """Raises ValueError where another worker finds another number of steps in workdir."""
    if not all_workers_have(steps, strategy):
        raise ValueError(
            f"{workdir} holds {steps} steps here, and another number for another worker. It must "
            "be one folder that all of them see."
        )


def distributed_batches(
    builder: tfds.core.DatasetBuilder,
    config: ml_collections.ConfigDict,
    strategy: tf.distribute.Strategy,
    first_step: int,
) -> Iterable[tuple[tf.Tensor, tf.Tensor]]:
    """The config's training batches from first_step on; each replica gets its piece of them."""

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


def save_nonfinite_step(
    builder: tfds.core.DatasetBuilder,
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    step: int,
    nonfinite: str,
) -> str:
    """Saves the batch of a step that gave non-finite values -> the message to the user.

    nonfinite: what fit or the recorder said of them.
    """
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
    file = workdir / f"nonfinite_step{step}.npz"
    np.savez_compressed(file, images=images, labels=labels, ids=ids)
    saved = tf.train.latest_checkpoint(workdir / "checkpoints")
    return (
        f"Non-finite loss, gradient or weights at step {step} ({nonfinite}). Its batch is in "
        f"{file}: {', '.join(ids)}. The newest checkpoint is of an earlier step: "
        f"{saved or 'none yet'}; the same command resumes from it and takes the same steps again. "
        "Usually a lower --config.learning_rate in another --workdir helps; if it is always these "
        "images, look at them."
    )


def config_from_flags() -> tuple[ml_collections.ConfigDict, str]:
    """--config, or the config that --data and --scale make -> it, and a text on how that starts."""
    config, start = CONFIG.value, ""
    if DATA.value:
        if flags.FLAGS["config"].present:
            raise ValueError("--data makes a config of its own: leave --config=FILE out.")
        builder = open_dataset(DATA.value, DATA_DIR.value)
        splits = {split: info.num_examples for split, info in builder.info.splits.items()}
        workdir = pathlib.Path(WORKDIR.value or f"runs/{default_run_name(DATA.value)}")
        overrides = config_overrides()
        config = own_data_config(
            DATA.value,
            splits,
            len(builder.info.metadata["class_names"]),
            scale=SCALE.value or default_scale(workdir, overrides),
            overrides=overrides,
        )
        start = "\n" + describe_start(config, splits[config.train_data.split])
    elif SCALE.value:
        raise ValueError(f"--scale goes with --data; a row has it as --config=ROW@{SCALE.value}.")
    if config.model.atrous_rates == (None,):  # What a flag makes of None.
        config.model.atrous_rates = None
    return config, start


def main(_) -> None:
    strategy = make_strategy(STRATEGY.value, TPU.value)
    config, start = config_from_flags()
    workdir = pathlib.Path(WORKDIR.value or f"runs/{config.name}")
    if DETERMINISTIC.value:
        tf.config.experimental.enable_op_determinism()
    signal.signal(signal.SIGTERM, preempt if is_chief(strategy) else wait_for_chief)
    result = read_finished(workdir, as_data(config))
    # Or those to which it is not finished would wait for the others for ever.
    check_one_folder(workdir, result["step"] if result else 0, strategy)
    if result:
        if is_chief(strategy):
            print(f"{workdir} is finished. {last_and_best(workdir, result)}")
        return
    if is_chief(strategy):
        print(f"{workdir}: {describe_devices(strategy)}, {config.precision}{start}", flush=True)
    began = time.monotonic()
    try:
        train(config, workdir, DATA_DIR.value, strategy)
    except (KeyboardInterrupt, Preempted) as stopped:
        saved = tf.train.latest_checkpoint(workdir / "checkpoints")
        print(
            f"\nInterrupted; saved {saved or 'nothing yet'}. Run the same command again to resume.",
            flush=True,
        )
        # The input's threads still run; on the ordinary way out they crash.
        os._exit(PREEMPTED if isinstance(stopped, Preempted) else INTERRUPTED)
    except WORKER_LOST as error:
        if signal.alarm(0):  # SIGTERM came, and the chief has saved.
            os._exit(PREEMPTED)
        raise ConnectionError(
            "Lost another worker. Fix the error it reports, then restart all workers; they resume "
            "from the latest checkpoint."
        ) from error
    print(f"{workdir}: {duration(time.monotonic() - began)}")


if __name__ == "__main__":
    run_program(main, ARGUMENTS)
