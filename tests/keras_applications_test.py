"""keras.applications' networks are ours: the same features from the same random weights."""

import functools
import re

import h5py
import keras
import numpy as np
import pytest
from keras.applications import resnet as keras_resnet

from model.deeplabv3 import deeplabv3
from model.layers import BATCH_NORM_EPSILON
from model.resnet import resnet
from pretrained.initialize import initialize
from pretrained.keras_applications import EPSILON, from_keras, rename_keras
from pretrained.load_model import load_model
from pretrained.weights import load
from tests.foreign_networks import random_values

NETWORKS = {50: keras_resnet.ResNet50, 101: keras_resnet.ResNet101}


@functools.cache
def theirs(depth):
    """keras.applications' network with random weights and statistics, and those by their names."""
    model = NETWORKS[depth](weights=None, include_top=False, input_shape=(None, None, 3))
    values = random_values({weight.path: weight.shape for weight in model.weights})
    for weight in model.weights:
        weight.assign(values[weight.path])
    return model, values


def ours_without_weights(depth, output_stride):
    images = keras.Input((None, None, 3))
    how = {"output_stride": output_stride, "multi_grid": (1, 1, 1), "batch_norm_decay": 0.9}
    return keras.Model(images, resnet(images, f"resnet{depth}_keras", **how))


def ours(depth, output_stride):
    model = ours_without_weights(depth, output_stride)
    load(model, rename_keras(theirs(depth)[1]), part="backbone")
    return model


def image_of(size):
    return np.random.default_rng(0).integers(0, 256, (1, *size, 3)).astype("float32")


@pytest.mark.parametrize(
    "depth, output_stride, sizes",
    [(50, 32, [(65, 97), (64, 90)]), (50, 8, [(65, 90)]), (101, 16, [(97, 65), (64, 96)])],
)
def test_the_features_are_those_of_keras_applications(depth, output_stride, sizes):
    """Theirs have stride 32 only: at others, every second or fourth of ours."""
    model = ours(depth, output_stride)
    for size in sizes:
        image = image_of(size)
        expected = np.array(theirs(depth)[0](keras_resnet.preprocess_input(image.copy())))
        every = 32 // output_stride
        features = np.array(model(image))[:, ::every, ::every]
        assert features.shape == expected.shape
        assert np.abs(features - expected).max() < 1e-4 * expected.std()
        assert (features.argmax(-1) == expected.argmax(-1)).mean() >= 0.9999


@functools.cache
def their_mobilenet(alpha=1.0, size=(65, 97)):
    """Padded for its size: at odd sides on all sides alike, as ours."""
    model = keras.applications.MobileNetV2((*size, 3), alpha, weights=None, include_top=False)
    values = random_values({weight.path: weight.shape for weight in model.weights})
    for weight in model.weights:
        if "depthwise" in weight.path and weight.path.endswith("kernel"):
            values[weight.path] = 0.5 * np.random.default_rng(0).normal(size=weight.shape)
        weight.assign(values[weight.path])
    return model


@pytest.mark.parametrize("output_stride", [32, 8])
def test_the_features_of_mobilenet_are_those_of_keras_applications(output_stride):
    theirs = their_mobilenet()
    theirs = keras.Model(theirs.input, theirs.get_layer("block_16_project_BN").output)
    weights = rename_keras({weight.path: weight.numpy() for weight in their_mobilenet().weights})
    assert len(weights.skipped) == 5 and not weights.unknown  # The last 1x1, to 1280 channels.
    model = deeplabv3(**weights.model, output_stride=output_stride)
    load(model, weights, part="backbone")
    model = keras.Model(model.input, model.get_layer("unit17_out").output)
    every, image = 32 // output_stride, image_of((65, 97))
    expected = np.array(theirs(image / 127.5 - 1))
    features = np.array(model(image))[:, ::every, ::every]
    assert features.shape == expected.shape
    difference = features - expected  # Of sixty layers, each rounded.
    assert difference.std() < 2e-5 * expected.std()
    assert np.abs(difference).max() < 3e-4 * expected.std()


def write_as_published(path, model):
    """As Keras's files for ImageNet: layers of other names than the network's, a classifier."""
    values = {"Logits/kernel:0": np.zeros((1280, 1000)), "Logits/bias:0": np.zeros(1000)}
    for weight in model.weights:
        layer, kind = weight.path.split("/")
        if match := re.fullmatch(r"(?:block_(\d+)|expanded_conv)_([a-z]+)(_BN)?", layer):
            number, conv, is_batch_norm = match.groups(default="0")
            layer = f"mobl{number}_conv_{number}_{conv}"
            if is_batch_norm == "_BN":
                layer = f"bn{number}_conv_{number}_bn_{conv}"
            elif conv == "depthwise":
                kind = "depthwise_kernel"
        values[f"{layer}/{kind}:0"] = weight.numpy()
    with h5py.File(path, "w") as file:
        for name, value in values.items():
            file[f"{name.split('/')[0]}/{name}"] = value


@pytest.mark.parametrize("name", ["x.weights.h5", "x.h5", "published.h5"])
def test_a_file_of_mobilenet_is_read(name, tmp_path):
    if name == "x.weights.h5":
        their_mobilenet().save_weights(tmp_path / name)
    elif name == "x.h5":
        their_mobilenet().save(tmp_path / name)
    else:
        write_as_published(tmp_path / name, their_mobilenet())
    weights = from_keras(tmp_path / name)
    assert weights.model["backbone"] == "mobilenet_v2"
    expected = rename_keras({weight.path: weight.numpy() for weight in their_mobilenet().weights})
    assert weights.values.keys() == expected.values.keys()
    assert not weights.unknown
    for path, value in expected.values.items():
        np.testing.assert_array_equal(weights.values[path], value)
    model = deeplabv3(**weights.model)
    assert len(load(model, weights, part="backbone").loaded) == len(expected.values)


def test_mobilenet_for_imagenet_is_downloaded(monkeypatch):
    """For training, and in Python. At other widths there is none."""

    def download(weights, include_top, input_shape):
        assert weights == "imagenet" and not include_top
        return their_mobilenet()

    monkeypatch.setattr(keras.applications, "MobileNetV2", download)
    theirs = their_mobilenet().get_layer("block_16_depthwise").weights[0].numpy()
    arguments = {"backbone": "mobilenet_v2", "multi_grid": (1, 1, 1), "atrous_rates": ()}
    trained, how = deeplabv3(**arguments), {"path": "imagenet", "part": "backbone", "strict": True}
    initialize(trained, arguments, **how)
    for model in (trained, load_model("imagenet", backbone="mobilenet_v2")):
        np.testing.assert_array_equal(model.get_layer("unit17_depthwise_conv").weights[0], theirs)
    there = "for the backbones .*mobilenet_v2, not mobilenet_v2_050"
    with pytest.raises(ValueError, match=there):
        load_model("imagenet", backbone="mobilenet_v2_050")
    with pytest.raises(ValueError, match=f"{there}.* --config.init_from.path=FILE.h5"):
        initialize(None, {**arguments, "backbone": "mobilenet_v2_050"}, **how)


def test_mobilenets_of_another_width_are_refused():
    """At 0.5 Keras's are rounded to multiples of 8, the authors' are not."""
    narrow = {weight.path: weight.numpy() for weight in their_mobilenet(0.5).weights}
    said = r"alpha 1: its unit2_project is of shape \(1, 1, 48, 16\); .*_050 is"
    with pytest.raises(ValueError, match=f"{said} .* rounded to multiples of 8"):
        rename_keras(narrow)


def test_every_weight_there_is_renamed_or_folded_and_none_is_left_out():
    weights = rename_keras(theirs(50)[1])
    assert weights.model == {"backbone": "resnet50_keras"} and not weights.skipped
    means = [name for name in weights.folded if name.endswith("moving_mean")]
    assert len(means) == 53 and len(weights.folded) == 2 * 53  # Each conv has a batch norm.
    assert not any(name.endswith("/bias") for name in weights.values)
    top = {"predictions/kernel": np.zeros((2048, 1000)), "predictions/bias": np.zeros(1000)}
    assert rename_keras({**theirs(50)[1], **top}).skipped == tuple(sorted(top))


def test_another_epsilon_and_a_bias_are_the_same_numbers_once_folded():
    """Where a variance is as small as the epsilons, as in channels that are next to unused."""
    values = dict(theirs(50)[1])
    rng = np.random.default_rng(0)
    values["conv1_bn/moving_variance"] = np.full(64, 1e-6, np.float32)
    folded = rename_keras(values).values
    mean, variance = (folded[f"conv1_bn/moving_{name}"] for name in ("mean", "variance"))
    x, bias = rng.normal(size=64), values["conv1_conv/bias"]
    expected = (x + bias - values["conv1_bn/moving_mean"]) / np.sqrt(1e-6 + EPSILON)
    np.testing.assert_allclose(
        (x - mean) / np.sqrt(variance + BATCH_NORM_EPSILON), expected, rtol=1e-5, atol=1e-3
    )
    unfolded = (x - mean) / np.sqrt(1e-6 + BATCH_NORM_EPSILON)
    assert np.abs(unfolded / expected - 1).max() > 1e-4


def test_another_network_of_keras_applications_is_refused():
    with pytest.raises(ValueError, match="not a ResNet-50 or 101 of keras.applications"):
        rename_keras({"Conv1/kernel": np.zeros((3, 3, 3, 32))})
    with pytest.raises(ValueError, match="It is a ResNet of version 2; only version 1"):
        rename_keras({**theirs(50)[1], "post_bn/gamma": np.zeros(2048)})


def test_a_conv_whose_bias_is_not_there_has_no_mean_either():
    """Its batch norm's mean would be another one than ours has to be."""
    values = dict(theirs(50)[1])
    del values["conv1_conv/bias"]
    model = ours_without_weights(50, 16)
    with pytest.raises(ValueError, match=r"conv1_bn/moving_mean \(conv1_conv/bias\): missing"):
        load(model, rename_keras(values), part="backbone")


def test_a_bias_of_another_shape_is_named():
    """One number would be taken off every channel's mean."""
    values = {**theirs(50)[1], "conv1_conv/bias": np.ones(1)}
    with pytest.raises(ValueError, match=r"conv1_conv/bias has the shape \(1,\), .*mean \(64,\)"):
        rename_keras(values)


@pytest.mark.parametrize(
    "name", ["conv2_block1_1_se/kernel", "conv1_conv/gain", "attention/kernel"]
)
def test_what_such_a_network_does_not_have_is_unknown(name):
    assert rename_keras({**theirs(50)[1], name: np.ones(3)}).unknown == (name,)
