"""Builds a data set's shards, once, before anything is trained on it.

    python -m data.build voc2012 --originals=/where/it/is/VOCdevkit
    python -m data.build shapes

The shards go to ~/tensorflow_datasets, to $TFDS_DATA_DIR, or to --data_dir. A build that was
interrupted leaves nothing that passes for whole.
"""

import argparse
import sys
import time

import tensorflow_datasets as tfds

from data.shapes import Shapes
from data.voc2012 import Voc2012

BUILDERS = {"shapes": Shapes, "voc2012": Voc2012}


def open_dataset(name: str, data_dir: str | None = None) -> tfds.core.DatasetBuilder:
    """A key of BUILDERS -> its builder, with the shards in place.

    What needs no originals is built here and now. Raises FileNotFoundError, with the command that
    builds it, for what does; ValueError for an unknown name.
    """
    builder = _builder(name, data_dir)
    if not builder.is_prepared():
        if builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
            raise FileNotFoundError(
                f"{name} is not in {builder.data_dir}. Build it there once, with\n"
                f"  python -m data.build {name} --originals=FOLDER"
                + (f" --data_dir={data_dir}" if data_dir else "")
                + f"\n{builder.MANUAL_DOWNLOAD_INSTRUCTIONS}"
            )
        builder = build(name, data_dir)
    return builder


def build(
    name: str, data_dir: str | None = None, originals: str | None = None
) -> tfds.core.DatasetBuilder:
    """A key of BUILDERS -> its builder, after it wrote the shards; prints what each split holds.

    originals: the folder that the data set is made from. Raises ValueError or FileNotFoundError
    where something is wrong with it, and then leaves no shards; FileExistsError where there are
    some already.
    """
    builder = _builder(name, data_dir)
    if builder.MANUAL_DOWNLOAD_INSTRUCTIONS and originals is None:
        raise ValueError(f"{name} is made from originals. {builder.MANUAL_DOWNLOAD_INSTRUCTIONS}")
    if builder.is_prepared():
        raise FileExistsError(
            f"{name} is in {builder.data_dir} already; delete that folder to build it again."
        )
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    print(f"Building {name} in {builder.data_dir} ...", flush=True)
    start = time.monotonic()
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=originals),
    )
    counts = (f"{split} {info.num_examples}" for split, info in builder.info.splits.items())
    print(f"Built {name} in {time.monotonic() - start:.0f} s: {', '.join(counts)} images.")
    return builder


def _builder(name, data_dir):
    if name not in BUILDERS:
        raise ValueError(f"No data set {name!r}; there are {', '.join(BUILDERS)}.")
    return BUILDERS[name](data_dir=data_dir)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m data.build",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("dataset", choices=BUILDERS)
    parser.add_argument("--originals", metavar="FOLDER", help="what the data set is made from")
    parser.add_argument("--data_dir", metavar="FOLDER", help="where the shards go")
    arguments = parser.parse_args()
    try:
        build(arguments.dataset, arguments.data_dir, arguments.originals)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("\nStopped; nothing was built.")


if __name__ == "__main__":
    main()
