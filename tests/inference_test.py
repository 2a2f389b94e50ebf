"""Whole images at any size: padded to where features lie on pixels, and cut back."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from evaluation.counts import count_pixels
from evaluation.prediction import (
    GRID,
    MAX_MARGIN,
    MAX_WAITING,
    predict_examples,
    predict_in_pieces,
    prediction_margin,
)
from experiments.base import MULTI_SCALE
from model.aspp import rates_at
from model.backbones import receptive_field
from model.deeplabv3 import corners_of, deeplabv3
from model.inference import (
    class_ids,
    class_probabilities,
    pad_to_stride,
    padding_multiple,
    scaled_size,
)

MEAN = (10.0, 20.0, 30.0)


@pytest.fixture(scope="module")
def colored():
    """A model whose class is the strongest of three colors, at every pixel."""
    images = keras.Input((None, None, 3))
    return keras.Model(images, keras.layers.Rescaling(0.1, name="logits")(images))


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
def test_probabilities_are_of_the_image_and_sum_to_one(colored, size):
    images = np.random.default_rng(0).integers(0, 256, (2, *size, 3)).astype("uint8")
    probabilities = np.array(
        class_probabilities(colored, images, output_stride=16, mean_pixel=MEAN)
    )
    assert probabilities.shape == (2, *size, 3)
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-5)
    ids = np.array(class_ids(probabilities))
    assert ids.dtype == np.uint8
    strongest = images.max(-1)
    np.testing.assert_array_equal(np.take_along_axis(images, ids[..., None], -1)[..., 0], strongest)


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    model = deeplabv3("resnet_tiny", output_stride=8, num_classes=5)
    model.get_layer("logits").kernel.assign(50 * model.get_layer("logits").kernel)
    return model


def images_of(size, number=2):
    return np.random.default_rng(0).integers(0, 256, (number, *size, 3)).astype("uint8")


def probabilities_of(model, images, **how):
    return np.array(class_probabilities(model, images, output_stride=8, mean_pixel=MEAN, **how))


def test_at_one_scale_it_is_the_models_own_output(network):
    images = images_of((33, 49))
    expected = keras.ops.softmax(network(images.astype("float32"), training=False))
    np.testing.assert_allclose(probabilities_of(network, images), expected, atol=1e-5)


def test_several_scales_are_the_mean_of_each(network):
    """Of a size that needs no padding; other sizes are padded further for more scales."""
    images, scales = images_of((33, 65)), (0.5, 1.0, 1.75)
    each = [probabilities_of(network, images, scales=(scale,)) for scale in scales]
    mean = probabilities_of(network, images, scales=scales)
    np.testing.assert_allclose(mean, np.mean(each, axis=0), atol=1e-5)
    assert np.abs(each[0] - each[1]).max() > 0.1
    assert np.array(scaled_size((33, 513), 0.5)).tolist() == [17, 257]
    assert np.array(scaled_size((33, 513), 1.75)).tolist() == [57, 897]


def test_the_scales_are_those_of_the_paper():
    """Sec. 4.1; at 513 they are the sizes that the published multiply-adds fit."""
    sizes = [int(scaled_size((513, 513), scale)[0]) for scale in MULTI_SCALE]
    assert sizes == [257, 385, 513, 641, 769, 897]


@pytest.mark.parametrize("output_stride", [8, 16])
def test_at_every_scale_features_lie_on_pixels(output_stride):
    """At any size: 500 pixels become 513, 333 become 385 or 513."""
    multiple = padding_multiple(output_stride, MULTI_SCALE)
    assert multiple == 4 * output_stride and padding_multiple(8, (1.0,)) == 8
    for size in ((500, 333), (1, 375)):
        images = images_of(size, 1)
        padded = pad_to_stride(images, multiple, MEAN)
        for scale in MULTI_SCALE:
            for side in scaled_size(padded.shape[1:3], scale):
                assert int(side) % output_stride == 1


def test_what_is_seen_at_another_scale_stays_where_it_is():
    """A ramp is a ramp at any scale: pixel by pixel, up to the far edge."""
    images = keras.Input((None, None, 3))
    x = keras.layers.MaxPooling2D(1, 8)(images)  # Every eighth pixel, as features lie.
    ramp_model = keras.Model(images, keras.layers.Rescaling(0.01, name="logits")(x))
    ramp = np.tile(np.arange(90)[None, :, None], (45, 1, 3)) * np.array([1, 0, 2])
    how = dict(output_stride=8, mean_pixel=(0, 0, 0))
    inner = (0, slice(0, 24), slice(0, 60))  # Away from the padding's edge.
    plain = np.array(class_probabilities(ramp_model, ramp[None], **how))[inner]
    for scale in (0.5, 1.75):
        other = class_probabilities(ramp_model, ramp[None], scales=(scale,), **how)
        np.testing.assert_allclose(np.array(other)[inner], plain, atol=1e-3)


def test_with_half_pixel_corners_borders_stay_where_they_are_at_every_scale():
    """A ramp is a ramp at any scale, by half pixels too; and sizes are whole multiples."""
    images = keras.Input((None, None, 3))
    x = keras.layers.AveragePooling2D(8)(images)  # Features in the middle of 8 x 8 pixels.
    ramp_model = keras.Model(images, keras.layers.Rescaling(0.01, name="logits")(x))
    ramp = np.tile(np.arange(128)[None, :, None], (64, 1, 3)) * np.array([1, 0, 2])
    how = dict(output_stride=8, mean_pixel=(0, 0, 0), corners="half_pixel")
    inner = (0, slice(0, 24), slice(16, 112))  # Away from the borders, where values end.
    expected = keras.ops.softmax(0.01 * ramp[inner[1:]].astype("float32"))
    for scale in (0.5, 1.0, 1.75):
        seen = class_probabilities(ramp_model, ramp[None], scales=(scale,), **how)
        np.testing.assert_allclose(np.array(seen)[inner], expected, atol=1e-3)
    for scale, sides in ((1.75, [114, 896]), (0.001, [1, 1])):
        seen = scaled_size((65, 512), scale, corners="half_pixel")
        assert np.array(seen).tolist() == sides


@pytest.mark.parametrize("size", [(33, 65), (30, 47), (1, 40)])
@pytest.mark.parametrize("flip", [True, False])
def test_flipping_the_image_flips_the_prediction_where_it_is_predicted_both_ways(
    network, flip, size
):
    images, how = images_of(size), {"scales": (0.5, 1.0), "flip": flip}
    straight = probabilities_of(network, images, **how)
    mirrored = probabilities_of(network, images[:, :, ::-1], **how)[:, :, ::-1]
    assert (np.abs(straight - mirrored).max() < 1e-5) == flip


@pytest.mark.parametrize("scale", [0.0, -1.0, 0.55, float("nan"), float("inf")])
def test_scales_at_which_features_do_not_lie_on_pixels_are_refused(scale):
    with pytest.raises(ValueError, match=f"multiples of 1/8.*got {scale}"):
        padding_multiple(16, (1.0, scale))


def test_images_are_predicted_alike_alone_and_in_a_batch(network):
    images, how = images_of((30, 45), 3), {"scales": (0.75, 1.0), "flip": True}
    alone = [probabilities_of(network, image[None], **how)[0] for image in images]
    np.testing.assert_allclose(probabilities_of(network, images, **how), alone, atol=1e-5)


PLAN_WITHOUT_POOLING = {"num_blocks": 4, "multi_grid": (1, 1, 1), "atrous_rates": (1, 2, 3)}


def network_without_pooling(output_stride, head="paper"):
    keras.utils.set_random_seed(0)
    plan = {**PLAN_WITHOUT_POOLING, "output_stride": output_stride, "head": head}
    model = deeplabv3("resnet_tiny", num_classes=5, image_pooling=False, **plan)
    plan["rates"] = rates_at(output_stride, plan.pop("atrous_rates"))
    return model, receptive_field("resnet_tiny", **plan)


def pixels_seen(model, pixels, side):
    """The rows of an image that the logits at each of some [row, column] depend on, in order.

    By their gradients, in a network whose sums cannot cancel.
    """
    for weight in model.trainable_variables:
        weight.assign(keras.ops.abs(weight) + 0.1)
    model.get_layer("pixels").offset = [0.0] * 3
    images = tf.ones((1, side, side, 3))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(images)
        logits = model(images, training=False)
        each = [logits[0, row, column, 0] for row, column in pixels]
    return [np.flatnonzero(np.abs(tape.gradient(x, images)[0]).max((1, 2))) for x in each]


@pytest.mark.parametrize("output_stride, head", [(8, "paper"), (16, "paper"), (8, "torchvision")])
def test_a_logit_depends_on_its_receptive_field_and_on_nothing_else(output_stride, head):
    model, field = network_without_pooling(output_stride, head)
    side = (field // output_stride // 2 * 2 + 5) * output_stride + 1
    middle = side // 2 // output_stride * output_stride
    (seen,) = pixels_seen(model, [(middle, middle)], side)
    assert field - 2 * output_stride <= seen[-1] - seen[0] + 1 <= field


def test_no_pixel_between_features_sees_beyond_the_margin_of_a_piece():
    model, field = network_without_pooling(8)
    margin = prediction_margin("resnet_tiny", **PLAN_WITHOUT_POOLING, output_stride=8, head="paper")
    side = (field // 8 // 2 * 2 + 5) * 8 + 1
    middle = side // 2 // 8 * 8
    rows = range(middle, middle + 8)
    seen = pixels_seen(model, [(row, middle) for row in rows], side)
    reach = max(max(row - s[0], s[-1] - row) for row, s in zip(rows, seen, strict=True))
    assert field // 2 < reach <= margin


@pytest.mark.parametrize(
    "size, output_stride, head",
    [
        ((1000, 800), 8, "paper"),
        ((256, 2400), 8, "torchvision"),
        ((257, 2400), 16, "paper"),
        ((1008, 800), 16, "torchvision"),
    ],
)
def test_pieces_are_equal_to_the_whole(size, output_stride, head):
    """But for image-level features, which this network does not have."""
    model, field = network_without_pooling(output_stride, head)
    margin, sizes = field // 2 + output_stride, []
    assert margin < GRID < MAX_MARGIN

    def predict(images):
        sizes.append(images.shape[1:3])
        how = dict(output_stride=output_stride, mean_pixel=MEAN, corners=corners_of(model))
        return class_probabilities(model, images, **how).numpy()

    ids = [
        predict_in_pieces(
            lambda images: predict(images).argmax(-1).astype(np.uint8),
            images_of(size, 1)[0],
            margin=margin,
            corners=corners_of(model),
            piece_side=piece_side,
        )
        for piece_side in (10**4, 3 * GRID)
    ]
    assert sizes[0] == size and len(sizes) > 4 and max(sizes[1:]) < size
    # A whole piece needs no padding.
    assert max(width for _, width in sizes[1:]) % GRID == (corners_of(model) == "aligned")
    assert len(np.unique(ids[0])) > 1
    assert (ids[0] != ids[1]).mean() < 1e-4  # Where two classes are as probable, to the last bit.


def examples(sizes):
    rng = np.random.default_rng(0)
    for i, size in enumerate(sizes):
        label = rng.choice([0, 1, 2, 255], size).astype("int32")
        image = rng.integers(0, 256, (*size, 3)).astype("uint8")
        yield {"id": b"%d" % i, "image": image, "label": label}


SIZES = [(5, 6), (1, 9), (12, 3)]
FACTS = dict(num_classes=3, ignore_label=255)


def evaluated(examples, predict=lambda x: x[..., 0] % 3, num_images=3, **how):
    return count_pixels(predict_examples(predict, examples, **how), num_images=num_images, **FACTS)


def assert_equal(ours, theirs):
    for field, a, b in zip(ours._fields, ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=field)


def test_evaluation_scores_every_valid_pixel_once():
    counts = evaluated(examples(SIZES))
    assert counts.ids == ["0", "1", "2"]
    valid = [(example["label"] != 255).sum() for example in examples(SIZES)]
    assert counts.confusions.sum((1, 2)).tolist() == valid
    # Each pixel is within 40 of a boundary here.
    np.testing.assert_array_equal(counts.trimap[-1], counts.confusions.sum(0))


@pytest.mark.parametrize("batch_pixels", [1, 60, 10**9])
def test_the_order_of_the_images_and_the_size_of_batches_change_nothing(batch_pixels):
    sizes = SIZES + 3 * [(5, 6)]
    ours = evaluated(examples(sizes), num_images=6)
    turned = reversed(list(examples(sizes)))
    assert_equal(ours, evaluated(turned, num_images=6, batch_pixels=batch_pixels))


def test_images_of_one_size_are_predicted_together():
    sizes, shapes = [(5, 6), (1, 9), (5, 6), (5, 6), (6, 5)], []

    def predict(images):
        shapes.append(images.shape[:3])
        return images[..., 0] % 3

    pairs = list(predict_examples(predict, examples(sizes), batch_pixels=60))
    assert shapes == [(2, 5, 6), (1, 1, 9), (1, 5, 6), (1, 6, 5)]
    for example, prediction in pairs:
        np.testing.assert_array_equal(prediction, example["image"][..., 0] % 3)
    assert sorted(example["id"] for example, _ in pairs) == [b"%d" % i for i in range(5)]


def test_images_of_many_sizes_do_not_wait_for_ever():
    made = []

    def noted():
        for example in examples([(1, i + 1) for i in range(200)]):
            made.append(example["id"])
            yield example

    pairs = predict_examples(lambda x: x[..., 0], noted())
    next(pairs)
    assert len(made) == MAX_WAITING + 1 and len(list(pairs)) == 199


@pytest.mark.parametrize("num_images", [2, 4])
def test_evaluation_refuses_another_number_of_images(num_images):
    with pytest.raises(ValueError, match=f"Scored 3 images of a split that has {num_images}"):
        evaluated(examples(SIZES), num_images=num_images)


def test_evaluation_refuses_an_image_twice():
    one, two, _ = examples(SIZES)
    with pytest.raises(ValueError, match="an image twice: 0"):
        evaluated([one, two, one])


def test_evaluation_does_not_resize_what_does_not_fit():
    with pytest.raises(ValueError, match="cannot score"):
        evaluated(examples(SIZES), lambda x: x[:, 1:, :, 0] % 3)


def test_what_lies_under_255_changes_nothing():
    """Neither what is predicted there, nor what the photo shows."""
    ours = evaluated(examples(SIZES))
    other = list(examples(SIZES))
    for example in other:
        example["image"][example["label"] == 255] += 1
    assert_equal(ours, evaluated(other))


def test_other_labels_are_told_by_their_hash():
    other = list(examples(SIZES))
    other[1]["label"][0, 3] ^= 1
    hashes = [evaluated(e).labels_sha256 for e in (examples(SIZES), examples(SIZES), other)]
    assert hashes[0] == hashes[1] != hashes[2]
