"""How networks normalize pixels; it belongs to their weights, which were trained on such pixels."""

from typing import NamedTuple

from keras import KerasTensor, layers, ops


class Pixels(NamedTuple):
    """How pixels are normalized: (RGB in 0..255 - mean) / std, then perhaps reordered to BGR."""

    mean: tuple[float, float, float]  # RGB.
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)  # RGB.
    bgr: bool = False


AUTHORS = Pixels((123.15, 115.90, 103.06))  # The authors' code, for a 7x7 stem; slim's too.
# To -1..1: the authors' code, for a stem of three 3x3 convs and for MobileNetV2.
SYMMETRIC = Pixels((127.5, 127.5, 127.5), (127.5, 127.5, 127.5))
KERAS = Pixels((123.68, 116.779, 103.939), bgr=True)  # keras.applications' ResNets.
TORCHVISION = Pixels((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))  # torchvision, times 255.


def normalize(images: KerasTensor, pixels: Pixels) -> KerasTensor:
    """[B, H, W, 3] RGB in 0..255 -> the same, normalized."""
    x = layers.Rescaling(
        scale=[1 / std for std in pixels.std],
        offset=[-mean / std for mean, std in zip(pixels.mean, pixels.std, strict=True)],
        dtype="float32",  # Half precision would round the pixels.
        name="pixels",
    )(images)
    return ops.flip(x, axis=-1) if pixels.bgr else x
