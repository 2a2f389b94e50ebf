"""The tables' results as plots: the paper's beside ours, each on an axis of its own."""

from collections.abc import Mapping
from typing import Any

import matplotlib.figure

from data.pictures import figure_png


def plot(result: Mapping[str, Any]) -> bytes:
    """What a table's JSON holds -> a PNG: Table 1 as a curve, others as bars, with intervals."""
    figure = matplotlib.figure.Figure(figsize=(9, 3.6), layout="constrained")
    papers, ours = figure.subplots(1, 2)
    rows = result["rows"]
    if result["table"] == "table1":
        draw = _curve
    else:
        draw = _bars
        figure.set_size_inches(9, 1.2 + 0.28 * len(rows))
    draw(papers, {name: row["paper"] for name, row in rows.items()}, {}, "grey")
    draw(
        ours,
        {name: 100 * row["miou"] for name, row in rows.items() if "miou" in row},
        {
            name: [100 * bound for bound in row["image_interval"]]
            for name, row in rows.items()
            if "miou" in row
        },
        "tab:blue",
    )
    papers.set_title("the paper")
    ours.set_title(f"ours, scale {result['scale']} (95 % over images)")
    return figure_png(figure)


def _errors(values, intervals):
    """Distances down and up from values to the bounds of their intervals, for matplotlib."""
    if not intervals:
        return None
    pairs = [
        (values[name] - intervals[name][0], intervals[name][1] - values[name]) for name in values
    ]
    return [list(side) for side in zip(*pairs, strict=True)]


def _curve(axes, values, intervals, colour):
    strides = [int(name.removeprefix("os")) for name in values]
    axes.errorbar(
        strides,
        list(values.values()),
        _errors(values, intervals),
        color=colour,
        marker="o",
        capsize=3,
    )
    axes.set_xscale("log", base=2)
    axes.set_xticks(strides, strides)
    axes.set(xlabel="output stride", ylabel="mIoU, %")


def _bars(axes, values, intervals, colour):
    errors = _errors(values, intervals)
    axes.barh(list(values), list(values.values()), xerr=errors, color=colour, capsize=3)
    lows = [bound[0] for bound in intervals.values()] or list(values.values())
    axes.set_xlim(left=max(0, min(lows) - 5) if lows else 0)  # Differences are what is looked for.
    axes.invert_yaxis()
    axes.set(xlabel="mIoU, %")
