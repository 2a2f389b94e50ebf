"""The features of an example, the same for every data set, and how originals are read into them."""

import collections
import io
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from data.classes import IGNORE_LABEL


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
    """An image's file and its [H, W] uint8 label -> an example that keeps the file's bytes.

    Args:
      name: the example's id.
      image_file: a JPEG or PNG.
      label: class ids or 255; None for an image without a label, whose pixels are all 255.
      label_source: the file of the label, for error messages.

    Returns:
      {image, label, id}, as segmentation_info declares them.

    Raises:
      FileNotFoundError: The image is missing.
      ValueError: The image cannot be read, or differs in size from the label.
    """
    width, height = check_image(image_file)
    if label is None:
        label = np.full((height, width), IGNORE_LABEL, np.uint8)
    if label.shape != (height, width):
        raise ValueError(
            f"{label_source} has {label.shape[1]} x {label.shape[0]} pixels, but {image_file} has "
            f"{width} x {height}. A label must have its image's size; create it again from the "
            "original, without resizing."
        )
    return {"image": image_file.read_bytes(), "label": encode_label(label), "id": name}


def encode_label(label: np.ndarray) -> bytes:
    """[H, W] uint8 -> a gray PNG, compressed a little less, which decodes twice as fast."""
    file = io.BytesIO()
    Image.fromarray(label).save(file, "PNG", compress_level=1)
    return file.getvalue()


def check_image(file: pathlib.Path) -> tuple[int, int]:
    """An image's file -> its width and height, after decoding all of it.

    Raises FileNotFoundError or ValueError, which name the file and say what to do, unless it is a
    JPEG or PNG of 8-bit RGB or gray.
    """
    image = open_image(file)
    if image.format not in ("JPEG", "PNG") or image.mode not in ("RGB", "L"):
        raise ValueError(
            f"{file} is a {image.format} of mode {image.mode}; images must be JPEGs or PNGs of "
            "8-bit RGB or gray. Convert it: "
            f'Image.open(file).convert("RGB").save("{file.stem}.png").'
        )
    return image.size


def read_label(file: pathlib.Path) -> np.ndarray:
    """A palette or gray PNG -> its values, [H, W] uint8; for a palette, the indices.

    Raises FileNotFoundError or ValueError, which name the file, for any other image.
    """
    image = open_image(file)
    if image.format != "PNG" or image.mode not in ("P", "L"):
        raise ValueError(
            f"{file} is a {image.format} of mode {image.mode}; labels must be palette or 8-bit "
            "gray PNGs, whose values are the class ids. Save it in that form from the original."
        )
    return np.array(image)


def check_ids(label: np.ndarray, num_classes: int, file: pathlib.Path) -> np.ndarray:
    """A label -> the same label; ValueError, which names its file, if an id is out of range."""
    wrong = np.setdiff1d(label, [*range(num_classes), IGNORE_LABEL])
    if wrong.size:
        raise ValueError(
            f"{file} holds the ids {wrong.tolist()}; classes are 0 to {num_classes - 1}, and "
            f"{IGNORE_LABEL} is ignored. Fix the label, or download it again."
        )
    return label


def open_image(file: pathlib.Path) -> Image.Image:
    """An image's file -> the image, decoded completely, so that truncated files fail here."""
    try:
        with Image.open(file) as image:
            image.load()
    except FileNotFoundError:
        raise FileNotFoundError(f"{file} is missing. Unpack the originals again.") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"{file} cannot be read: {error}. It is damaged or not an image; download it again."
        ) from error
    return image
