"""Atrous convolution on TensorFlow: which kernels are right, and faster gradients on CPUs."""

import contextlib
import contextvars
import functools
import itertools
from collections.abc import Iterator

import numpy as np
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


_FOR_ANY_MACHINE = contextvars.ContextVar("graphs_for_any_machine", default=False)


@contextlib.contextmanager
def graphs_for_any_machine() -> Iterator[None]:
    """While it is open, graphs are traced without kernels that only some machines have.

    For a SavedModel, which may be run elsewhere: on a GPU, or a CPU without oneDNN.
    """
    token = _FOR_ANY_MACHINE.set(True)
    try:
        yield
    finally:
        _FOR_ANY_MACHINE.reset(token)


def may_use_depthwise_kernel(dtype: str) -> bool:
    """Whether depthwise_atrous_convolution may be used here, in this dtype."""
    return (
        not _FOR_ANY_MACHINE.get()
        and matrix_products_are_faster()
        and depthwise_kernel_is_right(dtype)
    )


@functools.cache
def depthwise_kernel_is_right(dtype: str) -> bool:
    """Whether TensorFlow's depthwise convolution obeys a rate on this device.

    Only with oneDNN on a CPU, in float32; elsewhere the kernel is missing, which is an error at run
    time. So this compares two small convolutions with the detour by space_to_batch, once per
    process and dtype.
    """
    import tensorflow as tf

    rng = np.random.default_rng(0)
    with tf.init_scope():  # Run eagerly, even while a graph is being traced.
        for channels in (3, 16):  # oneDNN has other code for multiples of its vectors.
            x = tf.constant(rng.normal(size=(1, 9, 8, channels)), dtype)
            kernel = tf.constant(rng.normal(size=(3, 3, channels, 1)), dtype)
            expected = tf.nn.depthwise_conv2d(x, kernel, [1, 1, 1, 1], "SAME", dilations=[2, 2])
            try:
                given = _depthwise(x, kernel, (2, 2))
            except tf.errors.OpError:
                return False
            if not np.allclose(*(np.array(y, np.float64) for y in (given, expected)), atol=1e-4):
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


def depthwise_atrous_convolution(
    x: KerasTensor, kernel: KerasTensor, rates: tuple[int, int]
) -> KerasTensor:
    """[B, h, w, C] and a [k, k, C, 1] kernel of odd k -> [B, h, w, C], zero padded.

    TensorFlow's kernel is right forward, and both of its gradients are silently wrong where the
    rate is over 1. So the input's is the same convolution with the kernel reversed, and the
    kernel's is that at rate 1, of the pixels that one sees. TensorFlow's own detour, which moves
    space into batch for all three, is right and slower forward. Source: ours.
    """
    import tensorflow as tf

    @tf.custom_gradient
    def convolve(x, kernel):
        def gradient(upstream):
            input_gradient = _depthwise(upstream, kernel[::-1, ::-1], rates)
            return input_gradient, depthwise_kernel_gradient(x, upstream, kernel.shape, rates)

        return _depthwise(x, kernel, rates), gradient

    # Outside a graph, Keras's convert_to_tensor would return the variable itself.
    return convolve(x, tf.convert_to_tensor(kernel))


def depthwise_kernel_gradient(
    x: KerasTensor, upstream: KerasTensor, shape: tuple[int, ...], rates: tuple[int, int]
) -> KerasTensor:
    """[B, h, w, C] inputs, [B, h, w, C] gradient of the outputs -> the kernel's, of its shape.

    Pixels that are a rate apart become neighbors in an image of their own; zeros fill the last ones
    up to one size.
    """
    import tensorflow as tf

    size = tf.shape(x)[1:3]
    paddings = tf.stack([tf.zeros_like(size), -size % rates], axis=1)
    inputs, outputs = (tf.space_to_batch(each, rates, paddings) for each in (x, upstream))
    return tf.raw_ops.DepthwiseConv2dNativeBackpropFilter(
        input=inputs,
        filter_sizes=shape,
        out_backprop=outputs,
        strides=[1, 1, 1, 1],
        padding="SAME",
    )


def _depthwise(x, kernel, rates):
    import tensorflow as tf

    return tf.raw_ops.DepthwiseConv2dNative(
        input=x, filter=kernel, strides=[1, 1, 1, 1], padding="SAME", dilations=[1, *rates, 1]
    )
