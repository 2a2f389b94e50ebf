"""Gradient checkpointing of the backbone: less memory for more time."""

import itertools
import re
from collections.abc import Callable

import keras
from keras import KerasTensor


def rematerialize_backbone(model: keras.Model) -> Callable[[KerasTensor], KerasTensor]:
    """A model of deeplabv3 -> its forward pass in training, [B, H, W, 3] images -> its output.

    Of the backbone, only the output of each unit is kept; what is inside a unit is computed a
    second time for the gradient. Batch norm's statistics are updated once. TensorFlow only.
    Source: Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016.
    """
    import tensorflow as tf

    unit_outputs = [
        layer.output
        for layer in model.layers
        if re.fullmatch(r"(block\d|(block\d_)?unit\d+)_out", layer.name)
    ]
    units = [keras.Model(*pair) for pair in itertools.pairwise([model.input, *unit_outputs])]
    head = keras.Model([model.input, unit_outputs[-1]], model.output)

    def forward(images):
        x = keras.ops.cast(images, "float32")
        for unit in units:
            values = [weight.value for weight in unit.trainable_variables]
            # It runs twice, so it must have no side effects.
            x, statistics = tf.recompute_grad(_stateless(unit))(x, *values)
            for variable, value in zip(unit.non_trainable_variables, statistics, strict=True):
                variable.assign(value)
        return head([images, x], training=True)

    return forward


def _stateless(unit):
    """A unit -> (x, *trainable weights) -> its output, and its other variables' new values."""

    def call(x, *values):
        others = [variable.value for variable in unit.non_trainable_variables]
        return unit.stateless_call(list(values), others, x, training=True)

    return call
