"""Atrous convolution on TensorFlow: which kernels exist, and a faster gradient on CPUs."""

import functools
import itertools

from keras import KerasTensor, ops


@functools.cache
def has_native_atrous_gradient(dtype: str) -> bool:
    """Whether TensorFlow's own atrous convolution can be differentiated on this device.

    A CPU without oneDNN, or without oneDNN's kernel for a dtype, has the native kernel but not its
    gradient, and the error comes only at run time. So this runs the gradient of a convolution of a
    few pixels, once per process and dtype.
    """
    import tensorflow as tf

    with tf.init_scope():  # Run eagerly, even while a graph is being traced.
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
    """Whether atrous_convolution pays off: only if the CPU is the only device."""
    import tensorflow as tf

    return {device.device_type for device in tf.config.list_logical_devices()} == {"CPU"}


def atrous_convolution(x: KerasTensor, kernel: KerasTensor, rates: tuple[int, int]) -> KerasTensor:
    """[B, h, w, C] and a [k, k, C, F] kernel of odd k -> [B, h, w, F], zero padded.

    The kernel's gradient is one matrix product per tap, over the pixels where the tap falls on the
    image. oneDNN's gradient, which does not skip the padding, takes 1.2 (rate 4) to 8 times as long
    (rate 36 on 41 x 41 features); of 1x1 kernels, up to 1.8 times. Everything else is left to
    TensorFlow's kernels. Source: ours.
    """
    import tensorflow as tf

    options = {"strides": [1, 1, 1, 1], "padding": "SAME", "dilations": [1, *rates, 1]}

    @tf.custom_gradient
    def convolve(x, kernel):
        def gradient(upstream):
            input_gradient = tf.raw_ops.Conv2DBackpropInput(
                input_sizes=tf.shape(x), filter=kernel, out_backprop=upstream, **options
            )
            return input_gradient, kernel_gradient(x, upstream, kernel.shape[:2], rates)

        return tf.raw_ops.Conv2D(input=x, filter=kernel, **options), gradient

    # Outside a graph, Keras's convert_to_tensor would return the variable itself.
    return convolve(x, tf.convert_to_tensor(kernel))


def kernel_gradient(
    x: KerasTensor, upstream: KerasTensor, size: tuple[int, int], rates: tuple[int, int]
) -> KerasTensor:
    """[B, h, w, C] inputs, [B, h, w, F] gradient of the outputs -> [*size, C, F], the kernel's."""
    import tensorflow as tf

    offsets = ([(i - k // 2) * rate for i in range(k)] for k, rate in zip(size, rates, strict=True))
    products = []
    for down, right in itertools.product(*offsets):
        with tf.control_dependencies(products[-1:]):  # One at a time, to save memory.
            inputs, outputs = _overlap(x, down, right), _overlap(upstream, -down, -right)
        products.append(tf.matmul(inputs, outputs, transpose_a=True))
    return tf.reshape(tf.stack(products), (*size, x.shape[3], upstream.shape[3]))


def _overlap(x, down, right):
    """[B, h, w, C] -> [pixels, C]: those still inside the image when shifted back by the offset."""
    height, width = ops.shape(x)[1:3]
    rows = slice(max(0, down), ops.maximum(0, height + min(0, down)))
    columns = slice(max(0, right), ops.maximum(0, width + min(0, right)))
    return ops.reshape(x[:, rows, columns], (-1, x.shape[3]))
