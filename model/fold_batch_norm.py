"""A network reduced to what inference needs: batch norm folded into convolutions, no dropout."""

import keras
import numpy as np
from keras import layers, ops

from model.layers import CONVOLUTIONS, AtrousDepthwiseConv2D, ResizeBilinear


def fold_batch_norm(model: keras.Model) -> keras.Model:
    """A model of deeplabv3 -> one with fewer layers and the same output in inference.

    A convolution followed by batch norm becomes one with a bias: kernel gamma / std,
    beta - mean gamma / std, where std = sqrt(variance + epsilon). All other weights are copied.
    The image-level features of ASPP, a single pixel, are broadcast instead of resized.
    Source: ours; the algebra is well known.
    """
    new = keras.models.clone_model(model, clone_function=_clone_with_bias, call_function=_call)
    for layer in new.layers:
        weights = [weight.numpy() for weight in model.get_layer(layer.name).weights]
        if isinstance(layer, CONVOLUTIONS):
            fold = (
                fold_into_depthwise_kernel
                if isinstance(layer, AtrousDepthwiseConv2D)
                else fold_into_kernel
            )
            weights = fold(*weights, model.get_layer(_batch_norm_name(layer)))
        layer.set_weights(weights)
    return new


def fold_into_kernel(kernel: np.ndarray, batch_norm: layers.BatchNormalization) -> list[np.ndarray]:
    """[h, w, C, filters] kernel, the batch norm after it -> folded kernel and [filters] bias."""
    gamma, beta, mean, variance = (
        np.asarray(weight, np.float64) for weight in batch_norm.get_weights()
    )
    scale = gamma / np.sqrt(variance + batch_norm.epsilon)
    return [(kernel * scale).astype(np.float32), (beta - mean * scale).astype(np.float32)]


def fold_into_depthwise_kernel(
    kernel: np.ndarray, batch_norm: layers.BatchNormalization
) -> list[np.ndarray]:
    """[h, w, C, 1] kernel, the batch norm after it -> folded kernel and [C] bias."""
    kernel, bias = fold_into_kernel(kernel.transpose(0, 1, 3, 2), batch_norm)
    return [kernel.transpose(0, 1, 3, 2), bias]


def _batch_norm_name(conv):
    return conv.name.removesuffix("_conv") + "_bn"


def _clone_with_bias(layer):
    config = layer.get_config()
    if isinstance(layer, CONVOLUTIONS):
        config["use_bias"] = True
    return layer.__class__.from_config(config)


def _call(layer, *arguments, **keywords):
    """Calls a layer; a layer that inference does not need passes its input through."""
    if isinstance(layer, layers.BatchNormalization | layers.Dropout):
        return arguments[0]
    if isinstance(layer, ResizeBilinear) and arguments[0].shape[1:3] == (1, 1):
        pixel, like = arguments
        return pixel + ops.zeros_like(like[:, :, :, :1])
    return layer(*arguments, **keywords)
