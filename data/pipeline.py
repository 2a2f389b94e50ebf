"""From shards to what a model is fed: training batches, and whole images for evaluation."""

import sys
from collections.abc import Collection, Sequence

import tensorflow as tf
import tensorflow_datasets as tfds

from data.augment import crop_image, crop_label, draw_window
from data.classes import IGNORE_LABEL
from data.terminal import track

# Examples, still encoded, from which the next is drawn: all of VOC's trainaug, which is 1 GB.
SHUFFLE_BYTES = 2 * 2**30
FILES_AT_A_TIME = 64  # From which records come in turn; in the files they are shuffled already.
ENCODED = {"image": tfds.decode.SkipDecoding(), "label": tfds.decode.SkipDecoding()}
READ = tfds.ReadConfig(try_autocache=False)  # Kept encoded, the page cache has it.


def train_batches(
    builder: tfds.core.DatasetBuilder,
    split: str,
    *,
    batch_size: int,
    crop_size: int,
    mean_pixel: tuple[float, float, float],
    seed: int,
    first_step: int = 0,
    hard_classes: Sequence[str] = (),
    hard_class_factor: int = 1,
    worker: int = 0,
    num_workers: int = 1,
    num_replicas: int = 1,
) -> tf.data.Dataset:
    """A split -> images [B, crop, crop, 3] uint8 and labels [B, crop, crop] int32, without end.

    Labels are in 0..C-1 or 255. Which examples batch k holds, and how they were augmented,
    depends on (seed, k) alone: a pipeline that begins at first_step yields what another one does
    from there on; what it skips is read but not decoded. Batches run on across the end of an
    epoch, so that no example is dropped. An image that shows one of hard_classes comes
    hard_class_factor times in an epoch (the paper's bootstrapping). batch_size is that of all
    replicas of all workers together: where there are several, a worker's share of batch k comes as
    that many pieces as it has replicas. Raises InvalidArgumentError, which names the image, for a
    label outside the range; ValueError where the replicas cannot share a batch equally.
    """
    if batch_size % num_replicas:
        raise ValueError(f"A batch of {batch_size} cannot be shared by {num_replicas} replicas.")
    first_example = first_step * batch_size

    def decode_and_augment(position, record):
        example = builder.info.features.deserialize_example(record, decoders=ENCODED)
        label = _decode_label(builder, example)
        window = draw_window(
            tf.shape(label), tf.stack([tf.constant(seed, tf.int64), position]), crop_size
        )
        part = decode_part(example["image"], window.first, window.size, tf.shape(label)[1])
        image = crop_image(part, window, crop_size, mean_pixel)
        return image, tf.cast(crop_label(label, window, crop_size), tf.int32)

    return (
        _records(builder, split, seed, first_example, hard_classes, hard_class_factor)
        .enumerate(start=first_example)
        .shard(num_workers, worker)
        .map(decode_and_augment, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .batch(batch_size // num_replicas, drop_remainder=True)
        .prefetch(tf.data.AUTOTUNE)
    )


def batch_ids(
    builder: tfds.core.DatasetBuilder,
    split: str,
    *,
    batch_size: int,
    seed: int,
    step: int,
    hard_classes: Sequence[str] = (),
    hard_class_factor: int = 1,
) -> list[str]:
    """The ids of the images in batch `step` of train_batches, which begin with batch 0."""
    records = _records(builder, split, seed, step * batch_size, hard_classes, hard_class_factor)
    examples = records.take(batch_size).map(
        lambda record: builder.info.features.deserialize_example(record, decoders=ENCODED)
    )
    return [example["id"].decode() for example in examples.as_numpy_iterator()]


def eval_examples(
    builder: tfds.core.DatasetBuilder, split: str, ids: Collection[str] | None = None
) -> tf.data.Dataset:
    """A split, or some ids of it -> the examples in their order: whole images at their own size.

    Each is {image: [H, W, 3] uint8, label: [H, W] int32, id: text}.
    """
    check_split(builder, split)

    def decode(example):
        return {
            "image": tf.io.decode_image(example["image"], 3, expand_animations=False),
            "label": tf.cast(_decode_label(builder, example), tf.int32),
            "id": example["id"],
        }

    examples = builder.as_dataset(
        split=split, decoders=ENCODED, shuffle_files=False, read_config=READ
    )
    if ids is not None:
        wanted = tf.constant(list(ids), tf.string)
        examples = examples.filter(lambda example: tf.reduce_any(example["id"] == wanted))
    return examples.map(decode, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def check_split(builder: tfds.core.DatasetBuilder, split: str) -> tfds.core.SplitInfo:
    """A split's name -> what is known of it; ValueError, which lists the splits, for another."""
    if split not in builder.info.splits:
        raise ValueError(
            f"{builder.name} in {builder.data_dir} has no split {split!r}; it has "
            f"{', '.join(builder.info.splits)}."
        )
    return builder.info.splits[split]


def hard_images(
    builder: tfds.core.DatasetBuilder, split: str, hard_classes: Sequence[str]
) -> list[str]:
    """The ids of a split's images that show one of some classes; reads all its labels.

    Raises ValueError where the data set does not have these classes.
    """
    names = builder.info.metadata["class_names"]
    if missing := set(hard_classes) - set(names):
        raise ValueError(
            f"hard_classes has {', '.join(sorted(missing))}, which {builder.name} does not have."
        )
    hard = [names.index(name) for name in hard_classes]

    def look(record):
        example = builder.info.features.deserialize_example(record, decoders=ENCODED)
        label = tf.cast(_decode_label(builder, example), tf.int32)
        seen = tf.gather(tf.math.bincount(tf.reshape(label, [-1]), minlength=256), hard)
        return example["id"], tf.reduce_any(seen > 0)

    info = check_split(builder, split)
    records = tf.data.TFRecordDataset(list(map(str, info.filepaths)))
    looked = records.map(look, num_parallel_calls=tf.data.AUTOTUNE).as_numpy_iterator()
    found = track(looked, f"looking for hard classes in {split}", info.num_examples)
    return [name.decode() for name, is_hard in found if is_hard]


def _records(builder, split, seed, first_example, hard_classes, hard_class_factor):
    """The split's records, epoch after epoch without end, from first_example on."""
    hard = hard_images(builder, split, hard_classes) if hard_class_factor > 1 else []
    size = check_split(builder, split).num_examples + len(hard) * (hard_class_factor - 1)

    def copies(record):
        example = builder.info.features.deserialize_example(record, decoders=ENCODED)
        is_hard = tf.reduce_any(example["id"] == tf.constant(hard))
        times = tf.where(is_hard, tf.constant(hard_class_factor, tf.int64), 1)
        return tf.data.Dataset.from_tensors(record).repeat(times)

    def shuffled(epoch):
        return _shuffled_records(builder, split, seed, epoch, size, copies if hard else None)

    return (
        tf.data.Dataset.range(first_example // size, sys.maxsize)
        .flat_map(shuffled)
        .skip(first_example % size)
    )


def _shuffled_records(builder, split, seed, epoch, size, copies):
    """One epoch's records, in an order that (seed, epoch) decides."""
    info = builder.info.splits[split]
    buffer = max(1, min(size, info.num_examples * SHUFFLE_BYTES // info.num_bytes))
    seeds = tf.random.stateless_uniform((3,), [seed, epoch], None, None, tf.int64)
    tf.random.set_seed(1)  # Of this graph, so that the caller's has no part in the order.
    files = tf.random.experimental.stateless_shuffle(list(map(str, info.filepaths)), seeds[:2])
    records = tf.data.Dataset.from_tensor_slices(files).interleave(
        tf.data.TFRecordDataset,
        cycle_length=min(len(info.filepaths), FILES_AT_A_TIME),  # Else as many as there are cores.
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    if copies is not None:
        records = records.flat_map(copies)
    return records.shuffle(buffer, seeds[2], reshuffle_each_iteration=False)


def _decode_label(builder, example):
    """An encoded example -> [H, W] uint8 class ids, all of them in range."""
    label = tf.io.decode_png(example["label"], channels=1)[..., 0]
    num_classes = len(builder.info.metadata["class_names"])
    assert IGNORE_LABEL + 1 == 256  # Becomes 0 below: uint8 has no 256.
    in_range = tf.reduce_max(label + 1) <= num_classes
    message = f"A label outside 0..{num_classes - 1} and {IGNORE_LABEL}, in the image"
    with tf.control_dependencies([tf.debugging.Assert(in_range, [message, example["id"]])]):
        return tf.identity(label)


def decode_part(
    encoded: tf.Tensor, first: tf.Tensor, size: tf.Tensor, width: tf.Tensor
) -> tf.Tensor:
    """A JPEG or PNG -> some of its pixels, [*size, 3] uint8 from row and column first on.

    width: the whole image's. They equal the whole image's: a JPEG's colours are interpolated
    between neighbours, so that one more column is decoded at each side.
    """
    (top, left), (height, columns) = tf.unstack(first), tf.unstack(size)
    before = tf.minimum(left, 1)
    after = tf.minimum(width - left - columns, 1)
    box = [top, left - before, height, before + columns + after]

    def from_jpeg():
        wider = tf.io.decode_and_crop_jpeg(encoded, box, channels=3)
        return wider[:, before : before + columns]

    def from_png():
        return tf.io.decode_png(encoded, 3)[top : top + height, left : left + columns]

    return tf.cond(tf.io.is_jpeg(encoded), from_jpeg, from_png)
