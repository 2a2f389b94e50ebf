"""What an example of every data set here consists of, and how it is read from the originals."""

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
    """A builder and its classes -> the information that TFDS writes beside the shards.

    An example is {image: [H, W, 3] uint8 RGB, label: [H, W, 1] uint8 class ids or 255, id: text};
    images are JPEG or PNG, as the originals. palette: a colour (r, g, b) for each class. Names and
    palette are read back from `builder.info.metadata`, as "class_names" and "palette".
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
    """Names and colours -> how they are written, as JSON."""
    return {
        "class_names": list(class_names),
        "palette": [list(map(int, colour)) for colour in palette],
    }


def read_ids(list_file: pathlib.Path) -> list[str]:
    """A file with an id in each line -> the ids; ValueError where one is doubled, or none is."""
    try:
        lines = list_file.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise FileNotFoundError(f"{list_file}, a list of ids, is missing.") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{list_file} is no text in UTF-8: {error}. Save it so.") from error
    ids = [line.strip() for line in lines if line.strip()]
    if not ids:
        raise ValueError(f"{list_file} lists no ids; a split must have at least one image.")
    if doubled := [name for name, count in collections.Counter(ids).items() if count > 1]:
        raise ValueError(f"{list_file} lists {', '.join(doubled[:5])} twice; delete one of each.")
    return ids


def example(
    name: str,
    image_file: pathlib.Path,
    label: np.ndarray | None = None,
    label_source: pathlib.Path | None = None,
) -> dict[str, Any]:
    """A photo's file and its [H, W] uint8 label -> an example; the photo byte by byte as it is.

    Without a label, all its pixels are IGNORE_LABEL.
    Raises FileNotFoundError or ValueError, which name the file and say what to do, where the photo
    cannot be read or is of another size than the label, which label_source is named for.
    """
    width, height = check_photo(image_file)
    if label is None:
        label = np.full((height, width), IGNORE_LABEL, np.uint8)
    if label.shape != (height, width):
        raise ValueError(
            f"{label_source} has {label.shape[1]} x {label.shape[0]} pixels, but {image_file} has "
            f"{width} x {height}. A label must be of its image's size; make it again from the "
            "original, without resizing."
        )
    return {"image": image_file, "label": encode_label(label), "id": name}


def encode_label(label: np.ndarray) -> bytes:
    """[H, W] uint8 -> a grey PNG, packed a little less tightly, which is read twice as fast."""
    file = io.BytesIO()
    Image.fromarray(label).save(file, "PNG", compress_level=1)
    return file.getvalue()


def check_photo(file: pathlib.Path) -> tuple[int, int]:
    """A photo -> its width and height, once it was read to its last pixel.

    Raises FileNotFoundError or ValueError, which name the file and say what to do, for anything but
    a JPEG or PNG of 8-bit RGB or grey.
    """
    photo = open_picture(file)
    if photo.format not in ("JPEG", "PNG") or photo.mode not in ("RGB", "L"):
        raise ValueError(
            f"{file} is a {photo.format} of mode {photo.mode}; photos are JPEGs or PNGs of 8-bit "
            f'RGB or grey. Convert it: Image.open(file).convert("RGB").save("{file.stem}.png").'
        )
    return photo.size


def read_label(file: pathlib.Path) -> np.ndarray:
    """A palette or grey PNG -> its values, [H, W] uint8; of a palette, the indices.

    Raises FileNotFoundError or ValueError, which name the file, for any other picture.
    """
    picture = open_picture(file)
    if picture.format != "PNG" or picture.mode not in ("P", "L"):
        raise ValueError(
            f"{file} is a {picture.format} of mode {picture.mode}; labels are palette or 8-bit "
            "grey PNGs, whose values are the class ids. Save it as such again from the original."
        )
    return np.array(picture)


def check_ids(label: np.ndarray, num_classes: int, file: pathlib.Path) -> np.ndarray:
    """A label -> the label; ValueError, which names its file, where an id is no class nor 255."""
    wrong = np.setdiff1d(label, [*range(num_classes), IGNORE_LABEL])
    if wrong.size:
        raise ValueError(
            f"{file} holds the ids {wrong.tolist()}; classes are 0 to {num_classes - 1}, and "
            f"{IGNORE_LABEL} is ignored. Mend the label, or fetch it again."
        )
    return label


def open_picture(file: pathlib.Path) -> Image.Image:
    """A picture, read to its last pixel, so that what is cut short shows here."""
    try:
        with Image.open(file) as picture:
            picture.load()
    except FileNotFoundError:
        raise FileNotFoundError(f"{file} is missing. Unpack the originals again.") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"{file} cannot be read: {error}. It is damaged or no picture; fetch it again."
        ) from error
    return picture
