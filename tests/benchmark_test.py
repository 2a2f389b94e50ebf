"""The benchmark: what computes is what it says, and numbers are set beside the right ones."""

import argparse

import numpy as np
import pytest

from experiments import benchmark
from experiments.peers import torchvision_network

SIZES = dict(backbone="resnet_tiny", output_stride=16, crop_size=33, batch_size=2)


def arguments(what, **changed):
    return argparse.Namespace(what=what, contenders=None, **{**SIZES, **changed})


@pytest.mark.parametrize("contender", ["SavedModel", "checkpoint"])
def test_inference_gives_class_ids(contender):
    ids = benchmark.what_computes(contender, arguments("inference"))()
    assert ids.shape == (2, 33, 33) and ids.dtype == np.uint8


def test_a_step_gives_a_loss():
    assert np.isfinite(benchmark.what_computes("float32", arguments("training"))())
    assert np.isfinite(benchmark.ceiling()())


def test_results_are_beside_the_first_and_the_ceiling():
    measured = {
        "checkpoint": {"seconds": 2.0, "peak_mb": 100.0},
        "six scales": {"seconds": 5.0, "peak_mb": 150.0},
        benchmark.CEILING: {"seconds": 1.0, "peak_mb": 10.0},
    }
    rows = benchmark.results(measured, arguments("inference"))
    assert rows[1][:5] == ["checkpoint", "2.000", "1.00", "100", "1.00"]
    assert rows[2][:5] == ["six scales", "5.000", "2.50", "150", "1.50"]
    assert rows[3][0] == benchmark.CEILING and rows[3][5] == "1.00"
    more = measured["six scales"]["gigaflops"] / measured["checkpoint"]["gigaflops"]
    work = sum(scale**2 for scale in benchmark.SCALES)
    assert more * 5 / 2 == pytest.approx(work, rel=0.3)  # Small features are rounded up.


def test_contenders_are_chosen_by_name():
    asked = arguments("training")
    asked.contenders = "float32;rematerialise"
    assert benchmark.chosen(asked) == ["float32", "rematerialise"]
    asked.contenders = "float64"
    with pytest.raises(ValueError, match="No contender 'float64'; there are float32; "):
        benchmark.chosen(asked)


def test_torchvisions_network_is_as_deep_and_dense():
    """Where torchvision is installed; with one 3x3 conv more than ours."""
    try:
        import torch
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"torchvision cannot be asked: {error}")
    for output_stride, side in ((8, 9), (16, 5)):
        config = benchmark.config_of(
            "torchvision", arguments("inference", backbone="resnet50", output_stride=output_stride)
        )
        network = torchvision_network(config).eval()
        with torch.no_grad():
            assert network.backbone(torch.zeros(1, 3, 65, 65))["out"].shape[2:] == (side, side)
        ours = 39_048_533 + 9 * 256**2 + 2 * 256
        assert sum(p.numel() for p in network.parameters()) == ours
