"""Times the input pipeline: training crops per second and core, beside plain JPEG decoding.

    python -m benchmark.input_pipeline voc2012 --split=trainaug

The same JPEGs are decoded whole by both, in turn.
"""

import argparse
import os
import statistics
import sys
import time

import tensorflow as tf
import tensorflow_datasets as tfds

from data.build import open_dataset
from data.pipeline import SKIP_DECODING, check_split, train_batches


def benchmark(builder: tfds.core.DatasetBuilder, split: str, crop_size: int) -> None:
    """Prints images per second and core of train_batches, beside those of plain JPEG decoding."""
    batch_size, rounds = 16, 5
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    steps = -(-1000 // batch_size)
    records = tf.data.TFRecordDataset(list(map(str, check_split(builder, split).filepaths)))

    def plainly_decoded(record):
        example = builder.info.features.deserialize_example(record, decoders=SKIP_DECODING)
        return tf.shape(tf.io.decode_image(example["image"], 3, expand_animations=False))

    contenders = {
        "plain decoding": records.repeat()
        .map(plainly_decoded, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(batch_size)
        .prefetch(tf.data.AUTOTUNE),
        f"training crops of {crop_size}": train_batches(
            builder,
            split,
            batch_size=batch_size,
            crop_size=crop_size,
            mean_pixel=(0, 0, 0),
            seed=0,
        ),
    }
    iterators = {name: iter(batches) for name, batches in contenders.items()}
    speeds = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, iterator in iterators.items():
            next(iterator)
            start = time.perf_counter()
            for _ in range(steps):
                next(iterator)
            speed = steps * batch_size / (time.perf_counter() - start) / cores
            speeds[name].append(speed)
            print(f"{name}: {speed:.0f} images per second and core", flush=True)
    plain, crops = (statistics.median(values) for values in speeds.values())
    print(f"medians: {plain:.0f}, {crops:.0f}; {crops / plain:.2f} of plain decoding")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmark.input_pipeline",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("dataset")
    parser.add_argument("--split", default="train")
    parser.add_argument("--crop_size", type=int, default=513)
    parser.add_argument("--data_dir", metavar="FOLDER", help="where the shards are")
    arguments = parser.parse_args()
    try:
        builder = open_dataset(arguments.dataset, arguments.data_dir)
        benchmark(builder, arguments.split, arguments.crop_size)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
