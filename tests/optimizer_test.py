"""The optimizer and its learning rate."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.train_step_test import one_batch, trained_by
from tests.train_test import SMALL, small_config
from training.optimizer import SGD


def test_the_learning_rate_falls_as_published():
    """Sec. 4.1: initial x (1 - iter / max_iter)^0.9."""
    state, train_step = trained_by(small_config())
    for step in range(3):
        assert state.steps_taken() == step
        expected = 0.05 * (1 - step / SMALL["steps"]) ** 0.9
        assert float(state.optimizer.learning_rate) == pytest.approx(expected, rel=1e-5)
        train_step(*one_batch())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_optimizer_is_kerass(dtype):
    rng = np.random.default_rng(0)
    start = rng.normal(size=(3, 5)).astype(dtype)
    gradients = rng.normal(size=(4, 3, 5)).astype(dtype)
    weights = []
    for kind in (keras.optimizers.SGD, SGD):
        optimizer = kind(
            keras.optimizers.schedules.PolynomialDecay(0.5, 4, power=0.9), momentum=0.9
        )
        weight = keras.Variable(start, dtype=dtype)
        optimizer.build([weight])
        for gradient in gradients:
            optimizer.apply([tf.constant(gradient)], [weight])
        weights.append(weight.numpy())
    assert np.abs(weights[0] - start).min() > 0
    np.testing.assert_allclose(*weights, atol=1e-6)
