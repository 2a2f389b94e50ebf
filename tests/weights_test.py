"""Weights by name into a model: which part, what went where, and nothing half-loaded."""

import numpy as np
import pytest

from model.deeplabv3 import deeplabv3
from pretrained.weights import PARTS, Weights, group_of, load


def network(**arguments):
    return deeplabv3("resnet_tiny", **arguments)


def weights_of(model):
    return {weight.path: weight.numpy() for weight in model.weights}


@pytest.fixture(scope="module")
def source():
    """Weights that no model begins with."""
    rng = np.random.default_rng(0)
    return Weights(
        {
            name: rng.uniform(0.5, 1.5, value.shape).astype("float32")
            for name, value in weights_of(network()).items()
        }
    )


@pytest.mark.parametrize("part", PARTS)
def test_a_part_is_loaded_and_the_rest_left(source, part):
    model = network(output_stride=8)
    before = weights_of(model)
    report = load(model, source, part=part)
    assert sorted(report.loaded + report.skipped) == sorted(source.values)
    assert not report.missing and not report.mismatched
    for name, value in weights_of(model).items():
        expected = source.values[name] if group_of(name) in PARTS[part] else before[name]
        np.testing.assert_array_equal(value, expected, err_msg=name)
    counts = {"whole": 0, "without_logits": 2, "backbone": 2 + 6 * 5}  # ASPP: six convs and norms.
    assert len(report.skipped) == counts[part]


def test_other_classes_take_all_but_the_logits(source):
    model = network(num_classes=3)
    before = weights_of(model)
    with pytest.raises(
        ValueError, match=r"nothing was loaded:\n  logits/bias: \(21,\) there, \(3,\)"
    ):
        load(model, source)
    for name, value in weights_of(model).items():
        np.testing.assert_array_equal(value, before[name])
    report = load(model, source, strict=False)
    assert list(report.mismatched) == ["logits/bias", "logits/kernel"]
    assert len(report.loaded) == len(source.values) - 2
    assert not load(model, source, part="without_logits").mismatched


def test_a_cascade_takes_the_backbone_and_its_own_blocks_stay_random(source):
    model = network(num_blocks=5, atrous_rates=None)
    before = weights_of(model)
    report = load(model, source, part="backbone")
    assert {group_of(name) for name in report.loaded} == {"backbone"}
    assert not report.missing
    cascade = [name for name in before if group_of(name) == "cascade"]
    assert cascade and all(name.startswith("block5_") for name in cascade)
    after = weights_of(model)
    for name in cascade:
        np.testing.assert_array_equal(after[name], before[name], err_msg=name)
    with pytest.raises(ValueError, match="block5_unit1_1_bn/beta: missing(.|\n)*and .* more"):
        load(model, source, part="without_logits")


def test_a_load_of_nothing_is_an_error(source):
    others = {f"other/{name}": value for name, value in source.values.items()}
    for values in ({}, others):
        with pytest.raises(ValueError, match="No weight of the whole fits"):
            load(network(), Weights(values), strict=False)
    with pytest.raises(
        ValueError, match="No init_from.part 'head'.*whole, without_logits, backbone"
    ):
        load(network(), source, part="head")


@pytest.mark.parametrize("value", [np.nan, -np.inf])
@pytest.mark.parametrize("strict", [True, False])
def test_values_that_are_no_numbers_are_refused_by_name(source, value, strict):
    said = "holds non-finite values"
    check_refused(source, "aspp_project_conv/kernel", value, said, strict)


@pytest.mark.parametrize("strict", [True, False])
def test_variances_below_0_are_refused_by_name(source, strict):
    check_refused(source, "aspp_project_bn/moving_variance", -1e-3, "is a variance below 0", strict)


def check_refused(source, name, value, said, strict):
    changed = source.values[name].copy()
    changed.flat[3] = value
    weights = Weights({**source.values, name: changed}, source_names={name: "their.name"})
    model = network()
    before = weights_of(model)
    with pytest.raises(ValueError, match=rf"{name} \(their.name\) {said}.*nothing was loaded"):
        load(model, weights, strict=strict)
    for other, there in weights_of(model).items():
        np.testing.assert_array_equal(there, before[other])
    load(model, weights, part="backbone")  # What is not loaded may be anything.


def test_what_the_model_does_not_have_is_an_error_if_strict(source):
    """Inside the part that is loaded, or where it belongs to nothing that is known."""
    more = {**source.values, "block2_unit1_0_se/kernel": np.ones(3, np.float32)}
    for weights, name in (
        (Weights(more), "block2_unit1_0_se/kernel"),
        (source._replace(unknown=("se.fc1.weight",)), "se.fc1.weight"),
    ):
        with pytest.raises(ValueError, match=f"nothing was loaded:\n  {name}: not in the model"):
            load(network(), weights, part="backbone")
        report = load(network(), weights, part="backbone", strict=False)
        assert report.unknown == [name] and name not in report.skipped
    aspp = {**source.values, "aspp_atrous4_conv/kernel": np.ones(3, np.float32)}
    assert not load(network(), Weights(aspp), part="backbone").unknown
