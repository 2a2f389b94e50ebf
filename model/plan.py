"""The rule of output_stride that all backbones obey, and what follows from it (Sec. 3.1)."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Window(NamedTuple):
    """A layer that reads more than one pixel of its input: a conv, or the stem's pooling."""

    name: str
    kernel_size: int
    stride: int
    rate: int
    input_stride: int  # Image pixels between neighboring pixels of its input.
    receptive_field: int  # Side, in image pixels, of the square that one output depends on.


def stop_downsampling(
    strides: Sequence[int], *, stem_stride: int, output_stride: int
) -> list[tuple[int, int]]:
    """The stride of each unit -> its (stride, rate), such that the last unit ends at output_stride.

    Where a stride would exceed output_stride, the unit keeps its resolution and rate, and the rates
    of all later units are multiplied by that stride instead.

    Args:
      strides: of the network that always downsamples.
      stem_stride: of the first unit's input.
      output_stride: of the last unit's output; a power of 2.
    """
    plan, current_stride, rate = [], stem_stride, 1
    for stride in strides:
        if current_stride * stride <= output_stride:
            plan.append((stride, rate))
            current_stride *= stride
        else:
            plan.append((1, rate))
            rate *= stride
    return plan


def trace_windows(convs: Iterable[tuple[str, int, int, int]]) -> list[Window]:
    """(name, kernel size, stride, rate) of layers in sequence, the first on the image -> windows.

    A conv widens the receptive field by (kernel_size - 1) rate pixels of its input. Source: ours.
    """
    found, size, jump = [], 1, 1
    for name, kernel_size, stride, rate in convs:
        size += (kernel_size - 1) * rate * jump
        found.append(Window(name, kernel_size, stride, rate, jump, size))
        jump *= stride
    return found
