"""The whole model: the published sizes, any image size, one set of weights at any output_stride."""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest

from model.deeplabv3 import deeplabv3
from tests.conftest import ROOT
from training.checkpoints import copy_weights, weights_by_name


@pytest.mark.parametrize(
    "parameters, arguments",
    [
        (39_048_533, dict(backbone="resnet50")),
        (58_040_661, dict(backbone="resnet101")),
        (39_172_309, dict(backbone="resnet50_beta")),
        (58_164_437, dict(backbone="resnet101_beta")),
        (39_048_533, dict(backbone="resnet50_keras")),
        (39_048_533 + 9 * 256**2 + 2 * 256, dict(backbone="resnet50", head="torchvision")),
        (63_714_389, dict(backbone="resnet50", num_blocks=7, atrous_rates=None)),
    ],
)
def test_trainable_parameters(parameters, arguments):
    model = deeplabv3(**arguments)
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_variables) == parameters


@pytest.mark.parametrize("seed", range(8))
def test_logits_have_the_size_of_the_image(seed):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 150, 2)
    if seed == 0:
        height = 1
    model = deeplabv3(
        "resnet_tiny",
        num_classes=5,
        output_stride=int(rng.choice([8, 16, 32])),
        multi_grid=tuple(rng.integers(1, 4, 3).tolist()),
        atrous_rates=(2, 4, 6) if rng.integers(2) else None,
        num_blocks=int(rng.integers(4, 8)),
    )
    logits = np.array(model(rng.uniform(0, 255, (2, height, width, 3)).astype("float32")))
    assert logits.shape == (2, height, width, 5)
    assert logits.dtype == np.float32
    assert np.isfinite(logits).all()


@pytest.mark.parametrize("cascade", [False, True])
def test_one_set_of_weights_loads_at_any_output_stride(cascade):
    arguments = dict(backbone="resnet_tiny", image_pooling=False, atrous_rates=(2, 4, 6))
    strides = (8, 16, 32)
    if cascade:
        arguments |= dict(num_blocks=7, atrous_rates=None)
        strides = (8, 16, 32, 64, 128, 256)
    models = [deeplabv3(**arguments, output_stride=stride) for stride in strides]
    shapes = [{n: tuple(w.shape) for n, w in weights_by_name(model).items()} for model in models]
    assert all(other == shapes[0] for other in shapes)
    images = np.random.default_rng(0).uniform(0, 255, (1, 97, 129, 3)).astype("float32")
    for model in models[1:]:
        copy_weights(models[0], model)
    logits = [np.array(model(images)) for model in models]
    # Atrous rates keep what a feature sees, so corners, where all features lie, agree.
    for other in logits[1:]:
        np.testing.assert_allclose(other[:, 0, 0], logits[0][:, 0, 0], rtol=1e-3, atol=1e-3)


def test_without_image_pooling_there_is_no_such_branch():
    with_pooling, without = (
        set(weights_by_name(deeplabv3("resnet_tiny", image_pooling=pooling)))
        for pooling in (True, False)
    )
    assert without < with_pooling
    assert all("pool" in name for name in with_pooling - without)


@pytest.mark.parametrize("num_blocks", [3, 8])
def test_other_numbers_of_blocks_are_refused(num_blocks):
    with pytest.raises(ValueError, match="4 to 7"):
        deeplabv3("resnet_tiny", num_blocks=num_blocks)


def test_the_decay_of_batch_norm_reaches_every_batch_norm():
    model = deeplabv3("resnet_tiny", batch_norm_decay=0.5)
    norms = [layer for layer in model.layers if layer.name.endswith("_bn")]
    assert len(norms) > 20
    assert {(norm.momentum, norm.epsilon) for norm in norms} == {(0.5, 1e-5)}


def test_every_kernel_decays_and_nothing_else():
    """The authors' code: 1e-4 / 2 * sum(kernel^2), on convolution kernels only."""
    model = deeplabv3("resnet_tiny")
    kernels = [weight for weight in model.trainable_variables if weight.path.endswith("/kernel")]
    assert len(model.losses) == len(kernels)
    expected = sum(0.5e-4 * np.sum(np.square(np.array(kernel))) for kernel in kernels)
    np.testing.assert_allclose(sum(map(float, model.losses)), expected, rtol=1e-5)


@pytest.mark.skipif(not importlib.util.find_spec("jax"), reason="jax is not installed")
def test_jax_gives_the_same_logits(tmp_path):
    """model/ under KERAS_BACKEND=jax: the same logits from the same weights as under TensorFlow."""
    program = """
import sys
import numpy as np
from model.deeplabv3 import deeplabv3
model = deeplabv3("resnet_tiny")
rng = np.random.default_rng(0)
for weight in model.weights:
    if weight.path.endswith("/kernel"):
        weight.assign(0.1 * rng.normal(size=weight.shape))
    else:
        weight.assign(rng.uniform(0.5, 1.5, weight.shape))
images = rng.uniform(0, 255, (2, 70, 53, 3)).astype("float32")
np.save(sys.argv[1], model.predict_on_batch(images))
"""
    for backend in ("tensorflow", "jax"):
        environment = {**os.environ, "KERAS_BACKEND": backend}
        command = [sys.executable, "-c", program, tmp_path / f"{backend}.npy"]
        subprocess.run(command, cwd=ROOT, env=environment, check=True)
    logits = [np.load(tmp_path / f"{backend}.npy") for backend in ("tensorflow", "jax")]
    assert np.abs(logits[0] - logits[1]).max() < 1e-3 * logits[0].std()
