"""The cost of a row before it is run: parameters, multiply-adds, memory, and hours here.

    python -m experiments.cost table6
    python -m experiments.cost table1 table3:mg121_block7 --scale=shapes --calibrate

The first table has a line per row: trainable parameters in millions, and billions of multiply-adds
to predict an image of 513 x 513 as the row is evaluated, at its output_stride, scales and flip. It
counts convolutions as the authors' TensorFlow computed them, which pads the input of an atrous conv
to a multiple of its rate.

If the rows are of the network whose multiply-adds the authors published, the next table has theirs
beside ours for that network with a stem of three 3x3 convs, which theirs must have had. The rows'
stem of one 7x7 conv takes 7 B less for an image of that size, at one scale.

The last table has a line per training run of those rows. Memory is the estimated peak of a step
in GB, in addition to what is allocated before it (TensorFlow, weights, momentum):

- what is kept for the gradient: the output of every conv (batch norm's input, if that is not
  frozen), ReLU, padding, pooling, concatenation and dropout, at the batch size and crop; and 0.21
  of it for gradients and workspace;
- two copies of the logits at the labels' size, for the loss and its gradient;
- 1.5 times the weights, for their gradients; and 74 MB.

0.21, 1.5 and 74 MB are fitted to seventeen training runs on 2 cores (ResNet-101 to resnet_tiny and
MobileNetV2, output_stride 8 and 16, crops of 129 to 513, batches of 2 to 8, 0.15 to 4.1 GB), with
errors of at most 6%, but for two of 11% and 13%. Two measurements of one network differed by up to
13%. Other devices may differ.

The hours of one GPU: a training step is taken to be three predictions of its batch of crops, at 30%
of the GPU's peak at the run's precision. Taps of atrous convs on padding do not count there. No GPU
was measured. Memory and hours are of the whole batch on one GPU. With --calibrate each run takes 20
steps of random pixels here, in its own process, to estimate images per second and hours here.
Evaluations are not counted. A run of several tables counts in the first of them.
"""

import argparse
import functools
import math
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import NamedTuple

from data.terminal import errors_in_a_line, make_parser, parse_early, table, track
from experiments import base, tables
from experiments.gpus import DEFAULT_GPU, GPUS, SHARE


def define_command_line() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = make_parser("experiments.cost", __doc__)
    parser.add_argument("rows", nargs="+", help="table3, or table3:mg121_block7")
    parser.add_argument("--scale", choices=base.SCALES, default="paper")
    parser.add_argument(
        "--calibrate", action="store_true", help="run 20 steps of each training run"
    )
    parser.add_argument("--gpu", choices=GPUS, default=DEFAULT_GPU, help="whose hours to estimate")
    parser.add_argument("--steps_here", action="store_true", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    parse_early(define_command_line())  # Before TensorFlow is imported.

import keras
import ml_collections
import numpy as np
import tensorflow as tf
from keras import layers

from model.deeplabv3 import deeplabv3, without_upsampling
from model.layers import freeze_batch_norm
from training.optimizer import make_optimizer
from training.train_step import make_state, make_train_step

IMAGE_SIZE = 513  # That the published multiply-adds are for.
# Of the base model: output_stride, scales, flip, billions. Source: the DeepLabv3+ paper, Table 5.
PUBLISHED = (
    (32, (1.0,), False, 52.43),
    (16, (1.0,), False, 81.02),
    (8, (1.0,), False, 276.18),
    (8, base.MULTI_SCALE, False, 2435.37),
    (8, base.MULTI_SCALE, True, 4870.59),
)
WARM_UP_STEPS, TIMED_STEPS = 2, 20  # Of a calibration; the first ones compile.

CONVOLUTIONS = (layers.Conv2D, layers.DepthwiseConv2D)
# Layers whose outputs TensorFlow keeps to compute gradients, and where batch norm is trained its
# inputs, which are those of the convolutions.
KEPT_LAYERS = (
    layers.ReLU,
    layers.ZeroPadding2D,
    layers.MaxPooling2D,
    layers.Concatenate,
    layers.Dropout,
)
# Fitted to measurements: see above.
WORKSPACE_SHARE = 0.21  # Of the kept outputs.
WEIGHT_COPIES = 1.5
FIXED_BYTES = 74e6
STEP_SHARE = 0.9  # Of a GPU's memory; the rest is for TensorFlow, weights and momentum. Assumed.


def count_parameters(model: keras.Model) -> int:
    """A model -> the number of its trainable parameters."""
    return sum(math.prod(weight.shape) for weight in model.trainable_weights)


def multiply_adds(model: keras.Model, image_size: int) -> int:
    """A model and the side of a square image -> multiply-adds of the convolutions on it.

    As the authors' TensorFlow computed atrous convs: on features padded to a multiple of the rate.
    """
    convs = [layer for layer in model.layers if isinstance(layer, CONVOLUTIONS)]
    total = 0
    for conv, output in zip(convs, _outputs(model, convs, (1, image_size)), strict=True):
        rate = conv.dilation_rate[0]
        padded = [-(-side // rate) * rate for side in output.shape[1:3]]
        total += math.prod(padded) * math.prod(conv.kernel.shape)
    return total


def inference_multiply_adds(config: ml_collections.ConfigDict) -> int:
    """A config -> multiply-adds to predict an image of 513 x 513 as it is evaluated."""
    model = _model(**{**config.model, "output_stride": config.eval.output_stride})
    sizes = [1 + round(scale * (IMAGE_SIZE - 1)) for scale in config.eval.scales]
    return sum(multiply_adds(model, size) for size in sizes) * (2 if config.eval.flip else 1)


def useful_multiply_adds(config: ml_collections.ConfigDict, image_size: int) -> int:
    """A config and the side of a square image -> the multiply-adds needed to predict it.

    For atrous convolutions only the taps inside the features count, not those on padding.
    """
    model = _model(**{**config.model, "output_stride": config.eval.output_stride})
    convs = [layer for layer in model.layers if isinstance(layer, CONVOLUTIONS)]
    total = 0
    for scale in config.eval.scales:
        size = 1 + round(scale * (image_size - 1))
        total += _useful(zip(convs, _outputs(model, convs, (1, size)), strict=True))
    return total * (2 if config.eval.flip else 1)


def _useful(convs):
    """Convolutions with their outputs -> the multiply-adds of an image that are not on padding."""
    return sum(
        math.prod(map(_taps, output.shape[1:3], conv.kernel_size, conv.dilation_rate))
        * math.prod(conv.kernel.shape[2:])
        for conv, output in convs
    )


def _taps(length, kernel_size, rate):
    """A conv on a line -> positions times taps, without taps on padding if the rate is over 1."""
    reach = [abs(i - kernel_size // 2) * rate for i in range(kernel_size)]
    return sum(max(0, length - offset) for offset in reach) if rate > 1 else length * kernel_size


class TrainingCost(NamedTuple):
    """What a training run takes on one device, without gradient checkpointing."""

    step_bytes: int  # The estimated peak memory of a step.
    multiply_adds: int  # Of all steps, without taps on padding: three times the forward passes.


def training_cost(config: ml_collections.ConfigDict) -> TrainingCost:
    """A config -> what its training takes."""
    with keras.StatelessScope():
        model = deeplabv3(**config.model, precision=config.precision)
        if not config.upsample_logits:
            model = without_upsampling(model)
    kept_layers = KEPT_LAYERS if config.freeze_batch_norm else (*CONVOLUTIONS, *KEPT_LAYERS)
    chosen = [layer for layer in model.layers if isinstance(layer, (*CONVOLUTIONS, *KEPT_LAYERS))]
    batch_size = config.train_data.batch_size
    batch = (batch_size, config.train_data.crop_size)
    *outputs, logits = _outputs(model, [*chosen, model.layers[-1]], batch)
    pairs = list(zip(chosen, outputs, strict=True))
    kept = sum(_bytes(output) for layer, output in pairs if isinstance(layer, kept_layers))
    weights = 4 * count_parameters(model)
    memory = (1 + WORKSPACE_SHARE) * kept + 2 * _bytes(logits)
    memory += WEIGHT_COPIES * weights + FIXED_BYTES
    useful = _useful((layer, out) for layer, out in pairs if isinstance(layer, CONVOLUTIONS))
    return TrainingCost(round(memory), 3 * config.steps * batch_size * useful)


def _outputs(model, chosen, batch):
    """Layers of a model -> their outputs for (images, side), as KerasTensors: nothing is run."""
    images = keras.KerasTensor((*batch, batch[1], 3))
    return keras.Model(model.input, [layer.output for layer in chosen]).compute_output_spec(images)


def _bytes(tensor):
    return math.prod(tensor.shape) * tf.as_dtype(tensor.dtype).size


@functools.lru_cache(maxsize=8)  # Consecutive rows often have the same model.
def _model(**arguments):
    with keras.StatelessScope():  # Only shapes are needed, no weights.
        return deeplabv3(**arguments)


def images_per_second(run: str, scale: str) -> float:
    """A run's name -> its training speed here, measured over a few steps in its own process.

    Raises ValueError if that process fails; its error output is shown.
    """
    command = [sys.executable, "-m", "experiments.cost", run, "--scale", scale, "--steps_here"]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if result.returncode:
        raise ValueError(f"{run} could not be trained here (exit code {result.returncode}).")
    return float(result.stdout)


def measure_speed(config: ml_collections.ConfigDict) -> float:
    """A config -> images per second over TIMED_STEPS training steps of random pixels."""
    model = deeplabv3(**config.model, precision=config.precision)
    if config.freeze_batch_norm:
        freeze_batch_norm(model)
    optimizer = make_optimizer(config.learning_rate, steps=config.steps, precision=config.precision)
    train_step = make_train_step(
        make_state(model, optimizer),
        tf.distribute.get_strategy(),
        upsample_logits=config.upsample_logits,
        rematerialize=config.rematerialize,
        jit_compile=config.jit_compile,
    )
    rng = np.random.default_rng(0)
    batch_size, crop_size = config.train_data.batch_size, config.train_data.crop_size
    size = (batch_size, crop_size, crop_size)
    images = tf.constant(rng.integers(0, 256, (*size, 3), np.uint8))
    labels = tf.constant(rng.integers(0, config.model.num_classes, size, np.int32))
    for step in range(WARM_UP_STEPS + TIMED_STEPS):
        if step == WARM_UP_STEPS:
            start = time.perf_counter()
        float(train_step(images, labels)[0])
    return batch_size * TIMED_STEPS / (time.perf_counter() - start)


def rows_table(names: list[str], scale: str) -> str:
    """Rows -> a table of their training runs, parameters and multiply-adds."""
    lines = [["row", "trained as", "parameters, M", "multiply-adds, B"]]
    for name in track(names, "counting", len(names)):
        config = tables.config_of(name, scale)
        model = _model(**{**config.model, "output_stride": config.eval.output_stride})
        lines.append(
            [
                name,
                tables.row_of(name).unavailable or tables.row_of(name).shares or name,
                f"{count_parameters(model) / 1e6:.2f}",
                f"{inference_multiply_adds(config) / 1e9:.2f}",
            ]
        )
    return table(lines)


def published_table() -> str:
    """The published multiply-adds of the base model beside ours, with a stem of three 3x3 convs."""
    lines = [["published multiply-adds, B", "theirs", "ours, three 3x3 convs", "difference"]]
    config = base.get_config()
    config.model.backbone = "resnet101_beta"
    for output_stride, scales, flip, theirs in PUBLISHED:
        config.eval = {"output_stride": output_stride, "scales": scales, "flip": flip}
        ours = inference_multiply_adds(config) / 1e9
        name = f"output_stride {output_stride}"
        name += f", {len(scales)} scales" if len(scales) > 1 else ""
        name += ", flip" if flip else ""
        difference = f"{100 * (ours / theirs - 1):+.2f} %"
        lines.append([name, f"{theirs:.2f}", f"{ours:.2f}", difference])
    return table(lines)


def training_runs_table(
    runs: Mapping[str, str], scale: str, *, seeds: Mapping[str, int], gpu: str, calibrate: bool
) -> str:
    """Runs, with their tables -> a table of the cost to train each, and one of the tables' hours.

    Args:
      runs: as tables.training_runs gives them.
      scale: a key of base.SCALES.
      seeds: of each run, how many seeds are to be trained.
      gpu: a key of GPUS, whose hours are estimated.
      calibrate: whether to measure those here, too.
    """
    lines = [["training run", "seeds", "crop", "batch", "steps", "memory, GB", f"{gpu} hours"]]
    lines[0] += ["images/s here", "hours here"] * calibrate
    sums, too_large, total = {}, 0, 0.0
    for run in track(runs, "calibrating" if calibrate else "estimating", len(runs)):
        config = tables.config_of(run, scale)
        data, cost = config.train_data, training_cost(config)
        on_gpu = seeds[run] * hours_on(gpu, cost, config.precision)
        trainings, hours = sums.get(runs[run], (0, 0.0))
        sums[runs[run]] = trainings + seeds[run], hours + on_gpu
        too_large += cost.step_bytes > 1e9 * STEP_SHARE * GPUS[gpu].memory
        sizes = map(str, (seeds[run], data.crop_size, data.batch_size, config.steps))
        lines.append([run, *sizes, f"{cost.step_bytes / 1e9:.2f}", _hours_text(on_gpu)])
        if calibrate and cost.step_bytes > _total_memory():
            lines[-1] += ["too large", "-"]
        elif calibrate:
            rate = images_per_second(run, scale)
            here = seeds[run] * config.steps * data.batch_size / rate / 3600
            total += here
            lines[-1] += [f"{rate:.1f}", f"{here:.2f}"]
    sums["all"] = [sum(each) for each in zip(*sums.values(), strict=True)]
    by_table = [["table", "training runs", f"{gpu} hours"]]
    by_table += [[name, str(number), _hours_text(hours)] for name, (number, hours) in sums.items()]
    notes = [
        f"The hours assume {100 * SHARE:.0f} % of the peak of one {gpu}, and exclude evaluations."
    ]
    if too_large:
        notes.append(
            f"A step of {too_large} of these runs takes more than {100 * STEP_SHARE:.0f} % of "
            f"{GPUS[gpu].memory} GB: train it on several GPUs, which share the batch, or with "
            "--config.rematerialize=True."
        )
    notes += [f"Here: {total:.2f} hours in total."] * calibrate
    return "\n".join([table(lines), "", table(by_table), *notes])


def hours_on(gpu: str, cost: TrainingCost, precision: str) -> float:
    """A key of GPUS, and what a training at some precision takes -> the hours on one such GPU."""
    peak = GPUS[gpu].float32 if precision == "float32" else GPUS[gpu].half
    return 2 * cost.multiply_adds / (1e12 * peak * SHARE) / 3600


def _hours_text(hours):
    return f"{hours:.2f}" if hours >= 0.01 else "< 0.01"


def _total_memory():
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def main() -> None:
    arguments = define_command_line().parse_args()
    if arguments.steps_here:
        print(measure_speed(tables.config_of(arguments.rows[0], arguments.scale)))
        return
    with errors_in_a_line():
        rows = tables.find_rows(arguments.rows, arguments.scale)
        there = tables.without_missing(rows, arguments.scale)
        print(rows_table(there, arguments.scale))
        if arguments.scale == "paper" and "base" in [row.shares for row in rows.values()]:
            print(f"\n{published_table()}")
            print(
                "The stem of one 7x7 conv, which the rows above have, takes 7 B less at one scale."
            )
        runs = tables.training_runs(rows, arguments.scale)
        print()
        how = {"gpu": arguments.gpu, "calibrate": arguments.calibrate}
        once = dict.fromkeys(runs, 1)
        print(training_runs_table(runs, arguments.scale, seeds=once, **how))


if __name__ == "__main__":
    main()
