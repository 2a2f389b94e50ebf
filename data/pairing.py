"""Your own images and masks: which files of images/ and masks/ are a pair, and its name."""

import glob
import itertools
import os
import pathlib
import posixpath
import re
import unicodedata

from data.classes import ORIGINALS
from data.photos import PHOTO_SUFFIXES, is_leftover

# Of files that are meant as images, whether or not they can be read.
IMAGE_SUFFIXES = (*PHOTO_SUFFIXES, ".bmp", ".gif", ".tif", ".tiff")
# Of names, if all images or all masks have the same one.
IMAGE_ENDING = re.compile(r"[-_.](leftImg8bit|images?|img|rgb|sat)$", re.IGNORECASE)
MASK_ENDING = re.compile(
    r"[-_.]((gtFine|gtCoarse)_labelIds|labelIds|labels?|masks?|seg|segmentation|gt)$", re.IGNORECASE
)
SPLIT_FOLDERS = {  # In images/ and masks/: the split that a folder holds.
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}

Pairs = dict[str, tuple[pathlib.Path, pathlib.Path]]  # By name: the image's and the mask's file.


def match_names(images: pathlib.Path, masks: pathlib.Path) -> Pairs:
    """Two folders -> the pairs of files with one name, or one up to an ending such as _mask.

    Images of a split "test" are left out if it has no masks. Raises ValueError for a file without
    a partner, and FileNotFoundError for a folder that is missing.
    """
    image_files, mask_files = list_files(images), list_files(masks)
    if not any(name.startswith("test/") for name in mask_files):
        test = [name for name in image_files if name.startswith("test/")]
        image_files = {name: image_files[name] for name in image_files.keys() - test}
        if test:
            print(f"{len(test)} images of test have no masks and are left out.", flush=True)
    choices = itertools.product(
        (image_files, cut_ending(image_files, IMAGE_ENDING)),
        (mask_files, cut_ending(mask_files, MASK_ENDING)),
    )
    # Of equally good choices the first, which cuts nothing off.
    image_files, mask_files = min(choices, key=lambda both: len(both[0].keys() ^ both[1].keys()))
    if unmatched := sorted(image_files.keys() ^ mask_files.keys()):
        name = unmatched[0]
        raise ValueError(
            f"{image_files.get(name) or mask_files[name]} has no partner in "
            f"{masks if name in image_files else images}, and there are {len(unmatched) - 1} more "
            "such files. Add the partners, remove the files without one, or write "
            f"{images.parent / 'pairs.csv'} with the columns image and mask."
        )
    return {name: (image_files[name], mask_files[name]) for name in sorted(image_files)}


def list_files(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """A folder -> the files in it, and in its folders, that are meant as images, by pair_name.

    If all of them are in folders of splits, these have the split's name: train, val or test. Raises
    FileNotFoundError if the folder is missing, and ValueError if it holds no such file or two of
    one name.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is missing. {ORIGINALS['folder']}")
    paths = map(pathlib.PurePath, sorted(glob.glob("**", root_dir=folder, recursive=True)))
    paths = [
        path
        for path in paths
        if path.suffix.lower() in IMAGE_SUFFIXES
        and not is_leftover(folder / path)
        and not (folder / path).is_dir()
    ]
    if not paths:
        raise ValueError(f"{folder} holds no image: no file with one of {' '.join(IMAGE_SUFFIXES)}")
    in_splits = all(len(p.parts) > 1 and p.parts[0].lower() in SPLIT_FOLDERS for p in paths)
    files: dict[str, pathlib.Path] = {}
    for path in paths:
        first, *others = path.parts
        name = pair_name(
            pathlib.PurePath(SPLIT_FOLDERS[first.lower()], *others) if in_splits else path
        )
        if other := files.get(name):
            raise ValueError(
                f"{other} and {folder / path} have the same name; rename or delete one of them."
            )
        files[name] = folder / path
    return files


def pair_name(image: pathlib.PurePath) -> str:
    r"""An image's path -> the name of its pair, which is the id of its example.

    It is the path without the suffix, and without .. and /: eval.py --masks writes ID.png below a
    folder. It is in Unicode's form NFC, because macOS writes accents as letters of their own. Bytes
    that are not UTF-8 are written as \xe9.
    """
    parts = posixpath.normpath(image.with_suffix("").as_posix()).split("/")
    name = "/".join(part for part in parts if part not in ("", ".."))
    return unicodedata.normalize("NFC", os.fsencode(name).decode("utf-8", "backslashreplace"))


def find_file(path: pathlib.Path) -> pathlib.Path:
    """A path -> the file of that name, with its accents as macOS or as other systems write them."""
    forms = (unicodedata.normalize(form, str(path)) for form in ("NFC", "NFD"))
    return next(filter(pathlib.Path.exists, map(pathlib.Path, forms)), path)


def cut_ending(files: dict[str, pathlib.Path], ending: re.Pattern) -> dict[str, pathlib.Path]:
    """Files by name -> the same, without the ending of their names if all have the same one."""
    endings = {found and found.group().lower() for found in map(ending.search, files)}
    cut = {ending.sub("", name): file for name, file in files.items()}
    return cut if len(endings) == 1 and len(cut) == len(files) else files


def split_by_folder(pairs: Pairs) -> dict[str, list[str]] | None:
    """Pairs -> the names of each split, by a folder in each name; None unless all have one."""
    splits: dict[str, list[str]] = {}
    for name in pairs:
        folders = [folder.lower() for folder in name.split("/")[:-1]]
        found = [SPLIT_FOLDERS[folder] for folder in folders if folder in SPLIT_FOLDERS]
        if not found:
            return None
        splits.setdefault(found[0], []).append(name)
    return {"train": [], "val": []} | splits if len(splits) > 1 else None
