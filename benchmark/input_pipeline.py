"""Times the input pipeline: training crops per second and core, beside plain JPEG decoding.

    python -m benchmark.input_pipeline voc2012 --split=trainaug

Both decode the same JPEGs, in turn; plain decoding decodes them whole.
"""

import argparse
import os
import statistics
import time
from collections.abc import Iterable, Mapping

from data.terminal import errors_in_a_line, make_parser, parse_early


def define_command_line() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = make_parser("benchmark.input_pipeline", __doc__)
    parser.add_argument("dataset")
    parser.add_argument("--split", default="train")
    parser.add_argument("--crop_size", type=int, default=513)
    parser.add_argument(
        "--data_dir", metavar="FOLDER", help="TFDS data directory; default: ~/tensorflow_datasets"
    )
    return parser


if __name__ == "__main__":
    parse_early(define_command_line())  # Before TensorFlow is imported.

import tensorflow as tf
import tensorflow_datasets as tfds

from data.build import open_dataset
from data.pipeline import SKIP_DECODING, check_split, train_batches

BATCH_SIZE, ROUNDS = 16, 5
STEPS_PER_ROUND = 63  # About 1000 images.


def decode_plainly(builder: tfds.core.DatasetBuilder, split: str) -> tf.data.Dataset:
    """A data set's split -> endless batches of its images' sizes, each decoded whole."""

    def decode(record):
        example = builder.info.features.deserialize_example(record, decoders=SKIP_DECODING)
        return tf.shape(tf.io.decode_image(example["image"], 3, expand_animations=False))

    records = tf.data.TFRecordDataset(list(map(str, check_split(builder, split).filepaths)))
    return (
        records.repeat()
        .map(decode, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(BATCH_SIZE)
        .prefetch(tf.data.AUTOTUNE)
    )


def measure(candidates: Mapping[str, Iterable]) -> list[float]:
    """Endless batches by name -> the median of each one's images per second and core."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    iterators = {name: iter(batches) for name, batches in candidates.items()}
    speeds = {name: [] for name in candidates}
    for _ in range(ROUNDS):
        for name, iterator in iterators.items():
            next(iterator)
            start = time.perf_counter()
            for _ in range(STEPS_PER_ROUND):
                next(iterator)
            speed = STEPS_PER_ROUND * BATCH_SIZE / (time.perf_counter() - start) / cores
            speeds[name].append(speed)
            print(f"{name}: {speed:.0f} images per second and core", flush=True)
    return [statistics.median(values) for values in speeds.values()]


def main() -> None:
    arguments = define_command_line().parse_args()
    with errors_in_a_line():
        builder = open_dataset(arguments.dataset, arguments.data_dir)
        crops = train_batches(
            builder,
            arguments.split,
            batch_size=BATCH_SIZE,
            crop_size=arguments.crop_size,
            mean_pixel=(0, 0, 0),
            seed=0,
        )
        plain_speed, crop_speed = measure(
            {
                "plain decoding": decode_plainly(builder, arguments.split),
                f"training crops of {arguments.crop_size}": crops,
            }
        )
    print(
        f"medians: {plain_speed:.0f}, {crop_speed:.0f}; "
        f"{crop_speed / plain_speed:.2f} of plain decoding"
    )


if __name__ == "__main__":
    main()
