"""The input pipeline: shards -> training batches, and whole images for evaluation."""

import sys
from collections.abc import Collection, Sequence

import tensorflow as tf
import tensorflow_datasets as tfds

from data.augment import crop_image, crop_label, draw_crop
from data.classes import IGNORE_LABEL
from data.terminal import track

# Size of the shuffle buffer, in encoded examples. All of VOC's trainaug fits: it has 1 GB.
SHUFFLE_BUFFER_BYTES = 2 * 2**30
MAX_OPEN_FILES = 64  # Records are interleaved from these; TFDS shuffled them when it wrote them.
SKIP_DECODING = {"image": tfds.decode.SkipDecoding(), "label": tfds.decode.SkipDecoding()}
READ_CONFIG = tfds.ReadConfig(try_autocache=False)  # The page cache has the encoded files already.


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
    """A split -> endless batches: images [B, crop, crop, 3] and labels [B, crop, crop], both uint8.

    The examples of batch k and their augmentation depend on (seed, k) alone, so a pipeline that
    starts at first_step yields the same batches as one that has reached that step. Skipped examples
    are read but not decoded. Batches span epoch boundaries, so no example is dropped.

    Args:
      builder, split: the data set, and one of its splits.
      batch_size: of all replicas of all workers together.
      crop_size: height and width of the crops.
      mean_pixel: the color that pads images smaller than the crop.
      seed: decides the order of examples and their augmentation.
      first_step: number of batches to skip.
      hard_classes, hard_class_factor: an image with one of these classes occurs this often in an
        epoch (the paper's bootstrapping).
      worker, num_workers: index and number; each worker gets its share of every batch.
      num_replicas: of all workers. A worker's share comes in one piece for each of its replicas.

    Returns:
      The dataset, with labels in 0..C-1 or 255. Iterating raises InvalidArgumentError, which names
      the image, for another label.

    Raises:
      ValueError: the replicas cannot share a batch equally, or split or hard_classes are unknown.
    """
    if batch_size % num_replicas:
        raise ValueError(
            f"A batch of {batch_size} cannot be shared equally by {num_replicas} replicas."
        )
    first_example = first_step * batch_size

    def decode_and_augment(position, record):
        seeds = tf.stack([tf.constant(seed, tf.int64), position])
        return _decode_and_augment(builder, record, seeds, crop_size, mean_pixel)

    return (
        _read_records(builder, split, seed, first_example, hard_classes, hard_class_factor)
        .enumerate(start=first_example)
        .shard(num_workers, worker)
        .map(decode_and_augment, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .batch(batch_size // num_replicas, drop_remainder=True)
        .prefetch(tf.data.AUTOTUNE)
    )


def _decode_and_augment(builder, record, seeds, crop_size, mean_pixel):
    """A record and two seeds -> an image [crop, crop, 3] and a label [crop, crop]."""
    example = builder.info.features.deserialize_example(record, decoders=SKIP_DECODING)
    label = _decode_label(builder, example)
    crop = draw_crop(tf.shape(label), seeds, crop_size)
    source = decode_part(example["image"], crop.source_corner, crop.source_size, tf.shape(label)[1])
    image = crop_image(source, crop, crop_size, mean_pixel)
    return image, crop_label(label, crop, crop_size)


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
    """The ids of the images in batch `step` of train_batches; the first batch is 0."""
    first_example = step * batch_size
    records = _read_records(builder, split, seed, first_example, hard_classes, hard_class_factor)
    examples = records.take(batch_size).map(
        lambda record: builder.info.features.deserialize_example(record, decoders=SKIP_DECODING)
    )
    return [example["id"].decode() for example in examples.as_numpy_iterator()]


def eval_examples(
    builder: tfds.core.DatasetBuilder, split: str, ids: Collection[str] | None = None
) -> tf.data.Dataset:
    """A split, or some of its ids -> its examples in a fixed order, each image whole and unscaled.

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
        split=split, decoders=SKIP_DECODING, shuffle_files=False, read_config=READ_CONFIG
    )
    if ids is not None:
        wanted = tf.constant(list(ids), tf.string)
        examples = examples.filter(lambda example: tf.reduce_any(example["id"] == wanted))
    return examples.map(decode, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def check_split(builder: tfds.core.DatasetBuilder, split: str) -> tfds.core.SplitInfo:
    """A split's name -> its SplitInfo; ValueError lists the splits if there is no such split."""
    if split not in builder.info.splits:
        raise ValueError(
            f"{builder.name} in {builder.data_dir} has no split {split!r}; it has "
            f"{', '.join(builder.info.splits)}."
        )
    return builder.info.splits[split]


def find_hard_images(
    builder: tfds.core.DatasetBuilder, split: str, hard_classes: Sequence[str]
) -> list[str]:
    """The ids of a split's images that show one of hard_classes; reads all labels of the split.

    Raises ValueError if the data set does not have these classes.
    """
    names = builder.info.metadata["class_names"]
    if missing := set(hard_classes) - set(names):
        raise ValueError(
            f"hard_classes has {', '.join(sorted(missing))}, which {builder.name} does not have."
        )
    hard = [names.index(name) for name in hard_classes]

    def find_hard(record):
        example = builder.info.features.deserialize_example(record, decoders=SKIP_DECODING)
        label = tf.cast(_decode_label(builder, example), tf.int32)
        pixels = tf.gather(tf.math.bincount(tf.reshape(label, [-1]), minlength=256), hard)
        return example["id"], tf.reduce_any(pixels > 0)

    info = check_split(builder, split)
    records = tf.data.TFRecordDataset(list(map(str, info.filepaths)))
    examples = records.map(find_hard, num_parallel_calls=tf.data.AUTOTUNE).as_numpy_iterator()
    found = track(examples, f"looking for hard classes in {split}", info.num_examples)
    return [name.decode() for name, is_hard in found if is_hard]


def _read_records(builder, split, seed, first_example, hard_classes, hard_class_factor):
    """The split's records, in endless shuffled epochs, starting at first_example."""
    hard = find_hard_images(builder, split, hard_classes) if hard_class_factor > 1 else []
    size = check_split(builder, split).num_examples + len(hard) * (hard_class_factor - 1)

    def repeat(record):
        example = builder.info.features.deserialize_example(record, decoders=SKIP_DECODING)
        is_hard = tf.reduce_any(example["id"] == tf.constant(hard))
        times = tf.where(is_hard, tf.constant(hard_class_factor, tf.int64), 1)
        return tf.data.Dataset.from_tensors(record).repeat(times)

    def read_epoch(epoch):
        return _read_epoch(builder, split, seed, epoch, size, repeat if hard else None)

    return (
        tf.data.Dataset.range(first_example // size, sys.maxsize)
        .flat_map(read_epoch)
        .skip(first_example % size)
    )


def _read_epoch(builder, split, seed, epoch, size, repeat):
    """One epoch's records, in an order that depends on (seed, epoch) alone."""
    info = builder.info.splits[split]
    buffer = max(1, min(size, info.num_examples * SHUFFLE_BUFFER_BYTES // info.num_bytes))
    seeds = tf.random.stateless_uniform((3,), [seed, epoch], None, None, tf.int64)
    tf.random.set_seed(1)  # Of this graph, so that the caller's global seed has no effect.
    files = tf.random.experimental.stateless_shuffle(list(map(str, info.filepaths)), seeds[:2])
    records = tf.data.Dataset.from_tensor_slices(files).interleave(
        tf.data.TFRecordDataset,
        cycle_length=min(len(info.filepaths), MAX_OPEN_FILES),  # The default depends on the cores.
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    if repeat is not None:
        records = records.flat_map(repeat)
    return records.shuffle(buffer, seeds[2], reshuffle_each_iteration=False)


def _decode_label(builder, example):
    """An encoded example -> [H, W] uint8 class ids; asserts that they are in range."""
    label = tf.io.decode_png(example["label"], channels=1)[..., 0]
    num_classes = len(builder.info.metadata["class_names"])
    assert IGNORE_LABEL + 1 == 256  # So it wraps to 0 in uint8 below, which is in range.
    in_range = tf.reduce_max(label + 1) <= num_classes
    message = f"A label is outside 0..{num_classes - 1} and not {IGNORE_LABEL}, in the image"
    with tf.control_dependencies([tf.debugging.Assert(in_range, [message, example["id"]])]):
        return tf.identity(label)


def decode_part(
    encoded: tf.Tensor, corner: tf.Tensor, size: tf.Tensor, width: tf.Tensor
) -> tf.Tensor:
    """A JPEG or PNG -> a rectangle of its pixels, [*size, 3] uint8.

    The pixels equal those of the whole decoded image. A JPEG's colors are interpolated between
    neighbors, so one more column is decoded on each side.

    Args:
      encoded: the file's bytes.
      corner: [2]: top and left of the rectangle.
      size: [2]: its height and width.
      width: of the whole image.

    Returns:
      The pixels.
    """
    (top, left), (height, columns) = tf.unstack(corner), tf.unstack(size)
    before = tf.minimum(left, 1)
    after = tf.minimum(width - left - columns, 1)
    box = [top, left - before, height, before + columns + after]

    def from_jpeg():
        wider = tf.io.decode_and_crop_jpeg(encoded, box, channels=3)
        return wider[:, before : before + columns]

    def from_png():
        return tf.io.decode_png(encoded, 3)[top : top + height, left : left + columns]

    return tf.cond(tf.io.is_jpeg(encoded), from_jpeg, from_png)
