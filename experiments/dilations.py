"""A row -> all its 3x3 convs: stride, rate, receptive field, taps that fall on the image.

    python -m experiments.dilations table3:mg121_block7
    python -m experiments.dilations table1:os8 --image_size=769 --output=rates.png
    python -m experiments.dilations table1 table3 table5 --scale=shapes

A conv of a large rate has taps beyond the features it looks at, on the zeros that pad them; where
eight of nine are, it is a 1x1 conv (Sec. 3.3, Fig. 4). The last column is the share of taps that
are not, over all positions of the features of a square image: of the crop, if no --image_size is
named. A row that is evaluated at another output_stride than it is trained at has two sheets.

--output plots that share against the rate, for each size of features that the convs look at; a
point is a conv. At the last size it also shows at how many positions all nine taps are on the
features (dashed), and the centre alone (dotted): the curves of Fig. 4.

It ends with exit code 1, and names the convs, where a rate is not what Sec. 3 asks for: the taps of
block1, block2, ... lie as far apart in the image as they do in the network of stride 2 in every
block, times the unit rate, and ASPP's as far as at output_stride 16.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib.figure
import ml_collections

from data.terminal import table
from experiments import base, tables
from model.aspp import rates_at
from model.resnet import Window, windows


class Sheet(NamedTuple):
    """A row at one output_stride: its 3x3 convs, and what they should be."""

    title: str
    image_size: int
    convs: list[Window]
    wrong: list[str]  # What breaks the rule, a line each.


def make_sheet(
    name: str, config: ml_collections.ConfigDict, *, output_stride: int, image_size: int
) -> Sheet:
    """A row's name and config -> its sheet at an output_stride.

    Raises ValueError where there is no such network.
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
    wrong = broken_rules(
        convs, output_stride=output_stride, multi_grid=model.multi_grid, atrous_rates=atrous_rates
    )
    title = f"{name}, {model.backbone}, output_stride {output_stride}, {image_size} pixels"
    return Sheet(title, image_size, convs, wrong)


def broken_rules(
    convs: Sequence[Window],
    *,
    output_stride: int,
    multi_grid: Sequence[int],
    atrous_rates: Sequence[int],
) -> list[str]:
    """3x3 convs -> a line for each whose rate or place is not as Sec. 3 asks.

    Stated in pixels of the image, where atrous_plan counts strides and rates as it goes.
    """
    wrong = []
    for conv in convs:
        if conv.name.startswith("block"):
            block, unit = map(int, conv.name.removeprefix("block").split("_unit"))
            unit_rate = multi_grid[unit - 1] if block >= 4 else 1
            plain_stride = 2 ** (block + 1)  # Of the block's input, were there no atrous rate.
            input_stride = min(plain_stride, output_stride)
            rate = unit_rate * plain_stride // input_stride
        elif conv.name.startswith("aspp"):
            stated = atrous_rates[int(conv.name.removeprefix("aspp_atrous")) - 1]
            input_stride, rate = output_stride, 16 * stated // output_stride
        else:
            continue  # The stem's.
        if (conv.input_stride, conv.rate) != (input_stride, rate):
            wrong.append(
                f"{conv.name} has rate {conv.rate} at stride {conv.input_stride}; Sec. 3 asks for "
                f"{rate} at {input_stride}"
            )
    return wrong


def feature_size(conv: Window, image_size: int) -> int:
    """A conv -> the side of the features that it looks at, in a square image of that side."""
    return -(-image_size // conv.input_stride)


def taps_inside(size: int, rate: int, stride: int = 1) -> list[int]:
    """Positions on a line of features -> how many of the three taps there are inside, 1 to 3."""
    return [
        sum(0 <= position + offset < size for offset in (-rate, 0, rate))
        for position in range(0, size, stride)
    ]


def share_inside(size: int, rate: int, stride: int = 1) -> float:
    """A 3x3 conv on [size, size] features -> the share of its taps that fall on them."""
    inside = taps_inside(size, rate, stride)
    return (sum(inside) / (3 * len(inside))) ** 2


def share_of_positions(size: int, rate: int, taps: int) -> float:
    """A 3x3 conv on [size, size] features -> the share of positions with 9, or with 1, inside."""
    inside = taps_inside(size, rate)
    return (sum(each**2 == taps for each in inside) / size) ** 2


def report(sheet: Sheet) -> str:
    """A sheet -> its table."""
    rows = [["", "stride", "rate", "receptive field", "features", "taps inside %"]]
    for conv in sheet.convs:
        size = feature_size(conv, sheet.image_size)
        share = 100 * share_inside(size, conv.rate, conv.stride)
        cells = (conv.stride, conv.rate, conv.receptive_field, f"{size} x {size}", f"{share:.1f}")
        rows.append([conv.name, *map(str, cells)])
    return "\n".join([sheet.title, table(rows), *sheet.wrong])


def plot(sheets: Sequence[Sheet]) -> matplotlib.figure.Figure:
    """Sheets -> the share of taps on the features, against the rate: Fig. 4 for their features."""
    points = {
        (feature_size(conv, sheet.image_size), conv.rate)
        for sheet in sheets
        for conv in sheet.convs
    }
    sizes = sorted({size for size, _ in points}, reverse=True)
    rates = range(1, max(rate for _, rate in points) + 2)
    figure = matplotlib.figure.Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    for size in sizes:
        label = f"{size} x {size} features"
        (line,) = axes.plot(rates, [100 * share_inside(size, rate) for rate in rates], label=label)
        own = sorted(rate for each, rate in points if each == size)
        shares = [100 * share_inside(size, rate) for rate in own]
        axes.plot(own, shares, "o", color=line.get_color())
    for taps, style in ((9, "--"), (1, ":")):
        shares = [100 * share_of_positions(sizes[-1], rate, taps) for rate in rates]
        label = f"{sizes[-1]} x {sizes[-1]}: positions with {taps} inside"
        axes.plot(rates, shares, style, color=line.get_color(), label=label)
    axes.set(xlabel="rate", ylabel="taps of a 3x3 conv on the features, %", ylim=(0, 102))
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize="small")
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.dilations",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("rows", nargs="+", help="table3:mg121_block7, or table3 for all its rows")
    parser.add_argument("--scale", choices=base.SCALES, default="paper")
    parser.add_argument("--image_size", type=int, help="the row's crop if not given")
    parser.add_argument("--output", type=pathlib.Path, help="a PNG to write")
    arguments = parser.parse_args()
    sheets = []
    try:
        if arguments.image_size is not None and arguments.image_size < 1:
            raise ValueError(f"--image_size={arguments.image_size} is no size in pixels.")
        for name in tables.find_rows(arguments.rows):
            config = tables.config_of(name, arguments.scale)
            size = arguments.image_size or config.train_data.crop_size
            for stride in dict.fromkeys((config.model.output_stride, config.eval.output_stride)):
                sheets.append(make_sheet(name, config, output_stride=stride, image_size=size))
        if arguments.output:
            plot(sheets).savefig(arguments.output, format="png", dpi=150)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print("\n\n".join(map(report, sheets)))
    if wrong := [f"{sheet.title}: {line}" for sheet in sheets for line in sheet.wrong]:
        sys.exit("error: rates break the rule:\n" + "\n".join(wrong))


if __name__ == "__main__":
    main()
