"""The predictions of a test split -> the file for its server."""

import pathlib
from collections.abc import Iterable, Mapping
from types import ModuleType

import numpy as np

from data.classes import ids_sha256
from data.files import beside
from data.terminal import track
from evaluation import cityscapes_submission, voc_submission
from evaluation.evaluator import Evaluator

# By data set: SUFFIX of the server's file, write_archive and check_archive.
SERVERS: dict[str, ModuleType] = {"voc2012": voc_submission, "cityscapes": cityscapes_submission}


def submit(evaluator: Evaluator, file: pathlib.Path) -> None:
    """Predicts all images of a test split -> the file for its server; no label is looked at.

    Raises ValueError for another data set or split, for images that are not the official ones, and
    where the file's folder does not exist. The file is then as it was before.
    """
    if file.is_dir() or not file.parent.is_dir():
        raise ValueError(f"{file} cannot be written: it is a folder, or its folder is missing.")
    name, split = evaluator.builder.name, evaluator.split
    if name not in SERVERS or split != "test":
        raise ValueError(
            f"There are servers for test of {' and '.join(SERVERS)}, not for {split} of {name}. "
            "--masks writes predictions of any split."
        )
    if evaluator.num_images != evaluator.official_images:
        raise ValueError(
            f"The server takes all {evaluator.official_images} images of test; found "
            f"{evaluator.num_images}."
        )
    server = SERVERS[name]
    if file.suffix != server.SUFFIX:
        raise ValueError(f"The server of {name} takes a {server.SUFFIX}, not {file.name}.")
    sizes = {}
    write_submission(file, server, _named_predictions(evaluator, sizes), sizes)


def write_submission(
    file: pathlib.Path,
    server: ModuleType,
    predictions: Iterable[tuple[str, np.ndarray]],
    sizes: Mapping[str, tuple[int, int]],
) -> None:
    """(id, [H, W] uint8 class ids) of each image -> the server's file, once it is validated.

    Args:
      file: written beside its place, then renamed.
      server: one of SERVERS.
      predictions: of every image, in any order.
      sizes: (height, width) of each image that must be in the file, by id. It may be filled while
        the predictions come.

    Raises:
      ValueError: the server would refuse the file, or misread it.
    """
    with beside(file) as new:
        server.write_archive(new, predictions)
        server.check_archive(new, sizes)


def _named_predictions(evaluator, sizes):
    """(id, [H, W] class ids) of each image; fills sizes, by id.

    Raises ValueError at the end where the ids are not the official ones.
    """
    split = evaluator.split
    for example, prediction in track(
        evaluator.predictions(), f"predicting {split}", evaluator.num_images
    ):
        name = example["id"].decode()
        sizes[name] = example["image"].shape[:2]
        yield name, prediction
    official = getattr(evaluator.builder, "SPLIT_IDS_SHA256", {}).get(split)
    if len(sizes) != evaluator.num_images or official not in (None, ids_sha256(sizes)):
        raise ValueError(
            f"The {len(sizes)} images that were predicted are not the official ones of {split}. "
            f"Build {evaluator.builder.name} again."
        )
