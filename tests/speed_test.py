"""The benchmark: candidates compute what they claim, and the right ones are compared."""

import collections
import importlib.util
import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from benchmark import keras_candidates, speed, turns
from benchmark.cases import (
    CANDIDATES,
    INFERENCE,
    OF_PYTORCH,
    PEAK_FLOPS,
    SECTIONS,
    TARGETS,
    TRAINING,
    TRAINING_16,
    Case,
    case_rows,
    in_bfloat16,
    relative_time,
    remarks,
    section_to_markdown,
    target_rows,
    to_markdown,
)
from benchmark.turns import Turns
from data.files import between_markers
from experiments.base import MULTI_SCALE
from model import layers
from tests.conftest import ROOT
from tests.fold_batch_norm_test import IMAGES, with_random_statistics
from tests.torchvision_process import ask_torchvision

FROZEN = "SavedModel, frozen weights"
TINY = Case("inference", "resnet_tiny", output_stride=16, crop_size=33, batch_size=2)
TINY_TRAINING = TINY._replace(task="training")


def measured_of(seconds, mb=100.0, spread=0.01):
    how = {"spread": spread, "peak_mib": mb, "gigaflops": 60 / seconds}
    return {"seconds": seconds, "turns": [seconds] * 3, **how}


def test_ratios_are_of_turns_in_pairs():
    """What slows two of one round alike has no part in them."""
    ours, theirs = {"turns": [1.0, 1.0, 9.0, 1.0, 2.0]}, {"turns": [2.0, 2.0, 18.0, 2.0, 2.0]}
    assert relative_time(theirs, ours) == 2.0


def test_inference_gives_class_ids():
    ids = keras_candidates.make_computation(TINY)()
    assert ids.shape == (2, 33, 33) and ids.dtype == np.uint8


def test_a_step_gives_a_loss():
    assert np.isfinite(keras_candidates.make_computation(TINY_TRAINING)())
    assert np.isfinite(keras_candidates.make_peak_convolution()())


def test_results_are_relative_to_the_first_candidate_and_to_peak_flops():
    measured = {
        "checkpoint": measured_of(2.0),
        "six scales": measured_of(5.0, 150.0, 0.12),
        PEAK_FLOPS: measured_of(1.0),
    }
    lines = case_rows(TINY, measured)
    assert lines[1] == ["checkpoint", "1.000", "1.00", "1", "100", "1.00", "0.50"]
    assert lines[2] == ["six scales", "2.500", "2.50", "12", "150", "1.50", "0.20"]
    assert lines[3] == [PEAK_FLOPS, "-", "-", "-", "-", "-", "1.00"]
    assert remarks(measured, 0.02) == "Spread over 10 %, also when repeated: six scales."
    assert remarks({}, 0.2) == "The machine was not quiet: other load took 20 %."


def test_operations_are_of_the_work_that_is_done():
    one, six = (speed.count_operations(TINY, name) for name in ("checkpoint", "six scales"))
    assert six / one == pytest.approx(sum(scale**2 for scale in MULTI_SCALE), rel=0.3)
    assert speed.count_operations(TINY, "six scales and flip") == 2 * six
    assert speed.count_operations(TINY_TRAINING, "ours") == 3 * one


def test_targets_compare_with_the_best_of_the_peers():
    """In time and in memory, the best may be another."""
    measured = {
        "ours": measured_of(2.0, 3000.0),
        "PyTorch": measured_of(3.0, 2500.0),
        "PyTorch, compiled": measured_of(2.8, 4000.0),
        PEAK_FLOPS: measured_of(1.5),
    }
    inference = {"SavedModel": measured_of(2.0, 950.0), FROZEN: measured_of(1.0)}
    inference["OpenVINO"] = measured_of(1.25)
    head, *lines = target_rows({TRAINING: measured, INFERENCE: inference})
    assert [[line[0], *line[2:]] for line in lines] == [
        ["training time", "PyTorch, compiled", "at least 1.35", "1.40", "met"],
        ["training memory", "PyTorch", "at most 1.00", "1.20", "missed"],
        ["inference time of SavedModel", "OpenVINO", "at least 1.00", "0.62", "missed"],
        ["inference memory of SavedModel", "", "at most 900 MiB", "950 MiB", "missed"],
        [f"inference time of {FROZEN}", "OpenVINO", "at least 1.00", "1.25", "met"],
        [f"inference memory of {FROZEN}", "", "at most 900 MiB", "100 MiB", "met"],
    ]
    cases = {case: names for section in SECTIONS.values() for case, names in section.cases.items()}
    for target in TARGETS:
        names = cases[target.case]
        assert target.candidate in names
        assert not target.peers or set(target.peers) & set(names)


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["resnet", "--backbone=resnet101"], "--backbone is for a single case"),
        (["all", "--candidates=ours"], "--candidates is for a single case"),
        (["report", "--output=x.json"], "report writes docs/speed.md"),
        (["training", "--output_stride=3"], "output_stride 3 is not possible"),
        (["training", "--crop_size=0"], "--crop_size is 0; it must be at least 1"),
        (["inference", "--backbone=vgg"], "No backbone 'vgg'"),
        (
            ["inference", "--precision=mixed_bfloat16", "--candidates=LiteRT"],
            "LiteRT runs float32 exports alone",
        ),
    ],
)
def test_mistakes_are_named_before_anything_is_measured(monkeypatch, arguments, said):
    monkeypatch.setattr(sys, "argv", ["speed", *arguments])
    with pytest.raises(SystemExit, match=said):
        speed.main()


def test_candidates_are_selected_by_name(monkeypatch, capsys):
    names = ["ours", "ours, rematerialize"]
    assert speed.select_candidates(TRAINING, "ours;ours, rematerialize") == names
    with pytest.raises(ValueError, match="No candidate 'float64'; there are ours; "):
        speed.select_candidates(TRAINING, "float64")
    with pytest.raises(ValueError, match="'ours' is named twice"):
        speed.select_candidates(TRAINING, "ours;ours")
    monkeypatch.setattr(speed.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="--candidates needs what is missing: torch, torchvision"):
        speed.select_candidates(TRAINING, "ours;PyTorch")
    assert "ours, jit_compile" in speed.select_candidates(TINY_TRAINING, None)
    assert speed.select_candidates(TRAINING_16, None) == ["ours"]
    assert speed.select_candidates(INFERENCE, None)[:3] == ["SavedModel", FROZEN, "checkpoint"]
    assert "Missing, and skipped: ai_edge_litert, onnxruntime, " in capsys.readouterr().out


def test_a_case_is_measured_and_written(monkeypatch, capsys):
    """With an export and a model: each in its process, by what that process is given."""
    monkeypatch.setattr(turns, "ROUNDS", 2)
    monkeypatch.setattr(turns, "SECONDS_PER_TURN", 0.1)
    result = speed.measure_cases([TINY], f"{FROZEN};checkpoint", "a1b2c3d")
    measured = result["cases"][0]["measured"]
    assert measured.keys() == {FROZEN, "checkpoint", PEAK_FLOPS}
    assert measured[FROZEN]["peak_mib"] > 100 and len(measured[FROZEN]["turns"]) == 2
    text = section_to_markdown(json.loads(json.dumps(result)))
    assert f"| checkpoint | {measured['checkpoint']['seconds'] / 2:.3f} |" in text
    assert "**Inference, resnet_tiny, output stride 16, 33 x 33, batch size 2, float32**" in text
    assert "turn 6/6" in capsys.readouterr().out


def test_turns_that_differ_are_repeated_and_the_steadier_ones_count(monkeypatch):
    steady, wild, mild = [1.0] * 5, [1.0, 1.0, 2.0, 3.0, 3.0], [1.0, 1.0, 1.1, 1.2, 1.3]
    assert Turns(mild, 0.0).spread == pytest.approx(0.2 / 1.1)
    for tries, kept in (
        ([steady, wild, wild], 0),
        ([wild, mild, wild], 1),
        ([wild, mild, steady], 2),
    ):
        results = iter([({"a": Turns(values, 0.0)}, 0.0) for values in tries])
        monkeypatch.setattr(turns, "take_turns", lambda processes, results=results: next(results))
        assert turns.take_steady_turns({})[0]["a"].seconds == tries[kept]


def test_other_load_is_seen():
    """Of a process that works beside the one that is measured."""
    if not os.path.exists("/proc/stat"):
        pytest.skip("The system does not tell.")
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        before = [turns.cpu_seconds(processes) for processes in ([], [busy])]
        deadline = busy_seconds(busy) + 0.5
        while busy_seconds(busy) < deadline:
            pass
        after = [turns.cpu_seconds(processes) for processes in ([], [busy])]
    finally:
        busy.kill()
    all_load, beside_it = (later - earlier for earlier, later in zip(before, after, strict=True))
    assert all_load - beside_it == pytest.approx(0.5, abs=0.2)


def busy_seconds(process):
    return turns.cpu_seconds([]) - turns.cpu_seconds([process])


def test_a_section_replaces_itself_alone(tmp_path, monkeypatch):
    file, measured = tmp_path / "results.json", []

    def measure(cases, requested, commit):
        measured.extend(cases)
        return {"cases": len(cases)}

    monkeypatch.setattr(speed, "measure_cases", measure)
    monkeypatch.setattr(speed, "RESULTS", file)
    file.write_text('{"resnet": "kept", "mobilenet_v2": "old"}')
    speed.measure_sections(["mobilenet_v2"], None)
    assert json.loads(file.read_text()) == {"resnet": "kept", "mobilenet_v2": {"cases": 4}}
    assert {case.backbone for case in measured} == {"mobilenet_v2"}
    speed.measure_sections(["resnet"], tmp_path / "new.json")
    assert json.loads((tmp_path / "new.json").read_text()) == {"resnet": {"cases": 10}}


def test_every_case_has_candidates_of_its_task():
    for section in SECTIONS.values():
        for case, names in section.cases.items():
            assert set(names) <= CANDIDATES[case.task].keys()
            assert speed.default_candidates(case) == list(names)
    assert set(OF_PYTORCH) <= CANDIDATES["training"].keys() & CANDIDATES["inference"].keys()
    of_any_size = speed.default_candidates(in_bfloat16(TINY))
    assert "OpenVINO" in of_any_size and "LiteRT" not in of_any_size


def test_openvino_and_the_saved_model_compute_in_the_precision_of_the_case(tmp_path):
    for case, precision in ((TINY, {}), (in_bfloat16(TINY), {"precision": "bf16"})):
        job = speed.make_job(case, "OpenVINO", tmp_path)
        assert job.arguments["options"] == precision
        assert job.arguments["artifact"] == str(tmp_path / "onnx" / "model.onnx")
    frozen = [
        speed.make_job(TINY, name, tmp_path).arguments["options"]["frozen_weights"]
        for name in ("SavedModel", FROZEN)
    ]
    assert frozen == [False, True]


def test_the_page_of_this_repository_is_what_its_results_say():
    """Nobody typed a number."""
    page = speed.PAGE.read_text()
    part = to_markdown(json.loads(speed.RESULTS.read_text()))
    assert between_markers(page, part, speed.MARKERS) == page


@pytest.mark.parametrize("module", ["benchmark.turns", "benchmark.pytorch_candidates"])
def test_other_frameworks_processes_do_not_import_tensorflow(module):
    """With PyTorch's default wheel, torchvision after TensorFlow is a segmentation fault."""
    if module.endswith("pytorch_candidates") and not importlib.util.find_spec("torch"):
        pytest.skip("PyTorch is not installed.")
    code = f"import sys, {module}; sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_mobilenet_in_pytorch_is_the_same_function():
    """With our weights, in inference: the logits of an image."""
    torch = pytest.importorskip("torch")
    arguments = {"multi_grid": (1, 1, 1), "atrous_rates": (), "num_classes": 5}
    ours = with_random_statistics("mobilenet_v2_050", **arguments)
    from benchmark.pytorch_candidates import make_network

    case = Case("inference", "mobilenet_v2_050", 16, 65, 1)
    theirs = make_network({**speed.pytorch_arguments(case), "num_classes": 5}).eval()
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
    keras_candidates.use_stock_keras_layers()
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
    code = """
import json, sys, torch
from benchmark.pytorch_candidates import make_network
network = make_network(json.loads(sys.argv[1])).eval()
with torch.no_grad():
    features = network.backbone(torch.zeros(1, 3, 65, 65))["out"]
print(list(features.shape[2:]), sum(p.numel() for p in network.parameters()))
"""
    for output_stride, side in ((8, 9), (16, 5)):
        arguments = speed.pytorch_arguments(TRAINING._replace(output_stride=output_stride))
        said = ask_torchvision(code, json.dumps(arguments))
        assert said == f"[{side}, {side}] {39_048_533 + 9 * 256**2 + 2 * 256}"
    with pytest.raises(ValueError, match="torchvision has no resnet_tiny at output_stride 16"):
        speed.pytorch_arguments(TINY)
