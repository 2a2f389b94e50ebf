"""A row -> all its 3x3 convs: stride, rate, receptive field, share of taps inside the features.

    python -m experiments.dilations table3:mg121_block7
    python -m experiments.dilations table1:os8 --image_size=769 --output=rates.png
    python -m experiments.dilations table1 table3 table5 --scale=shapes

A conv with a large rate has taps outside its input features, on the zeros that pad them; with eight
of nine taps outside it is a 1x1 conv (Sec. 3.3, Fig. 4). The last column is the share of taps
inside, over all positions of the features of a square image: of the crop, unless --image_size is
given. A row that is evaluated at another output_stride than it is trained at has two sheets.

--output plots against the rate, on the left, that share for each feature size of the convs, with a
point for each conv; on the right, for the size with the largest rate, the share of positions with
nine, four and one tap inside: the curves of Fig. 4. The title names the rows.

The exit code is 1, and the convs are named, if a rate does not follow Sec. 3: in blocks, and in the
units of MobileNetV2, the taps are as far apart in the image as in the network that always
downsamples, in blocks times the unit rate; in ASPP, as far apart as at output_stride 16.
"""

import argparse
import math
import pathlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

from data.terminal import errors_in_a_line, make_parser, parse_early, table
from experiments import base, tables


def define_command_line() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = make_parser("experiments.dilations", __doc__)
    parser.add_argument("rows", nargs="+", help="table3, or table3:mg121_block7")
    parser.add_argument("--scale", choices=base.SCALES, default="paper")
    parser.add_argument("--image_size", type=int, help="side in pixels (default: the row's crop)")
    parser.add_argument("--output", type=pathlib.Path, help="PNG to write")
    return parser


if __name__ == "__main__":
    parse_early(define_command_line())  # Before TensorFlow is imported.

import matplotlib.figure
import ml_collections

from model.aspp import rates_at
from model.backbones import windows
from model.mobilenet import STEM_STRIDE, UNITS
from model.plan import Window

TAPS_INSIDE = {9: "all nine taps inside", 4: "four inside", 1: "only the center inside"}
MAX_TITLES = 4  # Above a plot.


class Sheet(NamedTuple):
    """A row at one output_stride: its 3x3 convs, and which of them break the rule."""

    title: str
    image_size: int
    convs: list[Window]
    violations: list[str]  # Convs that break the rule, a line each.


def make_sheet(
    name: str, config: ml_collections.ConfigDict, *, output_stride: int, image_size: int
) -> Sheet:
    """A row's name and config -> its sheet at an output_stride.

    Raises ValueError if the network does not support that output_stride.
    """
    model = config.model
    atrous_rates = model.atrous_rates or ()
    found = windows(
        model.backbone,
        num_blocks=model.num_blocks,
        output_stride=output_stride,
        multi_grid=model.multi_grid,
        rates=rates_at(output_stride, atrous_rates),
    )
    convs = [window for window in found if window.kernel_size == 3 and window.name != "pool1"]
    violations = find_violations(
        convs, output_stride=output_stride, multi_grid=model.multi_grid, atrous_rates=atrous_rates
    )
    title = f"{name}, {model.backbone}, output_stride {output_stride}, {image_size} pixels"
    return Sheet(title, image_size, convs, violations)


def find_violations(
    convs: Sequence[Window],
    *,
    output_stride: int,
    multi_grid: Sequence[int],
    atrous_rates: Sequence[int],
) -> list[str]:
    """Checks convs against the rule of Sec. 3, independently of model.plan.

    Args:
      convs: 3x3 convs of the stem, blocks or units, and ASPP.
      output_stride: of the network.
      multi_grid: unit rates of block4 and later.
      atrous_rates: of ASPP's branches, as stated at output_stride 16.

    Returns:
      A line for each conv whose rate or input stride differs from the rule.
    """
    violations = []
    for conv in convs:
        if conv.name.startswith("block"):
            block, unit = map(int, conv.name.removeprefix("block").split("_unit"))
            unit_rate = multi_grid[unit - 1] if block >= 4 else 1
            plain_stride = 2 ** (block + 1)  # Of the block's input without atrous convolution.
            input_stride = min(plain_stride, output_stride)
            rate = unit_rate * plain_stride // input_stride
        elif conv.name.startswith("unit"):
            strides = [stride for _, stride, _ in UNITS[: int(conv.name.removeprefix("unit")) - 1]]
            plain_stride = STEM_STRIDE * math.prod(strides)
            input_stride = min(plain_stride, output_stride)
            rate = plain_stride // input_stride
        elif conv.name.startswith("aspp"):
            stated = atrous_rates[int(conv.name.removeprefix("aspp_atrous")) - 1]
            input_stride, rate = output_stride, 16 * stated // output_stride
        else:
            continue  # The stem.
        if (conv.input_stride, conv.rate) != (input_stride, rate):
            violations.append(
                f"{conv.name} has rate {conv.rate} at stride {conv.input_stride}; Sec. 3 requires "
                f"{rate} at {input_stride}"
            )
    return violations


def feature_size(conv: Window, image_size: int) -> int:
    """A conv and the side of a square image -> the side of the conv's input features."""
    return -(-image_size // conv.input_stride)


def taps_inside(size: int, rate: int, stride: int = 1) -> list[int]:
    """A line of features -> for each position, how many of the three taps are inside."""
    return [
        sum(0 <= position + offset < size for offset in (-rate, 0, rate))
        for position in range(0, size, stride)
    ]


def share_inside(size: int, rate: int, stride: int = 1) -> float:
    """A 3x3 conv on [size, size] features -> the share of its taps that are inside."""
    inside = taps_inside(size, rate, stride)
    return (sum(inside) / (3 * len(inside))) ** 2


def share_of_positions(size: int, rate: int, taps: int) -> float:
    """A 3x3 conv on [size, size] features -> the share of positions with 9, 4 or 1 taps inside."""
    inside = taps_inside(size, rate)
    return (sum(each**2 == taps for each in inside) / size) ** 2


def sheet_text(sheet: Sheet) -> str:
    """A sheet -> its title, table and violations."""
    rows = [["", "stride", "rate", "receptive field", "features", "taps inside %"]]
    for conv in sheet.convs:
        size = feature_size(conv, sheet.image_size)
        share = 100 * share_inside(size, conv.rate, conv.stride)
        cells = (conv.stride, conv.rate, conv.receptive_field, f"{size} x {size}", f"{share:.1f}")
        rows.append([conv.name, *map(str, cells)])
    return "\n".join([sheet.title, table(rows), *sheet.violations])


def plot(sheets: Sequence[Sheet]) -> matplotlib.figure.Figure:
    """Sheets -> two panels against the rate: the share of taps inside, and Fig. 4."""
    points = {
        (feature_size(conv, sheet.image_size), conv.rate)
        for sheet in sheets
        for conv in sheet.convs
    }
    rates = range(1, max(rate for _, rate in points) + 2)
    titles = [sheet.title for sheet in sheets]
    if len(titles) > MAX_TITLES:
        titles[MAX_TITLES - 1 :] = [f"and {len(titles) - MAX_TITLES + 1} more"]
    figure = matplotlib.figure.Figure(figsize=(11, 4.6 + 0.2 * len(titles)), layout="constrained")
    figure.suptitle("\n".join(["Taps of 3x3 convs inside the features", *titles]))
    left, right = figure.subplots(1, 2, sharey=True)
    _plot_shares(left, points, rates)
    _, size = max((rate, size) for size, rate in points)
    _plot_positions(right, size, rates)
    for axes in (left, right):
        axes.set(xlabel="rate", ylim=(0, 102))
        axes.grid(alpha=0.3)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=3, fontsize="small")
    return figure


def _plot_shares(axes, points, rates):
    """(feature size, rate) of the convs -> the share of taps inside against the rate, by size."""
    for size in sorted({size for size, _ in points}, reverse=True):
        label = f"{size} x {size} features"
        (line,) = axes.plot(rates, [100 * share_inside(size, rate) for rate in rates], label=label)
        own = sorted(rate for each, rate in points if each == size)
        shares = [100 * share_inside(size, rate) for rate in own]
        axes.plot(own, shares, "o", color=line.get_color())
    axes.set(ylabel="taps inside, %", title="Share of taps; points are the row's convs")


def _plot_positions(axes, size, rates):
    """A feature size -> the shares of positions with 9, 4 and 1 taps inside, against the rate."""
    for taps, style in ((9, "-"), (4, "--"), (1, ":")):
        shares = [100 * share_of_positions(size, rate, taps) for rate in rates]
        axes.plot(rates, shares, style, color="black", label=TAPS_INSIDE[taps])
    title = f"Share of positions on {size} x {size} features (Fig. 4)"
    axes.set(ylabel="positions, %", title=title)


def main() -> None:
    arguments = define_command_line().parse_args()
    sheets = []
    with errors_in_a_line():
        if arguments.image_size is not None and arguments.image_size < 1:
            raise ValueError(f"--image_size must be positive; got {arguments.image_size}.")
        rows = tables.find_rows(arguments.rows, arguments.scale)
        for name in tables.without_missing(rows, arguments.scale):
            config = tables.config_of(name, arguments.scale)
            size = arguments.image_size or config.train_data.crop_size
            for stride in dict.fromkeys((config.model.output_stride, config.eval.output_stride)):
                sheets.append(make_sheet(name, config, output_stride=stride, image_size=size))
        if arguments.output:
            plot(sheets).savefig(arguments.output, format="png", dpi=150)
    print("\n\n".join(map(sheet_text, sheets)))
    if violations := [f"{sheet.title}: {line}" for sheet in sheets for line in sheet.violations]:
        sys.exit("error: rates break the rule:\n" + "\n".join(violations))


if __name__ == "__main__":
    main()
