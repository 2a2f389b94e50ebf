"""Batch norm in the convolutions: the same function, with fewer layers."""

import keras
import numpy as np
import pytest

from model.deeplabv3 import corners_of, deeplabv3
from model.fold_batch_norm import fold_batch_norm

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 65, 49, 3)).astype("float32")
PLANS = {
    "ASPP": {},
    "torchvision's head": {"head": "torchvision"},
    "no image pooling": {"image_pooling": False},
    "a cascade": {"num_blocks": 5, "atrous_rates": None},
    "a stride and a rate": {"output_stride": 8},
    "MobileNetV2": {"multi_grid": (1, 1, 1), "atrous_rates": ()},
}


def with_random_statistics(backbone, **plan):
    """A model of deeplabv3 whose batch norms all do something."""
    keras.utils.set_random_seed(0)
    model = deeplabv3(backbone, **{"num_classes": 5, "output_stride": 16, **plan})
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            shape = layer.gamma.shape
            layer.gamma.assign(rng.uniform(0.5, 1.5, shape))
            layer.beta.assign(rng.normal(0, 0.3, shape))
            layer.moving_mean.assign(rng.normal(0, 0.3, shape))
            layer.moving_variance.assign(rng.uniform(0.5, 2, shape))
    return model


@pytest.mark.parametrize(
    "backbone, plan",
    [
        *(("resnet_tiny", plan) for plan in PLANS),
        ("mobilenet_v2_050", "MobileNetV2"),
        *((f"resnet_tiny_{kind}", "ASPP") for kind in ("beta", "keras", "torchvision")),
    ],
)
def test_it_is_the_same_function(backbone, plan):
    model = with_random_statistics(backbone, **PLANS[plan])
    new = fold_batch_norm(model)
    expected, given = (np.array(network(IMAGES, training=False)) for network in (model, new))
    assert expected.std() > 0
    np.testing.assert_allclose(given, expected, rtol=0, atol=1e-5 * expected.std())
    assert corners_of(new) == corners_of(model)
    left = {type(layer).__name__ for layer in new.layers}
    assert not left & {"BatchNormalization", "Dropout"}
    convs = [w for w in model.trainable_weights if w.name == "kernel"]
    assert len(new.weights) == 2 * len(convs)  # Each has a kernel and a bias, and nothing has more.


def test_the_model_it_is_made_of_is_left_alone():
    model = with_random_statistics("resnet_tiny")
    before = [weight.numpy() for weight in model.weights]
    fold_batch_norm(model)
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), value)


def test_half_precision_stays_where_it_was():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        new = fold_batch_norm(deeplabv3("resnet_tiny", output_stride=16))
    finally:
        keras.config.set_dtype_policy("float32")
    dtypes = {layer.name: layer.compute_dtype for layer in new.layers if layer.weights}
    assert dtypes.pop("logits") == "float32"
    assert set(dtypes.values()) == {"bfloat16"}
