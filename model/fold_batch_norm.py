"""What inference alone needs of a network: batch norm folded into convolutions, no dropout."""

import keras
import numpy as np
from keras import layers, ops

from model.layers import AtrousConv2D, ResizeBilinear


def folded(model: keras.Model) -> keras.Model:
    """A model of deeplabv3 -> one of fewer layers with the same output in inference.

    A convolution followed by batch norm becomes one with a bias: kernel gamma / deviation,
    beta - mean gamma / deviation, where deviation = sqrt(variance + epsilon). Whatever else has
    weights has the same. The one pixel of ASPP's image-level features is spread without a resize.
    Ours; the algebra is everybody's.
    """
    new = keras.models.clone_model(model, clone_function=_with_bias, call_function=_call)
    for layer in new.layers:
        weights = [weight.numpy() for weight in model.get_layer(layer.name).weights]
        if isinstance(layer, AtrousConv2D):
            weights = fold(*weights, model.get_layer(_batch_norm_of(layer)))
        layer.set_weights(weights)
    return new


def fold(kernel: np.ndarray, batch_norm: layers.BatchNormalization) -> list[np.ndarray]:
    """[h, w, C, filters] kernel and what follows it -> kernel and [filters] bias of both in one."""
    gamma, beta, mean, variance = (
        np.asarray(weight, np.float64) for weight in batch_norm.get_weights()
    )
    scale = gamma / np.sqrt(variance + batch_norm.epsilon)
    return [(kernel * scale).astype(np.float32), (beta - mean * scale).astype(np.float32)]


def _batch_norm_of(conv):
    return conv.name.removesuffix("_conv") + "_bn"


def _with_bias(layer):
    config = layer.get_config()
    if isinstance(layer, AtrousConv2D):
        config["use_bias"] = True
    return layer.__class__.from_config(config)


def _call(layer, *arguments, **keywords):
    """Calls a layer; what has no part in inference hands on its input."""
    if isinstance(layer, layers.BatchNormalization | layers.Dropout):
        return arguments[0]
    if isinstance(layer, ResizeBilinear) and arguments[0].shape[1:3] == (1, 1):
        pixel, like = arguments
        return pixel + ops.zeros_like(like[:, :, :, :1])
    return layer(*arguments, **keywords)
