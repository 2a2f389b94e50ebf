"""The authors' TensorFlow 1 checkpoints: their names, their numbers, their stride place."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from model.deeplabv3 import deeplabv3
from model.resnet import RESNETS, resnet
from pretrained.open_weights import open_weights
from pretrained.tf1_checkpoints import rename_tf1
from pretrained.weights import load
from tests.foreign_networks import TF1_KINDS, UNITS, random_values, tf1_shapes
from tests.mobilenet_test import RATES, STRIDES, WIDTHS

# Of block1 to block4, where the stride is in a block's first 1x1 conv, as He's: strides, rates.
HES = {
    8: ((1, 2, 1, 1), (1, 1, 2, 4)),
    16: ((1, 2, 2, 1), (1, 1, 1, 2)),
    32: ((1, 2, 2, 2), (1, 1, 1, 1)),
}
# A multiple of 4 plus 1, where slim's pool1 pads on all sides alike, as its convs and ours do at
# any size. One is wide enough for a rate of 36.
SIZES = ((65, 97), (17, 401), (33, 69))


class Network:
    """ResNet v1 and the authors' ASPP in TensorFlow's own operations, by slim's names."""

    def __init__(self, values, depth):
        self.values, self.depth, self.scope = values, depth, f"resnet_v1_{depth}"

    def conv(self, x, name, *, stride=1, rate=1, relu=True):
        """Padded on all sides alike, as slim's conv2d_same."""
        kernel = self.values[f"{name}/weights"]
        pad = rate * (kernel.shape[0] // 2)
        x = tf.pad(x, [(0, 0), (pad, pad), (pad, pad), (0, 0)])
        x = tf.nn.conv2d(x, kernel, stride, "VALID", dilations=rate)
        gamma, beta, mean, variance = (
            self.values[f"{name}/BatchNorm/{kind}"]
            for kind in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        x = tf.nn.batch_normalization(x, mean, variance, beta, gamma, 1e-5)
        return tf.nn.relu(x) if relu else x

    def features(self, pixels, output_stride, multi_grid=(1, 1, 1)):
        x, scope = pixels, self.scope
        for name, stride in (("conv1", 2), ("conv1_1", 2), ("conv1_2", 1), ("conv1_3", 1)):
            if f"{scope}/{name}/weights" in self.values:
                x = self.conv(x, f"{scope}/{name}", stride=stride)
        x = tf.nn.max_pool2d(x, 3, 2, "SAME")
        for block, units in enumerate(UNITS[self.depth]):
            stride, rate = (plan[block] for plan in HES[output_stride])
            for unit in range(units):
                name = f"{scope}/block{block + 1}/unit_{unit + 1}/bottleneck_v1"
                first = stride if unit == 0 else 1
                grid = multi_grid[unit] if block == 3 else 1
                shortcut = x
                if unit == 0:
                    shortcut = self.conv(x, f"{name}/shortcut", stride=first, relu=False)
                x = self.conv(x, f"{name}/conv1", stride=first)
                x = self.conv(x, f"{name}/conv2", rate=rate * grid)
                x = tf.nn.relu(shortcut + self.conv(x, f"{name}/conv3", relu=False))
        return x

    def logits(self, pixels, output_stride):
        """deeplab/model.py: the image-level features come first."""
        x = self.features(pixels, output_stride, (1, 2, 4))
        pooled = self.conv(tf.reduce_mean(x, [1, 2], keepdims=True), "image_pooling")
        branches = [tf.broadcast_to(pooled, [*x.shape[:3], pooled.shape[3]])]
        branches.append(self.conv(x, "aspp0"))
        for i, rate in enumerate((6, 12, 18), start=1):
            branches.append(self.conv(x, f"aspp{i}", rate=rate * 16 // output_stride))
        x = self.conv(tf.concat(branches, 3), "concat_projection")
        weights, biases = (self.values[f"logits/semantic/{kind}"] for kind in ("weights", "biases"))
        return tf.nn.conv2d(x, weights, 1, "VALID") + biases


def image_of(size):
    return np.random.default_rng(0).integers(0, 256, (1, *size, 3)).astype("float32")


def agree(ours, theirs, tolerance):
    ours, theirs = np.array(ours), np.array(theirs)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() < tolerance * theirs.std()
    assert (ours.argmax(-1) == theirs.argmax(-1)).mean() >= 0.9999


@functools.cache
def values_of(depth, beta, num_classes):
    return random_values(tf1_shapes(depth, beta=beta, num_classes=num_classes))


def pixels_of(image, beta):
    """As deeplab/core/feature_extractor.py makes them."""
    return image * (2 / 255) - 1 if beta else image - np.float32((123.15, 115.90, 103.06))


@pytest.mark.parametrize("output_stride", HES)
@pytest.mark.parametrize("beta", [False, True])
def test_hes_stride_place_gives_the_same_numbers(beta, output_stride):
    """His is in the next block's first 1x1 conv, ours in the last unit before."""
    values = values_of("tiny", beta, None)
    images = keras.Input((None, None, 3))
    how = {"output_stride": output_stride, "multi_grid": (1, 1, 1), "batch_norm_decay": 0.9}
    weights = rename_tf1(values)
    model = keras.Model(images, resnet(images, weights.model["backbone"], **how))
    load(model, weights, part="backbone")
    for size in SIZES:
        image = image_of(size)
        theirs = Network(values, "tiny").features(pixels_of(image, beta), output_stride)
        agree(model(image), theirs, 1e-5)


@pytest.mark.parametrize("beta, output_stride", [(False, 8), (True, 16)])
def test_the_logits_are_the_authors(beta, output_stride):
    values = values_of("tiny", beta, 21)
    weights = rename_tf1(values)
    model = deeplabv3(**{**weights.model, "output_stride": output_stride})
    load(model, weights)
    for size in SIZES:
        image = image_of(size)
        theirs = Network(values, "tiny").logits(pixels_of(image, beta), output_stride)
        agree(keras.Model(model.input, model.get_layer("logits").output)(image), theirs, 1e-4)
        theirs = tf.compat.v1.image.resize_bilinear(theirs, size, align_corners=True)
        agree(model(image), theirs, 1e-4)


def write(path, values):
    """A checkpoint as TensorFlow 1's Saver writes it."""
    names = list(values)
    tensors = [values[name] for name in names]
    tf.raw_ops.SaveV2(
        prefix=str(path), tensor_names=names, shape_and_slices=[""] * len(names), tensors=tensors
    )


@pytest.mark.parametrize("depth", [50, 101])
@pytest.mark.parametrize("beta", [False, True])
def test_checkpoints_of_the_real_size_are_read_back(depth, beta, tmp_path):
    """slim's for ImageNet fills the backbone, deeplab's all of it; nothing is missing or over."""
    backbone = f"resnet{depth}{'_beta' if beta else ''}"
    model = deeplabv3(backbone)
    for num_classes, part in ((None, "backbone"), (21, "whole")):
        shapes = tf1_shapes(depth, beta=beta, num_classes=num_classes)
        values = {name: np.full(shape, 0.5, np.float32) for name, shape in shapes.items()}
        values["global_step"] = np.int64(30_000)
        if not num_classes:
            values[f"resnet_v1_{depth}/mean_rgb"] = np.float32((123.15163, 115.90288, 103.06262))
        write(tmp_path / "model.ckpt", values)
        weights = open_weights(str(tmp_path / "model.ckpt"), "")
        report = load(model, weights, part=part)
        assert len(report.loaded) + len(report.skipped) == len(shapes)
        logits = {f"resnet_v1_{depth}/{name}" for name in ("logits/weights", "logits/biases")}
        left = {*logits, f"resnet_v1_{depth}/mean_rgb", "global_step"}
        if num_classes:
            left = {name for name in shapes if name.endswith("/Momentum")} | {"global_step"}
        assert set(report.skipped) == left
        assert weights.model["backbone"] == backbone and backbone in RESNETS
    assert weights.model["multi_grid"] == (1, 2, 4) and weights.model["atrous_rates"] == (6, 12, 18)


def mobilenet_values(num_classes, depth_multiplier=1.0):
    """The variables of a checkpoint, as slim's mobilenet_v2.py and deeplab's model.py name them."""
    shapes = {}

    def conv_bn(name, shape, kind="weights", channels=None):
        shapes[f"{name}/{kind}"] = shape
        shapes.update({f"{name}/BatchNorm/{k}": (channels or shape[3],) for k in TF1_KINDS})

    channels = int(32 * depth_multiplier)
    conv_bn("MobilenetV2/Conv", (3, 3, 3, channels))
    for i, width in enumerate(WIDTHS[depth_multiplier]):
        name = f"MobilenetV2/expanded_conv{f'_{i}' if i else ''}"
        expanded = 6 * channels if i else channels
        if i:
            conv_bn(f"{name}/expand", (1, 1, channels, expanded))
        conv_bn(f"{name}/depthwise", (3, 3, expanded, 1), "depthwise_weights", expanded)
        conv_bn(f"{name}/project", (1, 1, expanded, width))
        channels = width
    if num_classes:
        conv_bn("image_pooling", (1, 1, channels, 256))
        conv_bn("aspp0", (1, 1, channels, 256))
        conv_bn("concat_projection", (1, 1, 512, 256))
        shapes["logits/semantic/weights"] = (1, 1, 256, num_classes)
        shapes["logits/semantic/biases"] = (num_classes,)
        shapes["aspp0/weights/Momentum"] = (1, 1, channels, 256)
        # Of quantization-aware training, in the checkpoints of 8 bits.
        shapes["MobilenetV2/Conv/weights_quant/min"] = ()
        shapes["MobilenetV2/Conv/act_quant/MobilenetV2/Conv/act_quant/max/biased"] = ()
    else:
        conv_bn("MobilenetV2/Conv_1", (1, 1, channels, 1280))
        shapes["MobilenetV2/Logits/Conv2d_1c_1x1/weights"] = (1, 1, 1280, 1001)
        shapes["MobilenetV2/Logits/Conv2d_1c_1x1/biases"] = (1001,)
        shapes["MobilenetV2/Conv/weights/ExponentialMovingAverage"] = shapes[
            "MobilenetV2/Conv/weights"
        ]
        shapes["MobilenetV2/Conv/BatchNorm/gamma/RMSProp_1"] = (int(32 * depth_multiplier),)
    values = random_values(shapes)
    for name in values:
        if name.endswith("depthwise_weights"):  # The sum is of 9 numbers alone.
            values[name] *= np.sqrt(shapes[name][2], dtype=np.float32)
    values["MobilenetV2/Conv/weights"] *= 64  # Pixels are in -1..1.
    return values


def mobilenet_logits(values, depth_multiplier, pixels, output_stride):
    """The authors' network in TensorFlow's own operations, padded SAME, by slim's names."""

    def batch_norm(x, name, activation, epsilon):
        gamma, beta, mean, variance = (values[f"{name}/BatchNorm/{kind}"] for kind in TF1_KINDS)
        x = tf.nn.batch_normalization(x, mean, variance, beta, gamma, epsilon)
        return activation(x) if activation else x

    def conv(x, name, *, stride=1, activation=tf.nn.relu6, epsilon=1e-3):
        x = tf.nn.conv2d(x, values[f"{name}/weights"], stride, "SAME")
        return batch_norm(x, name, activation, epsilon)

    x = conv(pixels, "MobilenetV2/Conv", stride=2)
    plan = zip(WIDTHS[depth_multiplier], STRIDES[output_stride], RATES[output_stride], strict=True)
    for i, (width, stride, rate) in enumerate(plan):
        name, before = f"MobilenetV2/expanded_conv{f'_{i}' if i else ''}", x
        x = conv(x, f"{name}/expand") if i else x
        kernel = values[f"{name}/depthwise/depthwise_weights"]
        x = tf.nn.depthwise_conv2d(x, kernel, [1, stride, stride, 1], "SAME", dilations=[rate] * 2)
        x = batch_norm(x, f"{name}/depthwise", tf.nn.relu6, 1e-3)
        x = conv(x, f"{name}/project", activation=None)
        x = x + before if stride == 1 and before.shape[3] == width else x
    head = {"activation": tf.nn.relu, "epsilon": 1e-5}  # deeplab/model.py.
    pooled = conv(tf.reduce_mean(x, [1, 2], keepdims=True), "image_pooling", **head)
    pooled = tf.broadcast_to(pooled, [*x.shape[:3], 256])
    x = tf.concat([pooled, conv(x, "aspp0", **head)], 3)
    x = conv(x, "concat_projection", **head)
    weights, biases = (values[f"logits/semantic/{kind}"] for kind in ("weights", "biases"))
    return tf.nn.conv2d(x, weights, 1, "VALID") + biases


@pytest.mark.parametrize("depth_multiplier, output_stride", [(1.0, 16), (0.5, 8)])
def test_the_logits_of_mobilenet_are_the_authors(depth_multiplier, output_stride):
    values = mobilenet_values(21, depth_multiplier)
    # As small as the epsilons, which differ: of the backbone's stem, and of the head.
    for name in ("MobilenetV2/Conv", "aspp0", "concat_projection"):
        variance = values[f"{name}/BatchNorm/moving_variance"]
        values[f"{name}/BatchNorm/gamma"] *= 0.1
        variance[::2] *= 1e-3
    weights = rename_tf1(values)
    model = deeplabv3(**{**weights.model, "output_stride": output_stride})
    load(model, weights)
    image = image_of((65, 97))  # Where SAME pads on all sides alike, as ours at any size.
    theirs = mobilenet_logits(values, depth_multiplier, image / 127.5 - 1, output_stride)
    agree(keras.Model(model.input, model.get_layer("logits").output)(image), theirs, 1e-4)


@pytest.mark.parametrize("depth_multiplier", WIDTHS)
@pytest.mark.parametrize("num_classes, part", [(None, "backbone"), (21, "whole")])
def test_mobilenets_checkpoints_are_read(num_classes, part, depth_multiplier, tmp_path):
    values = mobilenet_values(num_classes, depth_multiplier)
    write(tmp_path / "model.ckpt", values)
    weights = open_weights(str(tmp_path / "model.ckpt"), "")
    backbone = {1.0: "mobilenet_v2", 0.5: "mobilenet_v2_050"}[depth_multiplier]
    assert weights.model["backbone"] == backbone and weights.model["atrous_rates"] == ()
    assert weights.model.get("num_classes") == num_classes
    model = deeplabv3(**weights.model)
    report = load(model, weights, part=part)
    assert not report.unknown and not report.missing
    assert len(report.loaded) + len(report.skipped) == len(values)
    assert len(report.skipped) == (3 if num_classes else 9)
    theirs = values["MobilenetV2/expanded_conv_16/depthwise/depthwise_weights"]
    np.testing.assert_array_equal(model.get_layer("unit17_depthwise_conv").weights[0], theirs)


def test_slims_narrow_mobilenet_is_named():
    """Its widths are rounded to multiples of 8, as those of keras.applications."""
    values = mobilenet_values(None, 0.5)
    name = "MobilenetV2/expanded_conv_1/project/weights"
    values[name] = np.zeros((1, 1, 48, 16), np.float32)
    said = (
        r"unit2_project is of shape \(1, 1, 48, 16\); that of mobilenet_v2_050 is \(1, 1, 48, 12\)"
    )
    with pytest.raises(ValueError, match=f"{said}. Narrow networks of slim .*multiples of 8"):
        rename_tf1(values)


def test_a_checkpoint_of_the_first_format_is_read_too(tmp_path):
    """slim's are single files."""
    values = values_of("tiny", False, None)
    path = tmp_path / "resnet_v1_50.ckpt"
    names = list(values)
    tf.raw_ops.Save(filename=str(path), tensor_names=names, data=[values[name] for name in names])
    assert path.is_file()
    read = open_weights(str(path), "")
    assert read.model == {"backbone": "resnet_tiny"}
    np.testing.assert_array_equal(
        read.values["block4_unit3_2_conv/kernel"],
        values["resnet_v1_tiny/block4/unit_3/bottleneck_v1/conv2/weights"],
    )


@pytest.mark.parametrize(
    "more", ["decoder/feature_projection0/weights", "aspp1_depthwise/depthwise_weights"]
)
def test_deeplabv3_plus_is_refused(more):
    for values in (values_of("tiny", True, 21), mobilenet_values(21, 0.5)):
        with pytest.raises(ValueError, match=f"It is DeepLabv3\\+, not DeepLabv3: it has {more}"):
            rename_tf1({**values, more: np.zeros((1, 1, 3, 3))})


def test_another_network_is_refused():
    with pytest.raises(ValueError, match="not a ResNet-50 or 101 of the authors: .*of no ResNet"):
        rename_tf1({"xception_65/entry_flow/conv1_1/weights": np.zeros((3, 3, 3, 32))})


@pytest.mark.parametrize("name", ["aspp5/weights", "resnet_v1_tiny/conv1/biases", "attention/gain"])
def test_what_such_a_network_does_not_have_is_unknown(name):
    weights = rename_tf1({**values_of("tiny", False, 21), name: np.ones(3)})
    assert weights.unknown == (name,)
    kept = ("/Momentum", "/RMSProp_1", "/Adam", "/ExponentialMovingAverage")
    slots = {f"aspp0/weights{end}": np.ones(3) for end in kept}
    weights = rename_tf1({**values_of("tiny", False, None), **slots, "beta1_power": np.ones(())})
    assert not weights.unknown and slots.keys() <= set(weights.skipped)


def test_another_mean_pixel_than_slims_is_refused():
    values = dict(values_of("tiny", False, None))
    values["resnet_v1_tiny/mean_rgb"] = np.array([123.68, 116.78, 103.94], np.float32)
    with pytest.raises(
        ValueError, match=r"mean_rgb is \[123.68.*subtracts \[123.15, 115.9, 103.06\]"
    ):
        rename_tf1(values)
