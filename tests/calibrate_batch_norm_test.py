"""Batch norm that was folded away: put back, it changes nothing and can be trained."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import train
from model.deeplabv3 import deeplabv3
from pretrained.calibrate_batch_norm import NUM_IMAGES, calibrate_batch_norm
from tests.fold_batch_norm_test import with_random_statistics
from tests.train_test import small_config
from training.checkpoints import Checkpoints


@pytest.fixture
def model():
    return with_random_statistics("mobilenet_v2_050", multi_grid=(1, 1, 1), atrous_rates=())


def batches(batch_size):
    images = np.random.default_rng(0).integers(0, 256, (NUM_IMAGES, 33, 33, 3)).astype("uint8")
    return [
        (tf.constant(images[i : i + batch_size]), None) for i in range(0, NUM_IMAGES, batch_size)
    ]


def calibrate(model, names, batch_size):
    strategy = tf.distribute.get_strategy()
    calibrate_batch_norm(
        model, names, batches(batch_size), batch_size=batch_size, strategy=strategy
    )


def batch_norms(model):
    norms = keras.layers.BatchNormalization
    return [layer.name for layer in model.layers if isinstance(layer, norms)]


def test_the_function_stays_the_same(model):
    images = batches(4)[0][0]
    before = model(images)
    calibrate(model, batch_norms(model), 16)
    np.testing.assert_allclose(model(images), before, rtol=0, atol=1e-4 * np.std(before))


def test_in_training_the_network_is_then_that_of_inference(model):
    """On the batch that it was calibrated on; before, its output was far from it."""
    ((images, _),) = batches(NUM_IMAGES)
    backbone = keras.Model(model.input, model.get_layer("unit17_out").output)  # Without dropout.

    def difference():
        trained = backbone(images, training=True)
        return np.std(trained - backbone(images, training=False)) / np.std(trained)

    weights = model.get_weights()
    assert difference() > 0.1
    model.set_weights(weights)
    calibrate(model, batch_norms(model), NUM_IMAGES)
    assert difference() < 1e-3


def test_only_the_named_batch_norms_change(model):
    before = {weight.path: weight.numpy() for weight in model.weights}
    calibrate(model, ["unit3_expand_bn"], 32)
    changed = {w.path for w in model.weights if not np.array_equal(w.numpy(), before[w.path])}
    kinds = ("gamma", "beta", "moving_mean", "moving_variance")
    assert changed == {f"unit3_expand_bn/{kind}" for kind in kinds}


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("measured", [True, False])
def test_training_calibrates_what_was_never_measured(
    frozen, measured, tmp_path, shapes_builder, monkeypatch
):
    """Weights of a run whose batch norm was folded away: also a run's, which keeps them so."""
    source = deeplabv3("resnet_tiny")
    if measured:
        for layer in source.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.moving_mean.assign_add(np.full(layer.moving_mean.shape, 0.1))
    Checkpoints(tmp_path, source).save(1)
    init_from = {"init_from.path": str(tmp_path / "checkpoints"), "init_from.part": "backbone"}
    config = small_config(freeze_batch_norm=frozen, **init_from)
    calibrated = []
    monkeypatch.setattr(
        train, "calibrate_batch_norm", lambda _, names, *a, **k: calibrated.extend(names)
    )
    model, strategy = deeplabv3(**config.model), tf.distribute.get_strategy()
    train.load_initial_weights(model, config, shapes_builder, strategy)
    assert bool(calibrated) == (not frozen and not measured)
    assert not [name for name in calibrated if name.startswith(("aspp", "logits"))]
