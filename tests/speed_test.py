"""The benchmark: what computes is what it says, and numbers are set beside the right ones."""

import json

import numpy as np
import pytest

from benchmark import speed
from benchmark.baselines import torchvision_network
from benchmark.cases import (
    CASES,
    CEILING,
    CONTENDERS,
    GOALS,
    TRAINING,
    TRAINING_16,
    Case,
    goal_rows,
    in_markdown,
    rows,
)
from experiments.base import MULTI_SCALE

TINY = Case("inference", "resnet_tiny", output_stride=16, crop_size=33, batch_size=2)
TINY_TRAINING = TINY._replace(what="training")


@pytest.mark.parametrize("contender", ["SavedModel", "checkpoint"])
def test_inference_gives_class_ids(contender):
    ids = speed.what_computes(contender, TINY)()
    assert ids.shape == (2, 33, 33) and ids.dtype == np.uint8


def test_a_step_gives_a_loss():
    assert np.isfinite(speed.what_computes("float32", TINY_TRAINING)())
    assert np.isfinite(speed.ceiling()())


def test_results_are_beside_the_first_and_the_ceiling():
    measured = {
        "checkpoint": {"seconds": 2.0, "peak_mb": 100.0, "gigaflops": 30.0},
        "six scales": {"seconds": 5.0, "peak_mb": 150.0, "gigaflops": 40.0},
        CEILING: {"seconds": 1.0, "peak_mb": 10.0, "gigaflops": 50.0},
    }
    lines = rows(TINY, measured)
    assert lines[1] == ["checkpoint", "1.000", "1.00", "100", "1.00", "0.60"]
    assert lines[2] == ["six scales", "2.500", "2.50", "150", "1.50", "0.80"]
    assert lines[3] == [CEILING, "-", "-", "-", "-", "1.00"]


def test_operations_are_of_the_work_that_is_done():
    one, six = (speed.operations(name, TINY) for name in ("checkpoint", "six scales"))
    assert six / one == pytest.approx(sum(scale**2 for scale in MULTI_SCALE), rel=0.3)
    assert speed.operations("six scales and flip", TINY) == 2 * six
    assert speed.operations("float32", TINY_TRAINING) == 3 * one


def test_goals_are_of_the_contenders_that_they_name():
    of_training = {
        name: {"seconds": seconds, "peak_mb": mb, "gigaflops": 1 / seconds}
        for name, seconds, mb in (
            ("float32", 2.0, 3000.0),
            ("mixed_bfloat16", 1.0, 2000.0),
            ("torchvision", 3.0, 4000.0),
            ("Keras's own layers", 8.0, 5000.0),
            (CEILING, 1.5, 100.0),
        )
    }
    head, *lines = goal_rows({TRAINING: of_training})
    assert [line[1:] for line in lines] == [
        ["at least 1.60", "1.50", "missed"],
        ["at least 1.40", "2.00", "met"],
        ["at least 0.65", "0.75", "met"],
        ["at most 1.00", "0.88", "met"],  # Of 4,000 MB less TensorFlow's 600.
        ["at least 3.50", "4.00", "met"],
    ]
    for goal in GOALS:
        names = list(CONTENDERS[goal.case.what])[: CASES[goal.case]]
        assert {goal.contender, goal.unit} <= {*names, CEILING}


def test_contenders_are_chosen_by_name(monkeypatch):
    assert speed.chosen(TRAINING, "float32;rematerialize") == ["float32", "rematerialize"]
    with pytest.raises(ValueError, match="No contender 'float64'; there are float32; "):
        speed.chosen(TRAINING, "float64")
    with pytest.raises(ValueError, match="'float32' is named twice"):
        speed.chosen(TRAINING, "float32;float32")
    monkeypatch.setattr(speed.importlib.util, "find_spec", lambda name: None)
    assert "jit_compile" in speed.chosen(TINY_TRAINING, None)
    assert speed.chosen(TRAINING_16, None) == ["float32", "mixed_bfloat16"]


def test_a_case_is_measured_and_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(speed, "ROUNDS", 1)
    speed.run([TINY_TRAINING], "float32", tmp_path / "result.json")
    result = json.loads((tmp_path / "result.json").read_text())
    measured = result["cases"][0]["measured"]
    assert measured.keys() == {"float32", CEILING} and measured["float32"]["peak_mb"] > 100
    text = in_markdown(result)
    assert f"| float32 | {measured['float32']['seconds'] / 2:.3f} | 1.00 |" in text
    assert "**Training, resnet_tiny, output stride 16, 33 x 33, batch of 2**" in text
    assert "turn 2/2" in capsys.readouterr().out


def test_torchvisions_network_is_as_deep_and_dense():
    """Where torchvision is installed; with one 3x3 conv more than ours."""
    try:
        import torch
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"torchvision cannot be asked: {error}")
    for output_stride, side in ((8, 9), (16, 5)):
        case = TINY._replace(backbone="resnet50", output_stride=output_stride)
        config = speed.config_of("torchvision", case)
        network = torchvision_network(config).eval()
        with torch.no_grad():
            assert network.backbone(torch.zeros(1, 3, 65, 65))["out"].shape[2:] == (side, side)
        ours = 39_048_533 + 9 * 256**2 + 2 * 256
        assert sum(p.numel() for p in network.parameters()) == ours
