"""ASPP: rates that follow output_stride, and an image-level branch that sees everything."""

import keras
import numpy as np
import pytest

from model.aspp import aspp, rates_at
from model.deeplabv3 import deeplabv3


@pytest.mark.parametrize(
    "output_stride, rates", [(8, [12, 24, 36]), (16, [6, 12, 18]), (32, [3, 6, 9])]
)
def test_rates_see_the_same_pixels_at_any_output_stride(output_stride, rates):
    """ "The rates are doubled when output_stride = 8" (Sec. 3.3)."""
    assert rates_at(output_stride, (6, 12, 18)) == rates


def test_rates_that_would_not_be_whole_are_refused():
    with pytest.raises(ValueError, match=r"\(6, 12, 18\).*not integers at output_stride 64"):
        rates_at(64, (6, 12, 18))
    with pytest.raises(ValueError, match=r"must be integers; got \(None,\)"):
        rates_at(16, (None,))


def influence(rates, image_pooling):
    """[h, w] bool: which input pixels have a part in the output at the middle of a 41 x 41 map."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((None, None, 2))
    outputs = aspp(
        inputs, rates=rates, image_pooling=image_pooling, filters=8, batch_norm_decay=0.9
    )
    model = keras.Model(inputs, outputs)
    x = np.random.default_rng(0).normal(size=(1, 41, 41, 2)).astype("float32")
    middle = np.array(model(x))[0, 20, 20]
    changed = np.zeros((41, 41), bool)
    for row in range(0, 41):
        line = np.repeat(x, 41, axis=0)
        line[np.arange(41), row, np.arange(41)] += 5
        changed[row] = np.abs(np.array(model(line))[:, 20, 20] - middle).max(-1) > 1e-5
    return changed


def test_branches_see_just_the_taps_of_their_rates():
    expected = np.zeros((41, 41), bool)
    for rate in (0, 3, 7):
        for i in (-rate, 0, rate):
            for j in (-rate, 0, rate):
                expected[20 + i, 20 + j] = True
    np.testing.assert_array_equal(influence((3, 7), image_pooling=False), expected)


def test_image_pooling_sees_the_whole_image():
    assert influence((3, 7), image_pooling=True).all()


@pytest.mark.parametrize("head, rate", [("paper", 0.1), ("torchvision", 0.5)])
def test_dropout_is_that_of_the_authors_code_and_of_torchvision(head, rate):
    model = deeplabv3("resnet_tiny", head=head)
    assert model.get_layer("aspp_dropout").rate == rate
