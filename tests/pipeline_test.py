"""What a model is fed: the same for the same (seed, step), complete, and in range."""

import collections
import io
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from data import shapes
from data.augment import draw_crop
from data.features import segmentation_info
from data.pipeline import batch_ids, decode_part, eval_examples, train_batches
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
    assert images == tf.TensorSpec((5, 33, 33, 3), tf.uint8)
    assert labels == tf.TensorSpec((5, 33, 33), tf.uint8)


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


def test_what_a_later_start_skips_is_not_decoded(shapes_builder, monkeypatch):
    """Positions are noted where an example is decoded; they run on over the end of an epoch."""
    positions = []

    def noted(size, seed, crop_size):
        with tf.control_dependencies([tf.py_function(positions.append, [seed[1]], [])]):
            return draw_crop(size, tf.identity(seed), crop_size)

    monkeypatch.setattr("data.pipeline.draw_crop", noted)
    take(shapes_builder, 2, first_step=7)
    assert min(map(int, positions)) == 7 * TRAIN["batch_size"]
    assert len(positions) >= 2 * TRAIN["batch_size"]


def test_every_epoch_holds_every_image_once_in_another_order(shapes_builder, monkeypatch):
    """With a "crop" of a few bytes of the original, to know it again."""
    monkeypatch.setattr("data.pipeline.crop_label", lambda label, *_: tf.shape(label))
    monkeypatch.setattr(
        "data.pipeline.draw_crop", lambda size, *_: draw_crop(size, tf.zeros(2, tf.int64), 33)
    )
    batches = train_batches(shapes_builder, "train", **{**TRAIN, "batch_size": 24})
    epochs = [[image.tobytes() for image in images.numpy()] for images, _ in batches.take(3)]
    assert collections.Counter(epochs[0]) == collections.Counter(epochs[1])
    assert len(set(epochs[0])) == 24
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_many_files_are_read_in_turn_whatever_the_number_of_cores(tmp_path, monkeypatch):
    """TensorFlow would take as many at a time as there are cores: another order elsewhere."""
    monkeypatch.setattr(shapes, "NUM_IMAGES", {"train": 24})
    builder = shapes.Shapes(data_dir=tmp_path)
    config = tfds.download.DownloadConfig(num_shards=12)
    builder.download_and_prepare(download_config=config)
    assert len(builder.info.splits["train"].filepaths) == 12
    cycles = []
    interleave = tf.data.Dataset.interleave

    def noted(dataset, *arguments, cycle_length=None, **others):
        cycles.append(cycle_length)
        return interleave(dataset, *arguments, cycle_length=cycle_length, **others)

    monkeypatch.setattr(tf.data.Dataset, "interleave", noted)
    monkeypatch.setattr("data.pipeline.crop_label", lambda label, *_: tf.shape(label))
    monkeypatch.setattr(
        "data.pipeline.draw_crop", lambda size, *_: draw_crop(size, tf.zeros(2, tf.int64), 33)
    )
    batches = train_batches(builder, "train", **{**TRAIN, "batch_size": 24})
    epochs = [{image.tobytes() for image in images.numpy()} for images, _ in batches.take(2)]
    assert epochs[0] == epochs[1] and len(epochs[0]) == 24
    assert cycles and None not in cycles


@pytest.mark.parametrize("first_step", [0, 3])
def test_workers_share_each_batch_and_all_of_it(shapes_builder, first_step):
    arguments = dict(batch_size=6, first_step=first_step)
    whole = take(shapes_builder, 9, **arguments)
    arguments |= dict(num_workers=3, num_replicas=3)
    shares = [take(shapes_builder, 9, worker=i, **arguments) for i in range(3)]
    for (images, labels), *parts in zip(whole, *shares, strict=True):
        assert all(len(part_images) == 2 for part_images, _ in parts)
        for ours, pieces in ((images, [p[0] for p in parts]), (labels, [p[1] for p in parts])):
            together = np.concatenate(pieces)
            assert sorted(map(bytes, ours)) == sorted(map(bytes, together))


def test_replicas_of_one_worker_take_pieces_in_turn(shapes_builder):
    whole = take(shapes_builder, 3, batch_size=6)
    pieces = take(shapes_builder, 9, batch_size=6, num_replicas=3)
    for step, (images, _) in enumerate(whole):
        together = np.concatenate([piece for piece, _ in pieces[3 * step : 3 * step + 3]])
        np.testing.assert_array_equal(images, together)


def test_replicas_that_cannot_share_a_batch_are_refused(shapes_builder):
    with pytest.raises(ValueError, match="A batch of 5 cannot be shared equally by 2 replicas"):
        train_batches(shapes_builder, "train", **TRAIN, num_replicas=2)


def test_a_cut_shard_is_no_shorter_data_set(shapes_dir, tmp_path):
    shutil.copytree(shapes_dir / "shapes", tmp_path / "shapes")
    shard = next(tmp_path.rglob("*train.tfrecord*"))
    shard.write_bytes(shard.read_bytes()[:-1000])
    with pytest.raises(tf.errors.DataLossError, match="truncated record"):
        take(shapes.Shapes(data_dir=tmp_path), 5)


@pytest.mark.parametrize("mode, encoding", [("RGB", "JPEG"), ("L", "JPEG"), ("RGB", "PNG")])
def test_a_part_is_decoded_as_in_the_whole(mode, encoding):
    """Which is what makes it right to decode the crop alone; gray ones become three channels."""
    rng = np.random.default_rng(0)
    colors = Image.fromarray(rng.integers(0, 256, (9, 11, 3)).astype(np.uint8))
    file = io.BytesIO()  # By default JPEGs have color at half the resolution, as most photos do.
    colors.resize((120, 90)).convert(mode).save(file, encoding)
    whole = tf.io.decode_image(file.getvalue(), channels=3)
    for top, left, height, width in [(0, 0, 90, 120), (7, 5, 21, 50), (40, 80, 50, 40)]:
        part = decode_part(file.getvalue(), [top, left], [height, width], 120)
        np.testing.assert_array_equal(part, whole[top : top + height, left : left + width])
    for _ in range(50):
        top, left = rng.integers(0, 60, 2)
        height, width = rng.integers(1, 30, 2)
        part = decode_part(file.getvalue(), [top, left], [height, width], 120)
        np.testing.assert_array_equal(part, whole[top : top + height, left : left + width])


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
        return segmentation_info(self, "", CLASS_NAMES)

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
        tf.errors.InvalidArgumentError, match="(?s)outside 0..20 and not 255.*the_wrong"
    ):
        next(iter(batches))


def test_images_of_hard_classes_come_more_often_in_every_epoch(shapes_builder):
    """And a later start yields what an earlier one does from there on."""
    hard = ("wheel", "comb")
    ids = [CLASS_NAMES.index(name) for name in hard]
    times = {
        example["id"].decode(): 3 if np.isin(example["label"], ids).any() else 1
        for example in eval_examples(shapes_builder, "train").as_numpy_iterator()
    }
    assert set(times.values()) == {1, 3}
    size = sum(times.values())
    more = dict(hard_classes=hard, hard_class_factor=3)
    arguments = dict(batch_size=size, seed=3, **more)
    epochs = [batch_ids(shapes_builder, "train", step=k, **arguments) for k in range(2)]
    assert collections.Counter(epochs[0]) == collections.Counter(epochs[1]) == times
    assert epochs[0] != epochs[1] and epochs[0] != sorted(epochs[0])
    whole = take(shapes_builder, 13, **more)
    assert same(whole[11:], take(shapes_builder, 2, first_step=11, **more))


def test_hard_classes_that_a_data_set_does_not_have_are_named(shapes_builder):
    more = dict(hard_classes=("comb", "sofa"), hard_class_factor=2)
    with pytest.raises(ValueError, match="hard_classes has sofa, which shapes does not have"):
        train_batches(shapes_builder, "train", **TRAIN, **more)
