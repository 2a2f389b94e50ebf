"""The features of an example, the same for every data set, and how originals are read into them."""

import collections
import io
import pathlib
import shlex
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from data.classes import IGNORE_LABEL
from data.decoding import TRANSPOSED
from data.image_files import read_samples
from data.photos import Photo, encode_photo, turn


def segmentation_info(
    builder: tfds.core.DatasetBuilder,
    description: str,
    class_names: Sequence[str] = (),
    palette: Sequence[Sequence[int]] = (),
) -> tfds.core.DatasetInfo:
    """A builder and its classes -> the DatasetInfo that TFDS writes beside the shards.

    An example is {image: [H, W, 3] uint8 RGB, label: [H, W, 1] uint8 class ids or 255, id: text};
    images are JPEG or PNG, like the originals.

    Args:
      builder: the builder whose info this is.
      description: text for dataset_info.json.
      class_names: in the order of class ids; available as `builder.info.metadata["class_names"]`.
      palette: a color (r, g, b) for each class; available as `builder.info.metadata["palette"]`.

    Returns:
      The info.
    """
    return tfds.core.DatasetInfo(
        builder=builder,
        description=description,
        features=tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(None, None, 3)),
                "label": tfds.features.Image(shape=(None, None, 1), encoding_format="png"),
                "id": tfds.features.Text(),
            }
        ),
        metadata=tfds.core.MetadataDict(class_metadata(class_names, palette)),
    )


def class_metadata(
    class_names: Sequence[str], palette: Sequence[Sequence[int]]
) -> dict[str, list[Any]]:
    """Names and colors -> the metadata of a data set, as JSON values."""
    return {
        "class_names": list(class_names),
        "palette": [list(map(int, color)) for color in palette],
    }


def read_ids(list_file: pathlib.Path) -> list[str]:
    """A file with an id on each line -> the ids; ValueError if it has duplicates or no ids."""
    try:
        lines = list_file.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise FileNotFoundError(f"{list_file}, a list of ids, is missing.") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{list_file} is not valid UTF-8: {error}. Save it as UTF-8.") from error
    ids = [line.strip() for line in lines if line.strip()]
    if not ids:
        raise ValueError(f"{list_file} lists no ids; a split must have at least one image.")
    if duplicates := [name for name, count in collections.Counter(ids).items() if count > 1]:
        raise ValueError(
            f"{list_file} lists {', '.join(duplicates[:5])} twice; delete one of each."
        )
    return ids


def make_example(
    name: str,
    image_file: pathlib.Path,
    label: np.ndarray | None = None,
    label_source: pathlib.Path | None = None,
) -> dict[str, Any]:
    """An image's file and its [H, W] uint8 label -> an example with its pixels.

    The file's own bytes are kept where TensorFlow decodes them as read_photo does (data.photos).

    Where the file's EXIF turns the image, the example holds it turned, with its label.

    Args:
      name: the example's id.
      image_file: a JPEG, PNG or WebP.
      label: class ids or 255; None for an image without a label, whose pixels are all 255.
      label_source: the file of the label, for error messages.

    Returns:
      {image, label, id}, as segmentation_info declares them.

    Raises:
      FileNotFoundError: The image is missing.
      ValueError: The image cannot be read, differs in size from the label, or is turned by its EXIF
        while its label fits both ways.
    """
    photo = encode_photo(image_file)
    if label is None:
        label = np.full(photo.size, IGNORE_LABEL, np.uint8)
    elif photo.orientation != 1:
        label = turn_label(label, photo, image_file, label_source)
    if label.shape != photo.size:
        raise ValueError(
            f"{label_source} has {label.shape[1]} x {label.shape[0]} pixels, but {image_file} has "
            f"{photo.size[1]} x {photo.size[0]}. A label must have its image's size; create it "
            "again from the original, without resizing."
        )
    return {"image": photo.content, "label": encode_label(label), "id": name}


def turn_label(
    label: np.ndarray, photo: Photo, image_file: pathlib.Path, label_source: pathlib.Path | None
) -> np.ndarray:
    """[H, W] label of a photo that its EXIF turns -> the label, turned if only then it fits.

    Raises ValueError, which names the photo, if the label fits the photo as stored and as shown.
    """
    height, width = photo.size
    if photo.orientation in TRANSPOSED and height != width:
        return turn(label, photo.orientation) if label.shape == (width, height) else label
    raise ValueError(
        f"{image_file} has EXIF orientation {photo.orientation}: viewers turn it, and "
        f"{label_source} may fit its pixels as stored or as shown. If it fits the photo as viewers "
        "show it, save the photo with an image editor, which turns its pixels and drops the turn. "
        f"If it fits them as stored, remove the turn: exiftool -Orientation= "
        f"{shlex.quote(str(image_file))} (exiftool keeps the original beside it, as "
        f"{image_file.name}_original). In both cases keep a copy elsewhere, and leave the photo's "
        "name as it is: its label is found by that name."
    )


def encode_label(label: np.ndarray) -> bytes:
    """[H, W] uint8 -> a gray PNG, compressed a little less, which decodes twice as fast."""
    file = io.BytesIO()
    Image.fromarray(label).save(file, "PNG", compress_level=1)
    return file.getvalue()


def read_label(file: pathlib.Path) -> np.ndarray:
    """A palette or gray PNG -> its samples as stored, [H, W] uint8; for a palette, the indices.

    Raises FileNotFoundError or ValueError, which name the file, for any other image, and for gray
    values over 255.
    """
    values = read_samples(file).values
    if values.ndim == 3:
        raise ValueError(
            f"{file} is a PNG of RGB colors; labels must be palette or gray PNGs, whose values are "
            "the class ids. Export it again in that form from the original."
        )
    if values.max() > IGNORE_LABEL:
        raise ValueError(
            f"{file} holds the id {values.max()}; ids are 0 to {IGNORE_LABEL}. Fix the label, or "
            "download it again."
        )
    return values.astype(np.uint8)


def check_ids(label: np.ndarray, num_classes: int, file: pathlib.Path) -> np.ndarray:
    """A label -> the same label; ValueError, which names its file, if an id is out of range."""
    wrong = np.setdiff1d(label, [*range(num_classes), IGNORE_LABEL])
    if wrong.size:
        raise ValueError(
            f"{file} holds the ids {wrong.tolist()}; classes are 0 to {num_classes - 1}, and "
            f"{IGNORE_LABEL} is ignored. Fix the label, or download it again."
        )
    return label
