"""A model -> the file or folder of a format, with its data.json."""

import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from data.files import write_json
from deployment.formats import FORMATS
from deployment.inference_graph import InferenceNetwork, class_ids
from deployment.litert import resize_natively, write_litert
from deployment.onnx_graph import write_onnx
from deployment.saved_model import Segmenter, write_saved_model
from model.layers import resize_bilinear


def write_artifact(
    name: str,
    model: keras.Model,
    folder: pathlib.Path,
    *,
    data: dict[str, Any],
    size: tuple[int, int] | None,
    calibration: Sequence[np.ndarray] = (),
    **inference: Any,
) -> None:
    """Writes a model as a format, with data.json, into a new folder.

    Args:
      name: a key of FORMATS.
      model: of deeplabv3, in the format's precision.
      folder: must not exist.
      data: the content of data.json.
      size: [H, W] of all images, or None for any; of a SavedModel always any.
      calibration: [H, W, 3] images, for int8.
      inference: output_stride, mean_pixel, scales and flip, as InferenceNetwork has them.
    """
    # In ONNX, whose layout is channels first, the two matrix products are faster.
    resize = resize_natively if name.startswith("litert") else resize_bilinear
    network = InferenceNetwork(model, resize=resize, **inference)
    if name.startswith("saved_model"):
        with tempfile.TemporaryDirectory() as beside:
            data_file = pathlib.Path(beside) / "data.json"
            write_json(data_file, data)
            write_saved_model(Segmenter(network, data_file), folder)
        return
    folder.mkdir()
    write_json(folder / "data.json", data)
    file = folder / FORMATS[name].file

    def segment(images):
        return class_ids(network(images))

    if name == "onnx":
        write_onnx(segment, file, size=size)
    else:
        precision = name.removeprefix("litert_")
        write_litert(segment, file, size=size, precision=precision, calibration=calibration)
