"""A training step or inference in TensorFlow, for benchmark.speed; writes the exports, too.

python -m benchmark.keras_candidates ARGUMENTS (JSON: case, and overrides, stock_keras or exports)
"""

import json
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from data.terminal import import_tensorflow

if __name__ == "__main__":
    import_tensorflow()  # Without its start-up lines.

import keras
import ml_collections
import numpy as np
import tensorflow as tf

import model.layers
from benchmark.cases import FLOAT32, Case
from benchmark.turns import serve
from deployment.artifact import write_artifact
from evaluation.prediction import make_predictor
from experiments.base import get_config
from model.backbones import BACKBONES
from model.deeplabv3 import deeplabv3
from model.mobilenet import MOBILENETS
from training.optimizer import make_optimizer
from training.train_step import make_state, make_train_step

LEARNING_RATE, STEPS = 0.007, 30_000  # Of the optimizer; they do not change the time.
PEAK_SIZE, PEAK_CHANNELS, PEAK_CONVOLUTIONS = 65, 512, 3


def config_of(case: Case, overrides: Mapping[str, Any] = {}) -> ml_collections.ConfigDict:
    """A case, and what a candidate changes -> its config."""
    config = get_config()
    config.update_from_flattened_dict({"precision": case.precision, **overrides})
    config.model.backbone = case.backbone
    if case.backbone in MOBILENETS:  # The authors' ASPP for it.
        config.model.multi_grid, config.model.atrous_rates = (1, 1, 1), ()
    config.model.output_stride = config.eval.output_stride = case.output_stride
    return config


def images_of(case: Case) -> np.ndarray:
    """A case -> its [B, H, W, 3] uint8 images."""
    size = (case.batch_size, case.crop_size, case.crop_size, 3)
    return np.random.default_rng(0).integers(0, 256, size, np.uint8)


def make_training_step(
    arguments: Mapping[str, Any], images: np.ndarray, *, precision: str, **options: bool
) -> Callable[[], object]:
    """deeplabv3's arguments and [B, H, W, 3] images -> a function that trains one step on them.

    options: those of make_train_step.
    """
    network = deeplabv3(**arguments, precision=precision)
    optimizer = make_optimizer(LEARNING_RATE, steps=STEPS, precision=precision)
    train_step = make_train_step(
        make_state(network, optimizer), tf.distribute.get_strategy(), **options
    )
    labels = np.random.default_rng(1).integers(0, arguments["num_classes"], images.shape[:3])
    images, labels = tf.constant(images), tf.constant(labels, tf.uint8)
    return lambda: float(train_step(images, labels)[0])


def make_model(arguments: Mapping[str, Any], *, precision: str) -> keras.Model:
    """deeplabv3's arguments -> the model, with non-zero batch norm statistics.

    An export would drop biases of 0.
    """
    network = deeplabv3(**arguments, precision=precision)
    rng = np.random.default_rng(0)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_mean.assign(rng.normal(0, 0.1, layer.moving_mean.shape))
    return network


def make_computation(
    case: Case, *, overrides: Mapping[str, Any] = {}, stock_keras: bool = False
) -> Callable[[], object]:
    """A case and a candidate's options -> a function that takes its step or predicts, once."""
    config, images = config_of(case, overrides), images_of(case)
    if stock_keras:
        use_stock_keras_layers()
    if case.task == "training":
        return make_training_step(
            config.model,
            images,
            precision=config.precision,
            rematerialize=config.rematerialize,
            jit_compile=config.jit_compile,
        )
    network = make_model(config.model, precision=config.precision)
    predict = make_predictor(network, scales=config.eval.scales, flip=config.eval.flip)
    return lambda: predict(images).numpy()


def use_stock_keras_layers() -> None:
    """From now on, in this process, our layers compute as the Keras layers that they derive from.

    As on Keras's other backends: convolutions, batch norm and the value of the L2 penalty are
    Keras's, and batch norm is that of one device. A patch, since only this benchmark needs it: an
    argument would pass through every function of model/, and a converted copy of a model would add
    its weights to the peak memory. It cannot affect other candidates, each of which is a process of
    its own.
    """
    model.layers.ON_TENSORFLOW = False


def make_peak_convolution() -> Callable[[], object]:
    """A function that runs dense 3x3 convolutions for about a tenth of a second."""
    rng, channels = np.random.default_rng(0), PEAK_CHANNELS
    x = tf.constant(rng.normal(size=(1, PEAK_SIZE, PEAK_SIZE, channels)), tf.float32)
    kernel = tf.constant(rng.normal(0, 0.01, (3, 3, channels, channels)), tf.float32)

    @tf.function
    def convolve():
        y = x
        for _ in range(PEAK_CONVOLUTIONS):
            y = tf.nn.conv2d(y, kernel, 1, "SAME")
        return tf.reduce_sum(y)

    return lambda: float(convolve())


def peak_operations() -> int:
    """The operations of make_peak_convolution, two per multiply-add."""
    return 2 * 9 * PEAK_SIZE**2 * PEAK_CHANNELS**2 * PEAK_CONVOLUTIONS


def write_exports(case: Case, formats: Sequence[str], folder: pathlib.Path) -> None:
    """Writes a case's network as export.py does, into FOLDER/FORMAT.

    Only a SavedModel has the case's precision; OpenVINO computes a float32 graph in bfloat16.
    """
    config = config_of(case)
    for name in formats:
        precision = case.precision if name == "saved_model" else FLOAT32
        write_artifact(
            name,
            make_model(config.model, precision=precision),
            folder / name,
            data={},
            size=(case.crop_size, case.crop_size),
            mean_pixel=BACKBONES[case.backbone].mean_pixel,
            **config.eval,
        )


def main() -> None:
    arguments = json.loads(sys.argv[1])
    case = arguments.pop("case", None)
    if case is None:
        serve(make_peak_convolution())
        return
    case = Case(*case)
    if "exports" in arguments:
        write_exports(case, arguments["exports"], pathlib.Path(arguments["folder"]))
        return
    serve(make_computation(case, **arguments))


if __name__ == "__main__":
    main()
