"""The pixel loss (Sec. 4.1): cross entropy at the labels' own resolution."""

import keras
from keras import KerasTensor, ops


def pixel_cross_entropy(
    labels: KerasTensor, logits: KerasTensor, *, ignore_label: int
) -> tuple[KerasTensor, KerasTensor]:
    """[B, H, W] labels, [B, H, W, C] logits -> sum of the losses of valid pixels, their number.

    The loss is their quotient over the whole batch; they are returned separately so that they can
    be summed over devices first. Pixels of ignore_label add nothing to either.
    Source: the authors' code (255 ignored, mean over valid pixels).
    """
    valid = ops.not_equal(labels, ignore_label)
    losses = keras.losses.sparse_categorical_crossentropy(
        ops.where(valid, labels, 0), logits, from_logits=True
    )
    valid = ops.cast(valid, losses.dtype)
    return ops.sum(losses * valid), ops.sum(valid)


def downsample_labels(labels: KerasTensor, size: tuple[int, int]) -> KerasTensor:
    """[B, H, W] labels -> [B, *size], nearest neighbor with aligned corners.

    For logits that are not upsampled (Table 8). If the crop size is a multiple of output_stride,
    plus 1, it takes every output_stride-th pixel.
    """
    for axis, new_size in enumerate(size, start=1):
        step = (labels.shape[axis] - 1) / max(new_size - 1, 1)
        labels = ops.take(labels, [round(step * i) for i in range(new_size)], axis=axis)
    return labels
