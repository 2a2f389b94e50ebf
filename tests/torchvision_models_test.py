"""torchvision's networks are ours: the same output from the same random weights and statistics."""

import functools
import json
import tempfile

import keras
import numpy as np
import pytest

from model.deeplabv3 import deeplabv3
from model.resnet import atrous_plan, resnet
from pretrained.torchvision_models import rename_torchvision
from pretrained.weights import load
from tests import make_golden_torchvision
from tests.foreign_networks import UNITS, random_values, torchvision_shapes
from tests.torchvision_process import ask_torchvision

GOLDEN = json.loads(make_golden_torchvision.FILE.read_text())


@functools.cache
def foreign(depth, num_classes):
    return rename_torchvision(random_values(torchvision_shapes(depth, num_classes)))


@functools.cache
def network(depth, output_stride, num_classes):
    """Ours, with torchvision's weights."""
    weights = foreign(depth, num_classes)
    if num_classes:
        model = deeplabv3(**weights.model)
        load(model, weights)
        return model
    images = keras.Input((None, None, 3))
    how = {"output_stride": output_stride, "multi_grid": (1, 1, 1), "batch_norm_decay": 0.9}
    model = keras.Model(images, resnet(images, weights.model["backbone"], **how))
    load(model, weights, part="backbone")
    return model


@functools.cache
def output_of(name):
    case = make_golden_torchvision.CASES[name]
    model = network(case.depth, case.output_stride, case.num_classes)
    return np.array(model(make_golden_torchvision.image_of(case.size)))


@functools.cache
def theirs_now(name):
    """The output of torchvision itself; the test is skipped where it is not installed."""
    code = """
import sys
import numpy as np
from tests.make_golden_torchvision import CASES, by_torchvision
np.save(sys.argv[2], by_torchvision(CASES[sys.argv[1]]))
"""
    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/output.npy"
        ask_torchvision(code, name, file)
        return np.load(file)


@pytest.mark.parametrize("name", make_golden_torchvision.CASES)
def test_the_output_is_torchvisions(name, record_property):
    theirs, ours = theirs_now(name), output_of(name)
    assert ours.shape == theirs.shape
    difference = np.abs(ours - theirs).max() / theirs.std()
    record_property("difference", float(difference))
    assert difference < 1e-4
    assert (ours.argmax(-1) == theirs.argmax(-1)).mean() >= 0.9999


@pytest.mark.parametrize("name", make_golden_torchvision.CASES)
def test_the_output_is_what_torchvision_once_said(name):
    case, theirs, ours = (
        make_golden_torchvision.CASES[name],
        GOLDEN[name],
        make_golden_torchvision.summary(output_of(name)),
    )
    assert ours["shape"] == theirs["shape"]
    values = np.subtract(ours["values"], theirs["values"])
    assert np.abs(values).max() < 1e-4 * theirs["deviation"]
    assert ours["deviation"] == pytest.approx(theirs["deviation"], rel=1e-4)
    if case.num_classes:
        assert ours["shape"][1:3] == list(case.size)
        pairs = list(zip(ours["class_ids"], theirs["class_ids"], strict=True))
        assert np.mean([a == b for a, b in pairs]) >= 0.9999
        assert len(set(theirs["class_ids"])) > 2


@pytest.mark.parametrize("name", make_golden_torchvision.CASES)
def test_the_golden_file_is_what_torchvision_says(name):
    theirs = make_golden_torchvision.summary(theirs_now(name))
    assert theirs["shape"] == GOLDEN[name]["shape"]
    values = np.subtract(theirs["values"], GOLDEN[name]["values"])
    assert np.abs(values).max() < 1e-4 * theirs["deviation"]


@pytest.mark.parametrize("depth", [50, 101])
def test_what_is_there_beside_the_network_is_left_out_and_named(depth):
    weights = foreign(depth, 21)
    assert {name.split(".")[0] for name in weights.skipped} == {"backbone", "aux_classifier"} | {
        "classifier"  # Counts of batches.
    }
    for name in weights.skipped:
        assert name.startswith("aux_classifier.") or name.endswith("num_batches_tracked")
    assert weights.model["backbone"] == f"resnet{depth}_torchvision"
    imagenet = foreign(depth, None)
    kept = [name for name in imagenet.skipped if not name.endswith("num_batches_tracked")]
    assert kept == ["fc.bias", "fc.weight"] and set(imagenet.model) == {"backbone"}


def test_every_weight_there_is_loaded_or_left_out():
    model, weights = network(50, 8, 21), foreign(50, 21)
    report = load(model, weights)
    assert len(report.loaded) + len(weights.skipped) == len(torchvision_shapes(50, 21))
    assert report.renamed == report.loaded and not report.folded


def test_rates_at_output_stride_8_are_torchvisions():
    """replace_stride_with_dilation=[False, True, True]: the first unit keeps the rate before it."""
    how = {"multi_grid": (1, 1, 1), "stride_first": True}
    plan = atrous_plan(UNITS[50], output_stride=8, **how)
    assert [[rate for _, rate in block] for block in plan] == [
        [1] * 3,
        [1] * 4,
        [1] + [2] * 5,
        [2, 4, 4],
    ]
    strides = [[stride for stride, _ in block] for block in plan]
    assert strides == [[1] * 3, [2, 1, 1, 1], [1] * 6, [1] * 3]
    plan = atrous_plan(UNITS[101], output_stride=32, **how)
    assert [[stride for stride, _ in block][0] for block in plan] == [1, 2, 2, 2]
    assert {rate for block in plan for _, rate in block} == {1}


@pytest.mark.parametrize(
    "name",
    [
        "backbone.layer1.0.conv2.bias",
        "backbone.layer1.0.se.fc1.weight",
        "backbone.layer5.0.conv1.weight",
        "classifier.0.convs.5.weight",
        "layer1.0.conv1.weight",
    ],
)
def test_what_such_a_network_does_not_have_is_unknown(name):
    weights = rename_torchvision(wrong(lambda state: state.update({name: np.ones(3)})))
    assert weights.unknown == (name,)


@pytest.mark.parametrize("name", ["classifier.4.bias", "backbone.layer1.0.conv2.weight"])
def test_a_number_in_place_of_a_weight_is_named(name):
    with pytest.raises(ValueError, match=rf"{name} has the shape \(\)"):
        rename_torchvision(wrong(lambda state: state.update({name: np.float32(1)})))


def wrong(change):
    """A state_dict of deeplabv3 with a small ResNet, changed."""
    state = random_values(torchvision_shapes("tiny", 5))
    change(state)
    return state


MISTAKES = {
    "an FCN": (
        lambda state: [state.pop(name) for name in list(state) if ".convs." in name],
        "classifier is not DeepLabv3's",
    ),
    "a ResNet without bottlenecks": (
        lambda state: [state.pop(name) for name in list(state) if ".conv3." in name],
        "not a ResNet-50 or 101 of torchvision",
    ),
    "a wide ResNet": (
        lambda state: state.update(
            {"backbone.layer1.0.conv2.weight": np.zeros((32, 32, 3, 3), np.float32)}
        ),
        r"not a ResNet-50 or 101 of torchvision.*\(3, 3, 32, 32\)",
    ),
    "a ResNet-152": (
        lambda state: state.update({"backbone.layer3.35.conv1.weight": np.zeros((64, 256, 1, 1))}),
        r"blocks have \(1, 1, 36, 3\) units",
    ),
    "something else": (lambda state: state.clear(), "not a ResNet-50 or 101.*of no ResNet"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_another_network_is_named_for_what_it_is(mistake):
    change, said = MISTAKES[mistake]
    with pytest.raises(ValueError, match=said):
        rename_torchvision(wrong(change))
