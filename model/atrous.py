"""Atrous convolution on TensorFlow: what its kernels can do, and a gradient that is faster."""

import functools
import itertools

from keras import KerasTensor, ops


@functools.cache
def native_atrous_gradient(dtype: str) -> bool:
    """Whether TensorFlow's own atrous convolution can be differentiated on this device.

    A CPU without oneDNN, or without oneDNN's kernel for a dtype, has the native kernel but not its
    gradient, and says so only when it runs; hence the question is put to a convolution of a few
    pixels, once per process and dtype.
    """
    import tensorflow as tf

    with tf.init_scope():  # Eagerly, even where a graph is being traced.
        try:
            tf.raw_ops.Conv2DBackpropInput(
                input_sizes=(1, 5, 5, 1),
                filter=tf.ones((3, 3, 1, 1), dtype),
                out_backprop=tf.ones((1, 5, 5, 1), dtype),
                strides=[1, 1, 1, 1],
                padding="SAME",
                dilations=[1, 2, 2, 1],
            )
        except tf.errors.OpError:
            return False
    return True


@functools.cache
def matrix_products_are_faster() -> bool:
    """Whether atrous_convolution pays: on a CPU, and nothing else is there."""
    import tensorflow as tf

    return {device.device_type for device in tf.config.list_logical_devices()} == {"CPU"}


def atrous_convolution(x: KerasTensor, kernel: KerasTensor, rates: tuple[int, int]) -> KerasTensor:
    """[B, h, w, C] and a [k, k, C, F] kernel of odd k -> [B, h, w, F], zeros beyond the image.

    The gradient of the kernel is a matrix product for each of its taps, over the pixels where the
    tap is on the image. oneDNN's own takes 1.2 (rate 4) to 8 times (rate 36 on 41 x 41 features) as
    long: it does not leave the padding out; of 1x1 kernels up to 1.8 times. The rest are
    TensorFlow's kernels. Source: ours.
    """
    import tensorflow as tf

    how = {"strides": [1, 1, 1, 1], "padding": "SAME", "dilations": [1, *rates, 1]}

    @tf.custom_gradient
    def convolve(x, kernel):
        def gradient(upstream):
            by_x = tf.raw_ops.Conv2DBackpropInput(
                input_sizes=tf.shape(x), filter=kernel, out_backprop=upstream, **how
            )
            return by_x, kernel_gradient(x, upstream, kernel.shape[:2], rates)

        return tf.raw_ops.Conv2D(input=x, filter=kernel, **how), gradient

    # Of a variable Keras's convert_to_tensor gives the variable, outside a graph.
    return convolve(x, tf.convert_to_tensor(kernel))


def kernel_gradient(
    x: KerasTensor, upstream: KerasTensor, size: tuple[int, int], rates: tuple[int, int]
) -> KerasTensor:
    """[B, h, w, C] inputs, [B, h, w, F] gradient of the outputs -> [*size, C, F] of the kernel."""
    import tensorflow as tf

    offsets = ([(i - k // 2) * rate for i in range(k)] for k, rate in zip(size, rates, strict=True))
    products = []
    for down, right in itertools.product(*offsets):
        with tf.control_dependencies(products[-1:]):  # Or all copies would be there at once.
            here, there = _overlap(x, down, right), _overlap(upstream, -down, -right)
        products.append(tf.matmul(here, there, transpose_a=True))
    return tf.reshape(tf.stack(products), (*size, x.shape[3], upstream.shape[3]))


def _overlap(x, down, right):
    """[B, h, w, C] -> [pixels, C], those that are still on the image when moved back so far."""
    height, width = ops.shape(x)[1:3]
    rows = slice(max(0, down), ops.maximum(0, height + min(0, down)))
    columns = slice(max(0, right), ops.maximum(0, width + min(0, right)))
    return ops.reshape(x[:, rows, columns], (-1, x.shape[3]))
