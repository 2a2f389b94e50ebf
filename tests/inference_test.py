"""Whole images at any size: padded to where features lie on pixels, and cut back."""

import keras
import numpy as np
import pytest

from model.evaluate import evaluate
from model.inference import class_ids, class_probabilities, pad_to_stride

MEAN = (10.0, 20.0, 30.0)


@pytest.fixture(scope="module")
def coloured():
    """A model whose class is the strongest of three colours, at every pixel."""
    images = keras.Input((None, None, 3))
    return keras.Model(images, keras.layers.Rescaling(0.1)(images))


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (16, 17), (33, 64), (500, 375)])
def test_padding_reaches_a_multiple_plus_one(size, output_stride):
    images = np.random.default_rng(0).integers(0, 256, (2, *size, 3)).astype("uint8")
    padded = np.array(pad_to_stride(images, output_stride, MEAN))
    for before, after in zip(size, padded.shape[1:3], strict=True):
        assert after % output_stride == 1
        assert 0 <= after - before < output_stride
    np.testing.assert_array_equal(padded[:, : size[0], : size[1]], images)
    outside = np.ones(padded.shape[:3], bool)
    outside[:, : size[0], : size[1]] = False
    np.testing.assert_array_equal(padded[outside], np.tile(MEAN, (outside.sum(), 1)))


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (30, 47)])
def test_probabilities_are_of_the_image_and_sum_to_one(coloured, size):
    images = np.random.default_rng(0).integers(0, 256, (2, *size, 3)).astype("uint8")
    probabilities = np.array(
        class_probabilities(coloured, images, output_stride=16, mean_pixel=MEAN)
    )
    assert probabilities.shape == (2, *size, 3)
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-5)
    ids = np.array(class_ids(probabilities))
    assert ids.dtype == np.uint8
    strongest = images.max(-1)
    np.testing.assert_array_equal(np.take_along_axis(images, ids[..., None], -1)[..., 0], strongest)


def examples(sizes):
    rng = np.random.default_rng(0)
    for size in sizes:
        label = rng.choice([0, 1, 2, 255], size).astype("int32")
        yield {"image": rng.integers(0, 256, (*size, 3)).astype("uint8"), "label": label}


SIZES = [(5, 6), (1, 9), (12, 3)]
FACTS = dict(num_classes=3, ignore_label=255)


def test_evaluation_scores_every_valid_pixel_once():
    confusion = evaluate(lambda x: x[..., 0] % 3, examples(SIZES), num_images=3, **FACTS)
    assert confusion.sum() == sum((example["label"] != 255).sum() for example in examples(SIZES))


@pytest.mark.parametrize("num_images", [2, 4])
def test_evaluation_refuses_another_number_of_images(num_images):
    with pytest.raises(ValueError, match=f"Scored 3 images of a split that has {num_images}"):
        evaluate(lambda x: x[..., 0] % 3, examples(SIZES), num_images=num_images, **FACTS)


def test_evaluation_does_not_resize_what_does_not_fit():
    with pytest.raises(ValueError, match="cannot score"):
        evaluate(lambda x: x[:, 1:, :, 0] % 3, examples(SIZES), num_images=3, **FACTS)
