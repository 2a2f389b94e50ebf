"""Atrous convolution is what Sec. 3.1 says, both ways; a resize keeps its corners."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from model import layers
from model.atrous import graphs_for_any_machine
from model.layers import (
    AtrousConv2D,
    AtrousDepthwiseConv2D,
    BatchNormalization,
    ResizeBilinear,
    conv_bn,
    depthwise_conv_bn,
    interpolation,
)
from tests.conftest import ROOT


def convolve_with_holes(x, kernel, rate):
    """Equation (1): y[i] = sum over k of x[i + rate k] w[k], zero outside; written out in numpy."""
    batch, height, width, _ = x.shape
    y = np.zeros((batch, height, width, kernel.shape[3]))
    padded = np.pad(x, [(0, 0), (rate, rate), (rate, rate), (0, 0)])
    for i in range(3):
        for j in range(3):
            part = padded[:, i * rate : i * rate + height, j * rate : j * rate + width]
            y += part @ kernel[i, j]
    return y


@pytest.fixture(params=[True, False], ids=["native", "keras"])
def native(request, monkeypatch):
    if request.param and not layers.has_native_atrous_gradient("float32"):
        pytest.skip("TensorFlow has no native gradient of atrous convolution on this machine.")
    monkeypatch.setattr(layers, "has_native_atrous_gradient", lambda dtype: request.param)


@pytest.mark.parametrize("rate", [1, 2, 5, 18])
@pytest.mark.parametrize("size", [(9, 9), (1, 12), (7, 4)])
def test_atrous_convolution_is_equation_1(native, rate, size):
    rng = np.random.default_rng(rate)
    x = rng.normal(size=(2, *size, 3)).astype("float32")
    conv = AtrousConv2D(4, 3, dilation_rate=rate, padding="same", use_bias=False)
    y = np.array(conv(x))
    expected = convolve_with_holes(x, np.array(conv.kernel), rate)
    np.testing.assert_allclose(y, expected, atol=1e-4)


@pytest.mark.parametrize("static", [True, False])
@pytest.mark.parametrize("rate", [2, 4, 11, 30])
@pytest.mark.parametrize("size", [(11, 13), (1, 12)])
def test_all_ways_have_the_same_gradient(monkeypatch, rate, size, static):
    """Keras's, TensorFlow's, and ours, where taps fall on the image, on padding, or both."""
    if not layers.has_native_atrous_gradient("float32"):
        pytest.skip("TensorFlow has no native gradient of atrous convolution on this machine.")
    x = tf.random.stateless_normal((2, *size, 8), seed=(0, 1))
    weight = tf.random.stateless_normal((2, *size, 6), seed=(0, 2))
    conv = AtrousConv2D(6, 3, dilation_rate=rate, padding="same")
    conv.build(x.shape)
    spec = tf.TensorSpec(x.shape if static else (None, None, None, 8))
    results = {}
    for way in ("keras", "tensorflow", "ours"):
        monkeypatch.setattr(
            layers, "has_native_atrous_gradient", lambda dtype, way=way: way != "keras"
        )
        monkeypatch.setattr(layers, "matrix_products_are_faster", lambda: True)

        @tf.function(input_signature=[spec])
        def step(x, training=way == "ours"):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = conv(x, training=training)
                loss = tf.reduce_sum(y * weight)
            return y, *tape.gradient(loss, [x, conv.kernel.value, conv.bias.value])

        results[way] = step(x)
        kinds = {node.type for node in step.get_concrete_function().graph.get_operations()}
        assert ("SpaceToBatchND" in kinds) == (way == "keras")
        assert ("Conv2DBackpropFilter" in kinds) == (way != "ours")
    for way in ("tensorflow", "ours"):
        for ours, theirs in zip(results[way], results["keras"], strict=True):
            np.testing.assert_allclose(ours, theirs, atol=2e-4, err_msg=way)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_1x1_kernel_has_its_gradient_from_one_product(monkeypatch, dtype):
    # All positive: sums of half precision do not cancel, and keep its relative error.
    x = tf.cast(tf.random.stateless_uniform((2, 5, 7, 8), seed=(0, 1)), dtype)
    conv = AtrousConv2D(
        6,
        1,
        padding="same",
        kernel_initializer=keras.initializers.RandomUniform(0, 1, seed=0),
        dtype=f"mixed_{dtype}" if dtype != "float32" else None,
    )
    conv.build(x.shape)
    results = []
    for by_products in (False, True):
        monkeypatch.setattr(layers, "matrix_products_are_faster", lambda by=by_products: by)

        @tf.function
        def step(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                loss = tf.reduce_sum(conv(x, training=True) ** 2)
            return tape.gradient(loss, [x, conv.kernel.value, conv.bias.value])

        results.append(step(x))
        kinds = {node.type for node in step.get_concrete_function(x).graph.get_operations()}
        assert ("Conv2DBackpropFilter" in kinds) != by_products
    for ours, theirs in zip(*results, strict=True):
        tolerance = 1e-5 if dtype == "float32" else 2e-2
        np.testing.assert_allclose(ours, theirs, atol=tolerance * np.abs(theirs).max())


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_it_trains_outside_a_graph_as_in_one(monkeypatch, kernel_size):
    if not layers.has_native_atrous_gradient("float32"):
        pytest.skip("TensorFlow has no native gradient of atrous convolution on this machine.")
    monkeypatch.setattr(layers, "matrix_products_are_faster", lambda: True)
    x = tf.random.stateless_normal((2, 5, 7, 8), seed=(0, 1))
    conv = AtrousConv2D(6, kernel_size, dilation_rate=2, padding="same")
    conv.build(x.shape)

    def gradient():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(conv(x, training=True) ** 2)
        return tape.gradient(loss, conv.kernel.value)

    np.testing.assert_allclose(gradient(), tf.function(gradient)(), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("onednn", ["0", "1"])
def test_capability_is_what_a_gradient_finds(onednn):
    """With and without oneDNN: an atrous layer trains, and the probe told the truth.

    Asked inside a graph, as in training, where tapes and errors behave otherwise.
    """
    program = """
import tensorflow as tf
from model.layers import AtrousConv2D, has_native_atrous_gradient
x, kernel = tf.ones((1, 9, 9, 2)), tf.ones((3, 3, 2, 2))
conv = AtrousConv2D(2, 3, dilation_rate=3, padding="same")
conv.build(x.shape)
@tf.function
def train():
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(conv(x))
    return tape.gradient(loss, conv.kernel.value)
print("trained", float(tf.reduce_sum(train())))
try:
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        y = tf.nn.conv2d(x, kernel, 1, "SAME", dilations=3)
    tape.gradient(y, kernel)
    exists = True
except tf.errors.OpError:
    exists = False
print("truth", has_native_atrous_gradient("float32") == exists)
"""
    environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": onednn}
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    # Of 9 x 9 pixels, the middle tap sees all, the others 9 x 6 or 6 x 6; 2 x 2 channels.
    assert f"trained {4 * (81 + 4 * 54 + 4 * 36):.1f}" in result.stdout
    assert "truth True" in result.stdout


def depthwise_by_hand(x, kernel, rate, stride):
    """Equation (1), a kernel per channel, in float64: every stride-th pixel of the dense output."""
    y = np.zeros(x.shape)
    padded = np.pad(x, [(0, 0), (rate, rate), (rate, rate), (0, 0)])
    for i in range(3):
        for j in range(3):
            rows = slice(i * rate, i * rate + x.shape[1])
            columns = slice(j * rate, j * rate + x.shape[2])
            y += padded[:, rows, columns] * kernel[i, j, :, 0]
    return y[:, ::stride, ::stride]


def depthwise_results(x, upstream, kernel, rate, stride):
    """Outputs, and the gradients of sum(outputs upstream), of depthwise_conv_bn's convolution."""
    inputs = keras.Input((None, None, x.shape[3]))
    how = {"initializer": "zeros", "batch_norm_decay": 0.9, "epsilon": 1e-3}
    y = depthwise_conv_bn(inputs, 3, stride=stride, rate=rate, **how, name="x")
    model = keras.Model(inputs, keras.Model(inputs, y).get_layer("x_bn").input)
    model.get_layer("x_conv").kernel.assign(kernel)

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, x.shape[3]))])
    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = model(x, training=True)
            loss = tf.reduce_sum(y * tf.constant(upstream, "float32"))
        return y, *tape.gradient(loss, [x, model.get_layer("x_conv").kernel.value])

    nodes = step.get_concrete_function().graph.get_operations()
    return [value.numpy() for value in step(tf.constant(x, "float32"))], {n.type for n in nodes}


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("size", [(9, 8), (3, 11)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("rate", [1, 2, 4])
def test_depthwise_gradients_are_finite_differences(rate, stride, size, fast, monkeypatch):
    """All of them, in the inputs and in the kernel, both ways, where taps fall on padding too."""
    if fast and not layers.may_use_depthwise_kernel("float32"):
        pytest.skip("TensorFlow's depthwise kernel has no rates on this machine.")
    monkeypatch.setattr(layers, "may_use_depthwise_kernel", lambda dtype: fast)
    rng = np.random.default_rng(rate)
    x, kernel = rng.normal(size=(2, *size, 3)), rng.normal(size=(3, 3, 3, 1))
    shape = depthwise_by_hand(x, kernel, rate, stride).shape
    upstream = rng.normal(size=shape)
    (y, *gradients), kinds = depthwise_results(x, upstream, kernel, rate, stride)
    assert ("SpaceToBatchND" in kinds) == (rate > 1)  # Ours for the kernel's gradient alone.
    assert ("BatchToSpaceND" in kinds) == (rate > 1 and not fast)
    np.testing.assert_allclose(y, depthwise_by_hand(x, kernel, rate, stride), atol=1e-4)
    for varied, gradient in zip((x, kernel), gradients, strict=True):
        for index in np.ndindex(varied.shape):
            # The loss is linear in each number, so that its difference is its derivative.
            losses = []
            for change in (0.5, -1.0):
                varied[index] += change
                losses.append(np.sum(depthwise_by_hand(x, kernel, rate, stride) * upstream))
            varied[index] += 0.5
            assert gradient[index] == pytest.approx(losses[0] - losses[1], abs=1e-3)


@pytest.mark.parametrize("onednn", ["0", "1"])
def test_the_depthwise_kernel_is_taken_only_where_it_is_right(onednn):
    """With and without oneDNN, in every dtype: a layer trains, and its outputs are right."""
    program = """
import numpy as np
import tensorflow as tf
from model.layers import AtrousDepthwiseConv2D, may_use_depthwise_kernel
for dtype in ("float32", "bfloat16", "float16", "float64"):
    conv = AtrousDepthwiseConv2D(3, dilation_rate=3, padding="same", dtype=dtype)
    conv.build((1, 9, 9, 2))
    conv.kernel.assign(tf.ones((3, 3, 2, 1)))
    @tf.function
    def train():
        with tf.GradientTape() as tape:
            y = conv(tf.ones((1, 9, 9, 2), dtype))
            loss = tf.reduce_sum(y)
        return y, tape.gradient(loss, conv.kernel.value)
    y, gradient = train()
    line = np.array([2, 2, 2, 3, 3, 3, 2, 2, 2])
    np.testing.assert_array_equal(np.array(y, float)[0, ..., 0], line * line[:, None])
    seen = np.array([6, 9, 6])  # Pixels of a line on which a tap falls.
    np.testing.assert_array_equal(np.array(gradient, float)[..., 0, 0], seen * seen[:, None])
    print(dtype, may_use_depthwise_kernel(dtype))
"""
    environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": onednn}
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    taken = {line.split()[0] for line in result.stdout.splitlines() if line.endswith("True")}
    # Only with oneDNN is there such a kernel, and for bfloat16 only on some CPUs.
    assert taken <= ({"float32", "bfloat16"} if onednn == "1" else set())


def test_a_graph_for_any_machine_has_no_kernel_of_this_one():
    conv = AtrousDepthwiseConv2D(3, dilation_rate=2, padding="same")
    conv.build((1, 9, 9, 2))
    x = tf.TensorSpec((1, 9, 9, 2))
    with graphs_for_any_machine():
        graph = tf.function(conv, input_signature=[x]).get_concrete_function().graph
    rates = [
        list(node.get_attr("dilations"))
        for node in graph.get_operations()
        if node.type == "DepthwiseConv2dNative"
    ]
    assert rates == [[1, 1, 1, 1]]


@pytest.mark.parametrize(
    "size, new_size", [((3, 4), (9, 7)), ((9, 7), (3, 4)), ((33, 33), (97, 129))]
)
def test_resize_is_tensorflows_with_aligned_corners(size, new_size):
    x = np.random.default_rng(0).normal(size=(2, *size, 5)).astype("float32")
    resized = ResizeBilinear()(x, np.zeros((2, *new_size, 1), "float32"))
    expected = tf.compat.v1.image.resize_bilinear(x, new_size, align_corners=True)
    np.testing.assert_allclose(resized, expected, atol=1e-5)


@pytest.mark.parametrize(
    "size, new_size", [((3, 4), (9, 7)), ((1, 1), (3, 4)), ((9, 13), (65, 97)), ((9, 7), (3, 4))]
)
def test_resize_is_tensorflows_with_half_pixel_corners(size, new_size):
    """As torchvision's too: tests/torchvision_models_test.py."""
    x = np.random.default_rng(0).normal(size=(2, *size, 5)).astype("float32")
    resized = ResizeBilinear("half_pixel")(x, np.zeros((2, *new_size, 1), "float32"))
    expected = tf.image.resize(x, new_size, "bilinear", antialias=False)
    np.testing.assert_allclose(resized, expected, atol=1e-5)


@pytest.mark.parametrize("seed", range(20))
def test_resize_keeps_corners_range_and_constants(seed):
    rng = np.random.default_rng(seed)
    size, new_size = rng.integers(1, 40, 2), rng.integers(1, 40, 2)
    x = rng.uniform(size=(1, *size, 1)).astype("float32")
    y = np.array(ResizeBilinear()(x, np.zeros((1, *new_size, 1), "float32")))
    assert y.shape == (1, *new_size, 1)
    np.testing.assert_allclose(y[0, 0, 0], x[0, 0, 0], atol=1e-6)
    if min(new_size) > 1:
        np.testing.assert_allclose(y[0, -1, -1], x[0, -1, -1], atol=1e-5)
    assert x.min() - 1e-5 <= y.min() and y.max() <= x.max() + 1e-5
    np.testing.assert_allclose(np.array(interpolation(size[0], new_size[0])).sum(1), 1, atol=1e-5)


@pytest.mark.parametrize("rate", [1, 2])
@pytest.mark.parametrize("size", [(1, 1), (1, 8), (8, 9), (7, 7)])
@pytest.mark.parametrize("kernel_size", [1, 3])
def test_a_stride_takes_every_second_pixel_of_the_dense_output(kernel_size, size, rate):
    """At even sizes too, where Keras's own "same" would shift by one."""
    x = np.random.default_rng(0).normal(size=(1, *size, 3)).astype("float32")
    outputs = {}
    for stride in (1, 2):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((None, None, 3))
        y = conv_bn(
            inputs, 4, kernel_size, stride=stride, rate=rate, batch_norm_decay=0.9, name="x"
        )
        outputs[stride] = np.array(keras.Model(inputs, y)(x))
    np.testing.assert_allclose(outputs[2], outputs[1][:, ::2, ::2], atol=1e-5)


def batch_norm_step(layer, x):
    """A batch norm in training -> its output, gradients, and moving statistics afterwards."""
    layer.build(x.shape)
    rng = np.random.default_rng(1)
    for weight in layer.trainable_variables:
        weight.assign(rng.normal(1, 0.2, weight.shape))
    exact = layer.compute_dtype == "float64"
    x = tf.constant(x, "float64" if exact else "float32")

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.cast(layer(x, training=True), x.dtype)
            loss = tf.reduce_sum(y * tf.cos(tf.cumsum(y, axis=1)))
        return y, *tape.gradient(loss, [x, *(w.value for w in layer.trainable_variables)])

    results = [value.numpy() for value in step()]
    return results + [weight.numpy() for weight in layer.non_trainable_variables]


@pytest.mark.parametrize("size", [(4, 9, 7), (1, 1, 1), (2, 1, 1)])
def test_the_fused_batch_norm_is_keras(size):
    """Forward, gradient, and what it leaves in the moving statistics."""
    x = np.random.default_rng(0).normal(3, 2, (*size, 5))
    how = dict(momentum=0.9, epsilon=1e-5)
    ours = batch_norm_step(BatchNormalization(**how), x)
    theirs = batch_norm_step(keras.layers.BatchNormalization(**how, dtype="float64"), x)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * max(1, np.abs(b).max()))


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_batch_norm_in_half_precision_keeps_float32_statistics(precision):
    x = np.random.default_rng(0).normal(3, 2, (4, 9, 7, 5))
    ours, theirs = (
        batch_norm_step(BatchNormalization(momentum=0.9, dtype=dtype), x)
        for dtype in (precision, "float32")
    )
    np.testing.assert_allclose(ours[0], theirs[0], atol=0.05)
    for a, b in zip(ours[-2:], theirs[-2:], strict=True):
        assert a.dtype == np.float32
        np.testing.assert_allclose(a, b, rtol=2e-2)


def test_a_frozen_batch_norm_is_as_it_was():
    layer = BatchNormalization(momentum=0.9)
    layer.build((None, None, None, 5))
    layer.trainable = False
    x = np.random.default_rng(0).normal(3, 2, (4, 9, 7, 5)).astype("float32")
    np.testing.assert_allclose(layer(x, training=True), x / np.sqrt(1 + layer.epsilon), rtol=1e-5)
    assert not layer.moving_mean.numpy().any()
