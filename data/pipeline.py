"""From shards to what a model is fed: training batches, and whole images for evaluation."""

import sys

import tensorflow as tf
import tensorflow_datasets as tfds

from data.augment import augment
from data.classes import IGNORE_LABEL

# Examples, still encoded, from which the next is drawn. The shards hold them in random order as it
# is; with VOC's 100 KB images this takes 200 MB.
SHUFFLE_BUFFER = 2_000


def train_batches(
    builder: tfds.core.DatasetBuilder,
    split: str,
    *,
    batch_size: int,
    crop_size: int,
    mean_pixel: tuple[float, float, float],
    seed: int,
    first_step: int = 0,
) -> tf.data.Dataset:
    """A split -> images [B, crop, crop, 3] float32 and labels [B, crop, crop] int32, without end.

    Labels are in 0..C-1 or 255. Which examples batch k holds, and how they were augmented,
    depends on (seed, k) alone: a pipeline that begins at first_step yields what another one does
    from there on. Batches run on across the end of an epoch, so that no example is dropped.
    Raises InvalidArgumentError, which names the image, for a label outside that range.
    """
    encoded = _encoded_examples(builder, split)
    size = builder.info.splits[split].num_examples
    first_example = first_step * batch_size

    def epoch(number):
        tf.random.set_seed(1)  # Of this graph, so that the caller's has no part in the order.
        epoch_seed = tf.random.stateless_uniform((), [seed, number], None, None, tf.int64)
        return encoded.shuffle(SHUFFLE_BUFFER, epoch_seed, reshuffle_each_iteration=False)

    def decode_and_augment(position, example):
        example = _decode(builder, example)
        return augment(
            tf.cast(example["image"], tf.float32),
            example["label"],
            tf.stack([tf.constant(seed, tf.int64), position]),
            crop_size=crop_size,
            mean_pixel=mean_pixel,
        )

    return (
        tf.data.Dataset.range(first_example // size, sys.maxsize)
        .flat_map(epoch)
        .skip(first_example % size)
        .enumerate(start=first_example)
        .map(decode_and_augment, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .batch(batch_size, drop_remainder=True)
        .prefetch(tf.data.AUTOTUNE)
    )


def eval_examples(builder: tfds.core.DatasetBuilder, split: str) -> tf.data.Dataset:
    """A split -> its examples one by one, in their order: whole images at their own size.

    Each is {image: [H, W, 3] uint8, label: [H, W] int32, id: text}.
    """
    return (
        _encoded_examples(builder, split)
        .map(lambda example: _decode(builder, example), num_parallel_calls=tf.data.AUTOTUNE)
        .prefetch(tf.data.AUTOTUNE)
    )


def check_split(builder: tfds.core.DatasetBuilder, split: str) -> None:
    """Raises ValueError, which lists the splits, where the data set has no such one."""
    if split not in builder.info.splits:
        raise ValueError(
            f"{builder.name} in {builder.data_dir} has no split {split!r}; it has "
            f"{', '.join(builder.info.splits)}."
        )


def _encoded_examples(builder, split):
    """The split as it lies in the shards: {image: JPEG bytes, label: PNG bytes, id}."""
    check_split(builder, split)
    skip = tfds.decode.SkipDecoding()
    return builder.as_dataset(
        split=split,
        decoders={"image": skip, "label": skip},
        shuffle_files=False,
        read_config=tfds.ReadConfig(try_autocache=False),  # Kept encoded, the page cache has it.
    )


def _decode(builder, example):
    features = builder.info.features
    label = tf.cast(features["label"].decode_example(example["label"])[..., 0], tf.int32)
    num_classes = len(builder.info.metadata["class_names"])
    in_range = tf.reduce_all((label < num_classes) | (label == IGNORE_LABEL))
    message = f"A label outside 0..{num_classes - 1} and {IGNORE_LABEL}, in the image"
    with tf.control_dependencies([tf.debugging.Assert(in_range, [message, example["id"]])]):
        label = tf.identity(label)
    return {
        "image": features["image"].decode_example(example["image"]),
        "label": label,
        "id": example["id"],
    }
