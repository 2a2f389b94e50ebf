"""The benchmark: candidates compute what they claim, and the right ones are compared."""

import collections
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from benchmark import speed
from benchmark.baselines import pytorch_network, use_stock_keras_layers
from benchmark.cases import (
    CANDIDATES,
    PEAK_FLOPS,
    SECTIONS,
    TARGETS,
    TRAINING,
    TRAINING_16,
    Case,
    case_rows,
    section_to_markdown,
    target_rows,
    to_markdown,
)
from data.files import between_markers
from experiments.base import MULTI_SCALE
from model import layers
from tests.fold_batch_norm_test import IMAGES, with_random_statistics

TINY = Case("inference", "resnet_tiny", output_stride=16, crop_size=33, batch_size=2)
TINY_TRAINING = TINY._replace(task="training")


@pytest.mark.parametrize("candidate", ["SavedModel", "checkpoint"])
def test_inference_gives_class_ids(candidate):
    ids = speed.make_computation(candidate, TINY)()
    assert ids.shape == (2, 33, 33) and ids.dtype == np.uint8


def test_a_step_gives_a_loss():
    assert np.isfinite(speed.make_computation("float32", TINY_TRAINING)())
    assert np.isfinite(speed.make_peak_convolution()())


def test_results_are_relative_to_the_first_candidate_and_to_peak_flops():
    measured = {
        "checkpoint": {"seconds": 2.0, "peak_mb": 100.0, "gigaflops": 30.0},
        "six scales": {"seconds": 5.0, "peak_mb": 150.0, "gigaflops": 40.0},
        PEAK_FLOPS: {"seconds": 1.0, "peak_mb": 10.0, "gigaflops": 50.0},
    }
    lines = case_rows(TINY, measured)
    assert lines[1] == ["checkpoint", "1.000", "1.00", "100", "1.00", "0.60"]
    assert lines[2] == ["six scales", "2.500", "2.50", "150", "1.50", "0.80"]
    assert lines[3] == [PEAK_FLOPS, "-", "-", "-", "-", "1.00"]


def test_operations_are_of_the_work_that_is_done():
    one, six = (speed.count_operations(name, TINY) for name in ("checkpoint", "six scales"))
    assert six / one == pytest.approx(sum(scale**2 for scale in MULTI_SCALE), rel=0.3)
    assert speed.count_operations("six scales and flip", TINY) == 2 * six
    assert speed.count_operations("float32", TINY_TRAINING) == 3 * one


def test_targets_compare_the_candidates_that_they_name():
    measured = {
        name: {"seconds": seconds, "peak_mb": mb, "gigaflops": 1 / seconds}
        for name, seconds, mb in (
            ("float32", 2.0, 3000.0),
            ("mixed_bfloat16", 1.0, 2000.0),
            ("torchvision", 3.0, 4000.0),
            ("Keras's own layers", 8.0, 5000.0),
            (PEAK_FLOPS, 1.5, 100.0),
        )
    }
    head, *lines = target_rows({TRAINING: measured})
    assert [line[1:] for line in lines] == [
        ["at least 1.60", "1.50", "missed"],
        ["at least 1.40", "2.00", "met"],
        ["at least 0.65", "0.75", "met"],
        ["at most 1.00", "0.88", "met"],  # 4,000 MB less TensorFlow's 600.
        ["at least 3.50", "4.00", "met"],
    ]
    for target in TARGETS:
        names = SECTIONS["resnet"].cases[target.case]
        assert {target.candidate, target.relative_to} <= {*names, PEAK_FLOPS}


def test_candidates_are_selected_by_name(monkeypatch):
    names = ["float32", "rematerialize"]
    assert speed.select_candidates(TRAINING, "float32;rematerialize") == names
    with pytest.raises(ValueError, match="No candidate 'float64'; there are float32; "):
        speed.select_candidates(TRAINING, "float64")
    with pytest.raises(ValueError, match="'float32' is named twice"):
        speed.select_candidates(TRAINING, "float32;float32")
    monkeypatch.setattr(speed.importlib.util, "find_spec", lambda name: None)
    assert "jit_compile" in speed.select_candidates(TINY_TRAINING, None)
    assert speed.select_candidates(TRAINING_16, None) == ["float32", "mixed_bfloat16"]


def test_a_case_is_measured_and_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(speed, "ROUNDS", 1)
    result = speed.measure_cases([TINY_TRAINING], "float32")
    measured = result["cases"][0]["measured"]
    assert measured.keys() == {"float32", PEAK_FLOPS} and measured["float32"]["peak_mb"] > 100
    text = section_to_markdown(result)
    assert f"| float32 | {measured['float32']['seconds'] / 2:.3f} | 1.00 |" in text
    assert "**Training, resnet_tiny, output stride 16, 33 x 33, batch size 2**" in text
    assert "turn 2/2" in capsys.readouterr().out


def test_a_section_replaces_itself_alone(tmp_path, monkeypatch):
    file, measured = tmp_path / "results.json", []

    def measure(cases, requested):
        measured.extend(cases)
        return {"cases": len(cases)}

    monkeypatch.setattr(speed, "measure_cases", measure)
    monkeypatch.setattr(speed, "RESULTS", file)
    file.write_text('{"resnet": "kept", "mobilenet_v2": "old"}')
    speed.measure_sections(["mobilenet_v2"], None)
    assert json.loads(file.read_text()) == {"resnet": "kept", "mobilenet_v2": {"cases": 4}}
    assert {case.backbone for case in measured} == {"mobilenet_v2"}
    speed.measure_sections(["resnet"], tmp_path / "new.json")
    assert json.loads((tmp_path / "new.json").read_text()) == {"resnet": {"cases": 9}}


def test_every_case_has_candidates_of_its_task_and_mobilenet_has_none_of_torchvision():
    for section in SECTIONS.values():
        for case, names in section.cases.items():
            assert set(names) <= CANDIDATES[case.task].keys()
            assert speed.default_candidates(case) == list(names)
    of_any_size = speed.default_candidates(Case("inference", "mobilenet_v2_050", 8, 65, 1))
    assert of_any_size[0] == "SavedModel" and "Keras's own layers" in of_any_size
    assert not any(name.startswith("torchvision") for name in of_any_size)


def test_the_page_of_this_repository_is_what_its_results_say():
    """Nobody typed a number."""
    page = speed.PAGE.read_text()
    part = to_markdown(json.loads(speed.RESULTS.read_text()))
    assert between_markers(page, part, speed.MARKERS) == page


def test_mobilenet_in_pytorch_is_the_same_function():
    """With our weights, in inference: the logits of an image."""
    torch = pytest.importorskip("torch")
    arguments = {"multi_grid": (1, 1, 1), "atrous_rates": (), "num_classes": 5}
    ours = with_random_statistics("mobilenet_v2_050", **arguments)
    theirs = pytorch_network(
        "mobilenet_v2_050", output_stride=16, atrous_rates=(), num_classes=5
    ).eval()
    names = [layer.name for layer in ours.layers if layer.weights]
    # In the order of theirs: the pooling branch before the 1x1's.
    names.sort(key=lambda name: name.startswith("aspp_1x1"))
    names.sort(key=lambda name: name.startswith("aspp_project"))
    names.sort(key=lambda name: name.startswith("logits"))
    values = iter(value for name in names for value in ours.get_layer(name).get_weights())
    for module in theirs.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.BatchNorm2d):
            tensors = [module.weight, module.bias]
            if isinstance(module, torch.nn.BatchNorm2d):
                tensors += [module.running_mean, module.running_var]
                of_head = module not in theirs.backbone.modules()
                module.eps = ours.get_layer("aspp_1x1_bn" if of_head else "conv1_bn").epsilon
            for tensor in tensors:
                if tensor is None:
                    continue
                value = next(values)
                if value.ndim == 4:  # [h, w, C, filters]; of a depthwise one [h, w, C, 1].
                    order = (2, 3, 0, 1) if value.shape[3] == 1 < value.shape[0] else (3, 2, 0, 1)
                    value = value.transpose(order)
                tensor.data[:] = torch.tensor(value)
    assert next(values, None) is None
    image = np.random.default_rng(0).integers(0, 256, (1, 65, 97, 3)).astype("float32")
    with torch.no_grad():
        pixels = torch.tensor((image / 127.5 - 1).transpose(0, 3, 1, 2))
        logits = theirs(pixels)["out"].numpy().transpose(0, 2, 3, 1)
    expected = ours(image).numpy()
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4 * expected.std())


def test_with_keras_own_layers_it_is_the_same_function_and_nothing_of_ours(monkeypatch):
    """A training step's graph has the operations of a model that is made of Keras's layers."""
    plan = {"multi_grid": (1, 1, 1)}  # All that we have of our own: with atrous branches, too.
    ours = with_random_statistics("mobilenet_v2_050", **plan)
    expected = ours(IMAGES).numpy()
    made_of_keras = keras.models.clone_model(ours, clone_function=as_keras_layer)
    monkeypatch.setattr(layers, "ON_TENSORFLOW", layers.ON_TENSORFLOW)  # Restores it at the end.
    use_stock_keras_layers()
    stock = with_random_statistics("mobilenet_v2_050", **plan)
    given = stock(IMAGES).numpy()
    np.testing.assert_allclose(given, expected, rtol=0, atol=1e-4 * expected.std())
    assert operations_of_a_step(stock) == operations_of_a_step(made_of_keras)


def as_keras_layer(layer):
    """A layer of ours -> that of Keras which it derives from; every other layer -> a copy."""
    kind, config = type(layer), layer.get_config()
    if kind in (*layers.CONVOLUTIONS, layers.BatchNormalization):
        kind = kind.__base__
    if kind is keras.layers.BatchNormalization:
        config["synchronized"] = False  # Keras's default.
    return kind.from_config(config)


def operations_of_a_step(network):
    """How often each kind of operation is in the graph of the network and its gradients."""

    @tf.function
    def gradients(images):
        with tf.GradientTape() as tape:
            logits = network(images, training=True)
        return tape.gradient(logits, network.trainable_variables)

    graph = gradients.get_concrete_function(tf.TensorSpec(IMAGES.shape)).graph
    return collections.Counter(operation.type for operation in graph.get_operations())


def test_torchvisions_network_is_as_deep_and_dense():
    """Where torchvision is installed; with one 3x3 conv more than ours."""
    try:
        import torch
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"torchvision is unavailable: {error}")
    for output_stride, side in ((8, 9), (16, 5)):
        network = pytorch_network(
            "resnet50", output_stride=output_stride, atrous_rates=(6, 12, 18), num_classes=21
        ).eval()
        with torch.no_grad():
            assert network.backbone(torch.zeros(1, 3, 65, 65))["out"].shape[2:] == (side, side)
        ours = 39_048_533 + 9 * 256**2 + 2 * 256
        assert sum(p.numel() for p in network.parameters()) == ours
