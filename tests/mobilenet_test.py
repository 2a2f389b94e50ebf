"""MobileNetV2 as the authors' deeplab has it: widths, plan, pixels; dense features == strided."""

import keras
import numpy as np
import pytest

from model.backbones import BACKBONES, windows
from model.deeplabv3 import deeplabv3, mean_pixel_of, output_stride_of
from model.fold_batch_norm import fold_batch_norm
from model.mobilenet import MOBILENETS, MobileNet, mobilenet, mobilenet_plan, round_width

# As published, in the authors' files: of the units at depth multipliers 1 and 0.5.
WIDTHS = {
    1.0: [16, 24, 24, 32, 32, 32, 64, 64, 64, 64, 96, 96, 96, 160, 160, 160, 320],
    0.5: [8, 12, 12, 16, 16, 16, 32, 32, 32, 32, 48, 48, 48, 80, 80, 80, 160],
}
# Stride and rate of units 1 to 17 in the authors' graphs at output strides 16 and 8, derived.
STRIDES = {
    32: [1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1],
    16: [1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
    8: [1, 2, 1, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
}
RATES = {
    32: [1] * 17,
    16: [1] * 14 + [2] * 3,
    8: [1] * 7 + [2] * 7 + [4] * 3,
}
PLAIN = {"multi_grid": (1, 1, 1), "atrous_rates": ()}  # The authors' ASPP.


def features(images, depth_multiplier=0.5, **arguments):
    """Images -> features of a network with random weights, the same at any output_stride."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((None, None, 3))
    outputs = mobilenet(inputs, MobileNet(depth_multiplier), batch_norm_decay=0.9, **arguments)
    return np.array(keras.Model(inputs, outputs)(images))


@pytest.mark.parametrize("output_stride", STRIDES)
@pytest.mark.parametrize("depth_multiplier", WIDTHS)
def test_the_plan_is_that_of_the_published_networks(depth_multiplier, output_stride):
    plan = mobilenet_plan(depth_multiplier, output_stride=output_stride)
    widths = WIDTHS[depth_multiplier]
    assert [unit.width for unit in plan] == widths
    assert [unit.stride for unit in plan] == STRIDES[output_stride]
    assert [unit.rate for unit in plan] == RATES[output_stride]
    stem = {1.0: 32, 0.5: 16}[depth_multiplier]
    assert [unit.expanded_width for unit in plan] == [stem] + [6 * width for width in widths[:-1]]


def test_any_depth_multiplier_is_rounded_as_slim_rounds():
    """0.35 and 1.4: to integers, and the expansions to multiples of 8. slim's rule, by hand."""
    small, large = (mobilenet_plan(m, output_stride=16) for m in (0.35, 1.4))
    assert [unit.width for unit in small[:4]] == [6, 8, 8, 11]
    assert [unit.expanded_width for unit in small[:5]] == [11, 40, 48, 48, 64]
    assert (large[-1].width, large[-1].expanded_width) == (448, 1344)
    assert features(np.zeros((1, 17, 17, 3)), 0.35, output_stride=16).shape == (1, 2, 2, 112)


@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("size", [(129, 97), (96, 130), (1, 65)])
def test_dense_features_agree_with_strided_ones(size, output_stride):
    images = np.random.default_rng(0).uniform(0, 255, (1, *size, 3)).astype("float32")
    strided = features(images, output_stride=32)
    dense = features(images, output_stride=output_stride)
    every = 32 // output_stride
    assert dense.shape[1] > strided.shape[1] or size[0] == 1
    difference = np.abs(dense[:, ::every, ::every] - strided).max()
    assert difference < 1e-5 * strided.std()


@pytest.mark.parametrize(
    "parameters, backbone", [(2_097_013, "mobilenet_v2"), (688_357, "mobilenet_v2_050")]
)
def test_the_network_has_the_parameters_of_the_published_one(parameters, backbone):
    """21 classes: kernels and biases of the published files, where batch norm is folded."""
    model = fold_batch_norm(deeplabv3(backbone, **PLAIN))
    assert sum(int(np.prod(weight.shape)) for weight in model.weights) == parameters


@pytest.mark.parametrize("backbone", MOBILENETS)
def test_a_photo_reaches_the_network_between_minus_1_and_1(backbone):
    model = deeplabv3(backbone, **PLAIN)
    seen = keras.Model(model.input, model.get_layer("conv1_pad").input)
    rgb = np.float32([[[[255, 127.5, 0]]]])
    np.testing.assert_allclose(seen(rgb)[0, 0, 0], [1, 0, -1], atol=1e-6)
    assert mean_pixel_of(model) == pytest.approx(BACKBONES[backbone].mean_pixel)
    assert output_stride_of(model) == 16


def test_activations_are_clipped_at_6_and_projections_are_linear():
    model = deeplabv3("mobilenet_v2_050", **PLAIN)
    for layer in model.layers:
        if layer.name.endswith("_depthwise_bn"):
            layer.beta.assign(np.full(layer.beta.shape, 9, "float32"))
        if layer.name.endswith("_project_bn"):
            layer.beta.assign(np.full(layer.beta.shape, -7, "float32"))
    names = ("unit5_depthwise_relu", "unit5_out")
    outputs = [model.get_layer(name).output for name in names]
    clipped, linear = keras.Model(model.input, outputs)(np.zeros((1, 33, 33, 3)))
    assert np.array(clipped).max() == 6
    assert np.array(linear).min() < 0


def test_every_kernel_decays_but_depthwise_ones():
    """The authors' code: 4e-5 / 2 * sum(kernel^2) with MobileNetV2."""
    model = deeplabv3("mobilenet_v2_050", **PLAIN)
    kernels = [
        np.array(weight)
        for weight in model.trainable_variables
        if weight.path.endswith("/kernel") and "depthwise" not in weight.path
    ]
    assert len(model.losses) == len(kernels) == 2 + 16 * 2 + 1 + 3
    expected = sum(2e-5 * np.sum(np.square(kernel)) for kernel in kernels)
    np.testing.assert_allclose(sum(map(float, model.losses)), expected, rtol=1e-5)


@pytest.mark.parametrize(
    "arguments, said",
    [
        ({"multi_grid": (1, 2, 4)}, r"multi_grid \(1, 2, 4\).*use multi_grid=\(1, 1, 1\)"),
        ({"num_blocks": 5}, "num_blocks 5: mobilenet_v2_050 .* use num_blocks=4"),
        ({"head": "torchvision"}, "'torchvision' is for ResNets, not mobilenet_v2_050"),
        ({"output_stride": 64}, "output_stride 64 .* choose from 8, 16, 32"),
        ({"output_stride": 4}, "output_stride 4 .* choose from 8, 16, 32"),
    ],
)
def test_what_belongs_to_resnets_is_refused_by_name(arguments, said):
    with pytest.raises(ValueError, match=said):
        deeplabv3("mobilenet_v2_050", **{**PLAIN, **arguments})


@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_the_windows_are_those_of_the_layers(output_stride):
    how = {"output_stride": output_stride, "multi_grid": (1, 1, 1)}
    model = deeplabv3("mobilenet_v2_050", atrous_rates=(6, 12), **how)
    rates = [96 // output_stride, 192 // output_stride]
    found = windows("mobilenet_v2_050", num_blocks=4, rates=rates, **how)
    layers = [getattr(layer, "kernel_size", None) and layer for layer in model.layers]
    built = {
        layer.name.removesuffix("_conv").removesuffix("_depthwise"): (
            layer.strides[0],
            layer.dilation_rate[0],
        )
        for layer in layers
        if layer and layer.kernel_size == (3, 3)
    }
    assert {window.name: (window.stride, window.rate) for window in found} == built


@pytest.mark.parametrize(
    "width, rounded", [(3, 8), (8, 8), (11, 16), (12, 16), (17, 16), (19, 24), (26, 24)]
)
def test_widths_are_rounded_to_a_multiple_of_8_but_not_below_nine_tenths(width, rounded):
    assert round_width(width, divisor=8) == rounded
