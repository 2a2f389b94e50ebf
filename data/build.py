"""Builds a data set's shards, once, before anything is trained on it.

    python -m data.build shapes                                  made up on the spot
    python -m data.build voc2012                                 fetches VOC and SBD
    python -m data.build voc2012 --manual_dir=/where/it/is       takes what is there
    python -m data.build coco_voc21/per_region --manual_dir=/where/it/is
    python -m data.build cityscapes --manual_dir=/where/it/is
    python -m data.build folder/pets --manual_dir=/my/pets       photos and masks of your own

The shards go to ~/tensorflow_datasets, to $TFDS_DATA_DIR, or to --data_dir. A build that was
interrupted leaves nothing that passes for whole.
"""

import argparse
import hashlib
import logging
import pathlib
import re
import sys
import time

import tensorflow as tf
import tensorflow_datasets as tfds

from data.cityscapes import Cityscapes
from data.coco_voc21 import CocoVoc21
from data.folder import Folder
from data.mask_classes import ClassesProposed
from data.shapes import Shapes
from data.voc2012 import Voc2012

BUILDERS = {
    "shapes": Shapes,
    "voc2012": Voc2012,
    "coco_voc21": CocoVoc21,
    "cityscapes": Cityscapes,
    "folder": Folder,
}


def open_dataset(name: str, data_dir: str | None = None) -> tfds.core.DatasetBuilder:
    """`BUILDER` or `BUILDER/CONFIG` -> its builder, with the shards in place.

    What needs no originals is built here and now. Raises FileNotFoundError, with the command that
    builds it, for what does; ValueError for an unknown name.
    """
    builder = make_builder(name, data_dir)
    if not builder.is_prepared():
        if builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
            raise FileNotFoundError(
                f"{name} is not in {builder.data_dir}. Build it there once, with\n"
                f"  python -m data.build {name} --manual_dir=FOLDER"
                + (f" --data_dir={data_dir}" if data_dir else "")
                + f"\n{builder.MANUAL_DOWNLOAD_INSTRUCTIONS}"
            )
        builder = build(name, data_dir)
    return builder


def build(
    name: str, data_dir: str | None = None, manual_dir: str | None = None
) -> tfds.core.DatasetBuilder:
    """`BUILDER` or `BUILDER/CONFIG` -> its builder, after it wrote the shards; prints their sizes.

    manual_dir: the folder of the originals. Raises ValueError or OSError where something is wrong
    with it, and then leaves no shards; FileExistsError where there are some already.
    """
    builder = make_builder(name, data_dir)
    fetches = getattr(builder, "FETCHES", False)
    if builder.MANUAL_DOWNLOAD_INSTRUCTIONS and manual_dir is None and not fetches:
        raise ValueError(f"{name} is made from originals. {builder.MANUAL_DOWNLOAD_INSTRUCTIONS}")
    if manual_dir is not None and not any(pathlib.Path(manual_dir).glob("*")):
        raise FileNotFoundError(f"--manual_dir={manual_dir} is empty, or no folder.")
    if builder.is_prepared():
        raise FileExistsError(
            f"{name} is in {builder.data_dir} already; delete that folder to build it again."
        )
    tfds.disable_progress_bar()  # The builders show how far they are.
    print(f"Building {name} in {builder.data_dir} ...", flush=True)
    start = time.monotonic()
    config = tfds.download.DownloadConfig(manual_dir=manual_dir, try_download_gcs=False)
    try:
        builder.download_and_prepare(download_config=config)
    except (RuntimeError, tf.errors.ResourceExhaustedError) as error:  # So TFDS tells of it.
        raise OSError(
            f"{builder.data_dir} cannot be written: {error}. Is the disk full? Make room, or name "
            "another place with --data_dir."
        ) from error
    print(f"Built {name} in {time.monotonic() - start:.0f} s:\n{split_sizes(builder)}")
    return builder


def make_builder(name: str, data_dir: str | None = None) -> tfds.core.DatasetBuilder:
    """`BUILDER` or `BUILDER/CONFIG` -> its builder; ValueError, which lists them, for another."""
    kind, _, config = name.partition("/")
    if kind not in BUILDERS:
        raise ValueError(f"No data set {kind!r}; there are {', '.join(BUILDERS)}.")
    builder = BUILDERS[kind]
    if builder is Folder:
        if not re.fullmatch(r"\w+", config):
            raise ValueError(
                f"Name your data set with letters, digits and _, as in folder/pets, not {name!r}."
            )
        config = tfds.core.BuilderConfig(name=config)
    elif config and config not in builder.builder_configs:
        known = ", ".join(f"{kind}/{one}" for one in builder.builder_configs) or kind
        raise ValueError(f"No data set {name!r}; there is {known}.")
    return builder(data_dir=data_dir, config=config or None)


def audit_hash(builder: tfds.core.DatasetBuilder) -> str | None:
    """The sha256 of a data set's audit.json; None where it was not audited."""
    file = pathlib.Path(builder.data_dir) / "audit.json"
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else None


def split_sizes(builder: tfds.core.DatasetBuilder) -> str:
    """A line for each split: its number of images, and the official one's where that differs."""
    absent = getattr(builder, "SPLIT_SIZES", {}).keys() - builder.info.splits.keys()
    lines = [f"  {split}: left out, its originals were not there" for split in sorted(absent)]
    for split, info in builder.info.splits.items():
        official = getattr(builder, "SPLIT_SIZES", {}).get(split, info.num_examples)
        partial = (
            f", partial: the official one has {official}" if official != info.num_examples else ""
        )
        lines.append(f"  {split}: {info.num_examples} images{partial}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m data.build",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n\n".join(
            f"{name}: {builder.MANUAL_DOWNLOAD_INSTRUCTIONS or 'needs no originals.'}"
            for name, builder in BUILDERS.items()
        ),
    )
    parser.add_argument("dataset", help=f"{', '.join(BUILDERS)}; or with a config, after a slash")
    parser.add_argument("--manual_dir", metavar="FOLDER", help="the originals that you have")
    parser.add_argument("--data_dir", metavar="FOLDER", help="where the shards go")
    arguments = parser.parse_args()
    logging.getLogger("absl").setLevel(logging.ERROR)  # TFDS warns of what is not built yet.
    try:
        build(arguments.dataset, arguments.data_dir, arguments.manual_dir)
    except ClassesProposed as proposal:
        sys.exit(str(proposal))
    except (ValueError, OSError, tf.errors.OpError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("\nStopped; nothing was built.")


if __name__ == "__main__":
    main()
