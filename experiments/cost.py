"""What a row costs, before it is spent: parameters, multiply-adds, memory, and hours here.

    python -m experiments.cost table6
    python -m experiments.cost table1 table3:mg121_block7 --scale=shapes --calibrate

The first table has a line for each row: trainable parameters in millions, and billions of
multiply-adds to predict an image of 513 x 513 as the row is evaluated, at its output_stride, scales
and flip. They are those of convolutions, counted as the authors' TensorFlow computed them: the
features that an atrous conv looks at are filled up to a multiple of its rate. The published
81.02 B and 276.18 B (output_stride 16 and 8) are met to 0.3 % with a stem of three 3x3 convs; the
rows' stem of one 7x7 takes 7 B less.

The second table has a line for each training that those rows take. Memory is what a step takes at
its peak, in GB, beyond what was there before it (TensorFlow, weights, momentum):

- what is kept for the gradient: the output of every conv (batch norm's input), ReLU, padding,
  pooling, concatenation and dropout, at the batch size and crop; and a third of it for gradients
  and workspace;
- two of the logits at the labels' size, for the loss and its gradient;
- 2.2 times the weights, for their gradients and weight decay; and 60 MB.

The third, 2.2 and 60 MB are fitted to fourteen trainings on 2 cores (ResNet-101 to resnet_tiny,
output_stride 8 and 16, crops of 129 to 513, batches of 2 to 8, 0.15 to 4.4 GB), which they meet to
9 %. Two measurements of one network were up to 13 % apart.
Other devices may differ.

With --calibrate each training takes 20 steps of random pixels here, in a process of its own, whence
images per second and hours; evaluations are not in the hours.
"""

import argparse
import functools
import math
import os
import subprocess
import sys
import time

# Before TensorFlow is imported; train.py says why.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import ml_collections
import numpy as np
import tensorflow as tf
from keras import layers

from data.terminal import table, track
from experiments import base, tables
from model.deeplabv3 import build_model, deeplabv3, without_upsampling
from training.train_step import make_state, make_train_step

IMAGE_SIZE = 513  # Of the published multiply-adds.
WARM_UP, STEPS = 2, 20  # Of a calibration; the first ones compile.

# Whose outputs TensorFlow keeps for the gradient of what follows, or for their own.
KEPT = (
    layers.Conv2D,
    layers.ReLU,
    layers.ZeroPadding2D,
    layers.MaxPooling2D,
    layers.Concatenate,
    layers.Dropout,
)
# Fitted; above is to what.
BESIDES_KEPT = 0.32
COPIES_OF_WEIGHTS = 2.2
FIXED_BYTES = 60e6


def parameters(model: keras.Model) -> int:
    """A model -> its trainable parameters."""
    return sum(math.prod(weight.shape) for weight in model.trainable_weights)


def multiply_adds(model: keras.Model, image_size: int) -> int:
    """A model, and the side of a square image -> multiply-adds of the convolutions on it.

    As the authors' TensorFlow computed an atrous conv: on features filled up to a multiple of its
    rate.
    """
    convs = [layer for layer in model.layers if isinstance(layer, layers.Conv2D)]
    total = 0
    for conv, output in zip(convs, _outputs(model, convs, (1, image_size)), strict=True):
        rate = conv.dilation_rate[0]
        filled = [-(-side // rate) * rate for side in output.shape[1:3]]
        total += math.prod(filled) * math.prod(conv.kernel.shape)
    return total


def inference_multiply_adds(config: ml_collections.ConfigDict) -> int:
    """A config -> multiply-adds to predict an image of 513 x 513 as it is evaluated."""
    model = _model(**{**config.model, "output_stride": config.eval.output_stride})
    sizes = [1 + round(scale * (IMAGE_SIZE - 1)) for scale in config.eval.scales]
    return sum(multiply_adds(model, size) for size in sizes) * (2 if config.eval.flip else 1)


def useful_multiply_adds(config: ml_collections.ConfigDict, image_size: int) -> int:
    """A config, and the side of a square image -> multiply-adds that predicting it needs.

    Of atrous convolutions only the taps that fall on the features, and not on padding.
    """
    model = _model(**{**config.model, "output_stride": config.eval.output_stride})
    convs = [layer for layer in model.layers if isinstance(layer, layers.Conv2D)]
    total = 0
    for scale in config.eval.scales:
        size = 1 + round(scale * (image_size - 1))
        for conv, output in zip(convs, _outputs(model, convs, (1, size)), strict=True):
            inside = math.prod(map(_taps, output.shape[1:3], conv.kernel_size, conv.dilation_rate))
            total += inside * math.prod(conv.kernel.shape[2:])
    return total * (2 if config.eval.flip else 1)


def _taps(length, kernel_size, rate):
    """A conv on a line -> positions times taps, less those on padding where there is a rate."""
    reach = [abs(i - kernel_size // 2) * rate for i in range(kernel_size)]
    return sum(max(0, length - offset) for offset in reach) if rate > 1 else length * kernel_size


def step_bytes(config: ml_collections.ConfigDict) -> int:
    """A config -> the memory that a training step takes at its peak, an estimate, in bytes.

    Of one device, with nothing rematerialised.
    """
    with keras.StatelessScope():
        model = build_model(config, precision=config.precision)
        if not config.upsample_logits:
            model = without_upsampling(model)
    kept = [layer for layer in model.layers if isinstance(layer, KEPT)]
    batch = (config.train_data.batch_size, config.train_data.crop_size)
    *outputs, logits = map(_bytes, _outputs(model, [*kept, model.layers[-1]], batch))
    weights = 4 * parameters(model)
    return round(
        (1 + BESIDES_KEPT) * sum(outputs) + 2 * logits + COPIES_OF_WEIGHTS * weights + FIXED_BYTES
    )


def _outputs(model, chosen, batch):
    """Layers of a model -> what they give for (images, side), as KerasTensors: nothing is run."""
    images = keras.KerasTensor((*batch, batch[1], 3))
    return keras.Model(model.input, [layer.output for layer in chosen]).compute_output_spec(images)


def _bytes(tensor):
    return math.prod(tensor.shape) * tf.as_dtype(tensor.dtype).size


@functools.lru_cache(maxsize=8)  # Rows that are evaluated alike follow one another.
def _model(**arguments):
    with keras.StatelessScope():  # Shapes are wanted, not weights.
        return deeplabv3(**arguments)


@functools.cache  # Several seeds of a run are as fast.
def images_per_second(run: str, scale: str) -> float:
    """A run's name -> how fast it trains here, by a few steps in a process of its own.

    Raises ValueError where it does not; what it printed is to be seen then.
    """
    command = [sys.executable, "-m", "experiments.cost", run, "--scale", scale, "--steps_here"]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if result.returncode:
        raise ValueError(f"{run} could not be trained here (exit code {result.returncode}).")
    return float(result.stdout)


def steps_here(config: ml_collections.ConfigDict) -> float:
    """Takes STEPS training steps of random pixels -> images per second."""
    train_step = make_train_step(
        make_state(config),
        tf.distribute.get_strategy(),
        upsample_logits=config.upsample_logits,
        rematerialise=config.rematerialise,
        jit_compile=config.jit_compile,
    )
    rng = np.random.default_rng(0)
    batch_size, crop_size = config.train_data.batch_size, config.train_data.crop_size
    size = (batch_size, crop_size, crop_size)
    images = tf.constant(rng.integers(0, 256, (*size, 3), np.uint8))
    labels = tf.constant(rng.integers(0, config.model.num_classes, size, np.int32))
    for step in range(WARM_UP + STEPS):
        if step == WARM_UP:
            start = time.perf_counter()
        float(train_step(images, labels)[0])
    return batch_size * STEPS / (time.perf_counter() - start)


def rows_table(names: list[str], scale: str) -> str:
    """Rows -> a table of what it takes to predict with them."""
    lines = [["row", "trained as", "parameters, M", "multiply-adds, B"]]
    for name in track(names, "counting", len(names)):
        config = tables.config_of(name, scale)
        model = _model(**{**config.model, "output_stride": config.eval.output_stride})
        lines.append(
            [
                name,
                tables.row_of(name).unavailable or tables.row_of(name).shares or name,
                f"{parameters(model) / 1e6:.2f}",
                f"{inference_multiply_adds(config) / 1e9:.2f}",
            ]
        )
    return table(lines)


def training_runs_table(runs: list[str], scale: str, *, calibrate: bool) -> str:
    """Runs -> a table of what it takes to train them, and the hours of all together."""
    lines = [["training", "crop", "batch", "steps", "memory, GB", "images/s", "hours"]]
    total = 0.0
    for run in track(runs, "calibrating" if calibrate else "estimating", len(runs)):
        config = tables.config_of(run, scale)
        data, memory = config.train_data, step_bytes(config)
        speed = hours = "-"
        if calibrate and memory > _memory_here():
            speed = "too large"
        elif calibrate:
            rate = images_per_second(run, scale)
            seconds = config.steps * data.batch_size / rate
            total += seconds
            speed, hours = f"{rate:.1f}", f"{seconds / 3600:.2f}"
        sizes = map(str, (data.crop_size, data.batch_size, config.steps))
        lines.append([run, *sizes, f"{memory / 1e9:.2f}", speed, hours])
    last = f"\n{len(runs)} trainings, {total / 3600:.2f} hours in all" if calibrate else ""
    return table(lines) + last


def _memory_here():
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.cost",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("rows", nargs="+", help="table3:mg121_block7, or table3 for all its rows")
    parser.add_argument("--scale", choices=base.SCALES, default="paper")
    parser.add_argument("--calibrate", action="store_true", help="take 20 steps of each training")
    parser.add_argument("--steps_here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.steps_here:
        print(steps_here(tables.config_of(arguments.rows[0], arguments.scale)))
        return
    try:
        rows = tables.find_rows(arguments.rows)
        print(rows_table(list(rows), arguments.scale))
        runs = tables.training_runs(rows)
        print()
        print(training_runs_table(runs, arguments.scale, calibrate=arguments.calibrate))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
