"""Builds a data set's shards, once, before training.

    python -m data.build shapes                                  generates its images
    python -m data.build voc2012                                 downloads VOC and SBD
    python -m data.build voc2012 --manual_dir=/where/it/is       uses the originals there
    python -m data.build coco_voc21/per_region --manual_dir=/where/it/is
    python -m data.build cityscapes --manual_dir=/where/it/is
    python -m data.build folder/pets --manual_dir=/my/pets       your own images and masks

The shards go to ~/tensorflow_datasets, to $TFDS_DATA_DIR, or to --data_dir. An interrupted build
leaves no shards. --overwrite builds a data set again; the old shards stay until the new ones are
complete.
"""

import argparse
import hashlib
import pathlib
import re
import shlex
import sys
import tempfile
import time

from data.classes import ORIGINALS
from data.terminal import errors_in_a_line, make_parser, parse_early


def define_command_line() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = make_parser("data.build", __doc__)
    parser.epilog = "\n\n".join(f"{name}: {originals}" for name, originals in ORIGINALS.items())
    parser.add_argument(
        "name",
        metavar="dataset",
        help=f"shapes, {', '.join(ORIGINALS)}; add /CONFIG to choose a config",
    )
    parser.add_argument("--manual_dir", metavar="FOLDER", help="folder of the originals")
    parser.add_argument("--data_dir", metavar="FOLDER", help="TFDS data directory for the shards")
    parser.add_argument(
        "--accept", action="store_true", help="build folder/NAME with the proposed class names"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a data set that exists")
    return parser


if __name__ == "__main__":
    parse_early(define_command_line())  # Before TensorFlow is imported.

import tensorflow as tf
import tensorflow_datasets as tfds

from data.cityscapes import Cityscapes
from data.coco_voc21 import CocoVoc21
from data.folder import Folder, ensure_classes
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
# Of the data sets that a config names: its flag, and the split it trains on.
CONFIGS = {
    "shapes": ("", "train"),
    "voc2012": (" --config=experiments/base.py", "trainaug"),
    "coco_voc21": (" --config=experiments/protocols.py:coco", "train"),
    "coco_voc21/per_region": (" --config=experiments/protocols.py:coco", "train"),
}


def open_dataset(name: str, data_dir: str | None = None) -> tfds.core.DatasetBuilder:
    """`BUILDER` or `BUILDER/CONFIG` -> its builder, with its shards built.

    A data set that needs no originals is built if necessary. For others, raises FileNotFoundError
    with the command that builds it. Raises ValueError for an unknown name.
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
    name: str,
    data_dir: str | None = None,
    manual_dir: str | None = None,
    *,
    accept: bool = False,
    overwrite: bool = False,
) -> tfds.core.DatasetBuilder:
    """`BUILDER` or `BUILDER/CONFIG` -> its builder, after writing the shards; prints their sizes.

    Args:
      name: a key of BUILDERS, optionally with a config.
      data_dir: where the shards go; None for TFDS's default.
      manual_dir: the folder of the originals; None to download or generate them.
      accept: whether to build a folder without classes.json from the classes that are proposed.
      overwrite: whether to replace shards that exist, once the new ones are complete.

    Returns:
      The builder.

    Raises:
      FileExistsError: The shards exist already, and are not to be overwritten.
      ClassesProposed: A folder had no classes.json; now it has one to review.
      ValueError: The name is unknown, or an original is invalid. Leaves no shards.
      OSError: An original is missing or cannot be downloaded, or the shards cannot be written.
    """
    builder = make_builder(name, data_dir)
    can_download = getattr(builder, "CAN_DOWNLOAD", False)
    if builder.MANUAL_DOWNLOAD_INSTRUCTIONS and manual_dir is None and not can_download:
        raise ValueError(f"{name} is built from originals. {builder.MANUAL_DOWNLOAD_INSTRUCTIONS}")
    if manual_dir is not None and not any(pathlib.Path(manual_dir).glob("*")):
        raise FileNotFoundError(f"--manual_dir={manual_dir} is empty or not a folder.")
    exists = builder.is_prepared()
    if exists and not overwrite:
        raise FileExistsError(
            f"{name} already exists in {builder.data_dir}; --overwrite builds it again."
        )
    if isinstance(builder, Folder):
        ensure_classes(pathlib.Path(manual_dir), accept=accept)
    tfds.disable_progress_bar()  # The builders show their own progress.
    print(f"Building {name} in {builder.data_dir} ...", flush=True)
    start = time.monotonic()
    if exists:
        _replace_shards(builder, name, manual_dir)
        builder = make_builder(name, data_dir)
    else:
        _write_shards(builder, manual_dir, builder.data_dir_root / "downloads")
    print(f"Built {name} in {time.monotonic() - start:.0f} s:\n{describe_splits(builder)}")
    return builder


def _write_shards(builder, manual_dir, download_dir):
    """Writes the shards of a builder; a full disk is an OSError that says so."""
    # TFDS announces a download of unknown size, also where there is none.
    builder._log_download_bytes = builder._log_download_done = lambda: None
    config = tfds.download.DownloadConfig(manual_dir=manual_dir, try_download_gcs=False)
    try:
        builder.download_and_prepare(download_config=config, download_dir=download_dir)
    except (RuntimeError, tf.errors.ResourceExhaustedError) as error:  # TFDS's for a full disk.
        raise OSError(
            f"{builder.data_dir} cannot be written: {error}. Is the disk full? Free some space, or "
            "choose another folder with --data_dir."
        ) from error


def _replace_shards(builder, name, manual_dir):
    """Writes a data set's shards beside the old ones, then puts them in their place.

    TFDS's own overwriting deletes the old ones first.
    """
    root, shards = builder.data_dir_root, pathlib.Path(builder.data_dir)
    with tempfile.TemporaryDirectory(dir=root, prefix=".rebuilding_") as beside:
        new = make_builder(name, beside)
        _write_shards(new, manual_dir, root / "downloads")
        old = shards.rename(pathlib.Path(beside) / "old")
        try:
            pathlib.Path(new.data_dir).rename(shards)
        except OSError:
            old.rename(shards)
            raise


def make_builder(name: str, data_dir: str | None = None) -> tfds.core.DatasetBuilder:
    """`BUILDER` or `BUILDER/CONFIG` -> its builder; ValueError lists those that exist."""
    kind, _, config = name.partition("/")
    if kind not in BUILDERS:
        raise ValueError(f"Unknown data set {kind!r}; choose one of {', '.join(BUILDERS)}.")
    builder = BUILDERS[kind]
    if builder is Folder:
        if not re.fullmatch(r"\w+", config):
            raise ValueError(
                f"Name your data set with letters, digits and _, as in folder/pets; got {name!r}."
            )
        config = tfds.core.BuilderConfig(name=config)
    elif config and config not in builder.builder_configs:
        known = ", ".join(f"{kind}/{one}" for one in builder.builder_configs) or kind
        raise ValueError(f"Unknown data set {name!r}; choose one of {known}.")
    return builder(data_dir=data_dir, config=config or None)


def next_command(builder: tfds.core.DatasetBuilder, name: str, data_dir: str | None = None) -> str:
    """A data set that was built, and its name -> the command that trains on it."""
    command, split = CONFIGS.get(name, ("", None))
    if split not in builder.info.splits:  # Made from a part of the originals, or not of the paper.
        command = f" --data={name}"
    flag = f" --data_dir={shlex.quote(data_dir)}" if data_dir else ""
    return f"python train.py{command}{flag}"


def audit_hash(builder: tfds.core.DatasetBuilder) -> str | None:
    """The sha256 of a data set's audit.json; None if it was not audited."""
    file = pathlib.Path(builder.data_dir) / "audit.json"
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else None


def describe_splits(builder: tfds.core.DatasetBuilder) -> str:
    """A line for each split: its number of images, and the official number if that differs."""
    absent = getattr(builder, "SPLIT_SIZES", {}).keys() - builder.info.splits.keys()
    lines = [f"  {split}: left out, its originals are missing" for split in sorted(absent)]
    for split, info in builder.info.splits.items():
        official = getattr(builder, "SPLIT_SIZES", {}).get(split, info.num_examples)
        partial = (
            f", partial: the official split has {official}" if official != info.num_examples else ""
        )
        lines.append(f"  {split}: {info.num_examples} images{partial}")
    return "\n".join(lines)


def main() -> None:
    arguments = define_command_line().parse_args()
    tf.config.set_visible_devices([], "GPU")  # Decoding a photo would take all of their memory.
    with errors_in_a_line():
        try:
            builder = build(**vars(arguments))
        except ClassesProposed as proposal:
            print(
                f"{proposal}\nNothing is built yet. Give the classes their names in that file, and "
                "check what is ignored;\nthen run the same command again. Or add --accept, to "
                "build with the proposed names."
            )
        except KeyboardInterrupt:
            sys.exit("\nStopped; nothing was built.")
        else:
            print(f"Next: {next_command(builder, arguments.name, arguments.data_dir)}")


if __name__ == "__main__":
    main()
