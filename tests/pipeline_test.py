"""What a model is fed: the same for the same (seed, step), complete, and in range."""

import collections

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from data.features import segmentation_info
from data.pipeline import eval_examples, train_batches
from data.shapes import CLASS_NAMES

TRAIN = dict(batch_size=5, crop_size=33, mean_pixel=(1.0, 2.0, 3.0), seed=3)


def take(builder, number, **arguments):
    batches = train_batches(builder, "train", **{**TRAIN, **arguments})
    return [(images.numpy(), labels.numpy()) for images, labels in batches.take(number)]


def same(ours, theirs):
    return all(
        np.array_equal(images, other_images) and np.array_equal(labels, other_labels)
        for (images, labels), (other_images, other_labels) in zip(ours, theirs, strict=True)
    )


def test_batches_have_static_shapes_and_types(shapes_builder):
    images, labels = train_batches(shapes_builder, "train", **TRAIN).element_spec
    assert images == tf.TensorSpec((5, 33, 33, 3), tf.float32)
    assert labels == tf.TensorSpec((5, 33, 33), tf.int32)


def test_runs_repeat_exactly_whatever_tensorflows_own_seed(shapes_builder):
    tf.random.set_seed(1)
    once = take(shapes_builder, 8)
    tf.random.set_seed(2)
    assert same(once, take(shapes_builder, 8))
    assert not same(once, take(shapes_builder, 8, seed=4))


@pytest.mark.parametrize("first_step", [1, 4, 5, 7, 11])
def test_a_later_start_yields_what_an_earlier_one_does_from_there_on(shapes_builder, first_step):
    """24 images in batches of 5: the epoch ends within a batch, and the resumed one too."""
    whole = take(shapes_builder, 13)
    assert same(whole[first_step:], take(shapes_builder, 13 - first_step, first_step=first_step))


def test_every_epoch_holds_every_image_once_in_another_order(shapes_builder, monkeypatch):
    """With an "augmentation" that hands the image's mean through, to know it again."""

    def mean_only(image, label, seed, **_):
        return tf.reduce_mean(image), label[0, 0]

    monkeypatch.setattr("data.pipeline.augment", mean_only)
    batches = train_batches(shapes_builder, "train", **{**TRAIN, "batch_size": 24})
    epochs = [means.numpy().tolist() for means, _ in batches.take(3)]
    assert collections.Counter(epochs[0]) == collections.Counter(epochs[1])
    assert len(set(epochs[0])) == 24
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_evaluation_yields_whole_images_in_order(shapes_builder):
    examples = list(eval_examples(shapes_builder, "val").as_numpy_iterator())
    again = list(eval_examples(shapes_builder, "val").as_numpy_iterator())
    assert len(examples) == 5
    assert len({example["image"].shape for example in examples}) > 1
    for one, other in zip(examples, again, strict=True):
        assert one["image"].shape[:2] == one["label"].shape
        assert one["image"].dtype == np.uint8 and one["label"].dtype == np.int32
        assert one["id"] == other["id"]
        np.testing.assert_array_equal(one["image"], other["image"])


def test_an_unknown_split_lists_those_there_are(shapes_builder):
    with pytest.raises(ValueError, match="no split 'test'; it has train, val"):
        eval_examples(shapes_builder, "test")


class OutOfRange(tfds.core.GeneratorBasedBuilder):
    """One image whose label holds the id 21."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return segmentation_info(self, CLASS_NAMES, "")

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        image = np.zeros((9, 9, 3), np.uint8)
        yield (
            "x",
            {"image": image, "label": np.full((9, 9, 1), 21, np.uint8), "id": "the_wrong_one"},
        )


def test_a_label_out_of_range_is_caught_and_named(tmp_path):
    builder = OutOfRange(data_dir=tmp_path)
    builder.download_and_prepare()
    batches = train_batches(builder, "train", **TRAIN)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="(?s)outside 0..20 and 255.*the_wrong"
    ):
        next(iter(batches))
