"""Memory for time: a network whose backbone is computed again where its gradient is."""

import itertools
import re
from collections.abc import Callable

import keras
from keras import KerasTensor


def rematerialised(model: keras.Model) -> Callable[[KerasTensor], KerasTensor]:
    """A model of deeplabv3 -> the same in training, [B, H, W, 3] images -> its output.

    Of the backbone it keeps what each unit hands to the next one, and computes a unit's inside a
    second time for the gradient. Batch norm's statistics are updated once. TensorFlow alone.
    Source: Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016.
    """
    import tensorflow as tf

    ends = [
        layer.output for layer in model.layers if re.fullmatch(r"block\d_unit\d+_out", layer.name)
    ]
    units = [keras.Model(*pair) for pair in itertools.pairwise([model.input, *ends])]
    head = keras.Model([model.input, ends[-1]], model.output)

    def forward(images):
        x = keras.ops.cast(images, "float32")
        for unit in units:
            values = [weight.value for weight in unit.trainable_variables]
            # Without side effects, since it runs twice.
            x, statistics = tf.recompute_grad(_pure(unit))(x, *values)
            for variable, value in zip(unit.non_trainable_variables, statistics, strict=True):
                variable.assign(value)
        return head([images, x], training=True)

    return forward


def _pure(unit):
    """A unit -> (x, *trainable weights) -> its output, and its other variables' new values."""

    def call(x, *values):
        others = [variable.value for variable in unit.non_trainable_variables]
        return unit.stateless_call(list(values), others, x, training=True)

    return call
