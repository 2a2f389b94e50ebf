"""Plots of the tables: the paper's numbers, and ours beside them, on axes with the same limits."""

import itertools
import math
from collections.abc import Mapping
from typing import Any

import matplotlib.figure
import numpy as np

from data.pictures import figure_png
from experiments.result_tables import plot_titles

WIDTH = 4.6  # Inches of one plot: two fit side by side on a page, and one on a phone.
SEED_DOTS = {"marker": "o", "linestyle": "", "markersize": 4, "alpha": 0.3}


def plot_pair(result: Mapping[str, Any]) -> dict[str, bytes]:
    """The contents of a table's JSON -> its two plots by title, PNG: Table 1 as curves.

    Rows without a number of ours are left out of both. Empty if fewer than two rows have one.
    """
    titles = plot_titles(result)
    if not titles:
        return {}
    rows = {name: row for name, row in result["rows"].items() if "miou" in row}
    papers = np.array([math.nan if row["paper"] is None else row["paper"] for row in rows.values()])
    mious = np.array([100 * row["miou"] for row in rows.values()])
    errors = np.array([100 * half_interval(row) for row in rows.values()])
    each = [[100 * seed["miou"] for seed in row["seeds"]] for row in rows.values()]
    limits = common_limits([*papers, *mious - errors, *mious + errors, *itertools.chain(*each)])
    draw = _curve if result["table"] == "table1" else _dots
    paper, ours = titles.values()
    return {
        paper: draw(paper, rows, papers, None, (), limits, "dimgrey"),
        ours: draw(ours, rows, mious, errors, each, limits, "tab:blue"),
    }


def half_interval(row: Mapping[str, Any]) -> float:
    """A row with a number -> half of the width of its 95% intervals over images and over seeds.

    Their squared widths add up, as those of a difference do. A single seed has none over seeds.
    """
    bounds = [row["image_interval"], row["seed_interval"] or (0, 0)]
    return math.hypot(*(high - low for low, high in bounds)) / 2


def common_limits(values: list[float]) -> tuple[float, float]:
    """Percentages, which may be NaN -> limits of both axes: multiples of 5 around all of them.

    3 points away, so that the numbers at the dots are inside.
    """
    low, high = np.nanmin(values), np.nanmax(values)
    return max(0, 5 * math.floor((low - 3) / 5)), min(100, 5 * math.ceil((high + 3) / 5))


def _curve(title, rows, values, errors, each, limits, color):
    """mIoU of each row against its output stride -> a PNG; each: of the seeds, paler."""
    figure = matplotlib.figure.Figure(figsize=(WIDTH, 3.4), layout="constrained")
    axes = figure.subplots()
    strides = [int(name.removeprefix("os")) for name in rows]
    axes.errorbar(strides, values, errors, color=color, marker="o", capsize=3)
    for stride, mious in zip(strides, each, strict=False):
        axes.plot([stride] * len(mious), mious, **SEED_DOTS, color=color)
    axes.set_xscale("log", base=2)
    axes.set_xticks(strides, strides)
    axes.set(xlabel="output stride", ylabel="mIoU, %", ylim=limits, title=title)
    axes.grid(alpha=0.3)
    return figure_png(figure)


def _dots(title, rows, values, errors, each, limits, color):
    """mIoU of each row as a dot, with its number -> a PNG; each: of the seeds, paler."""
    figure = matplotlib.figure.Figure(figsize=(WIDTH, 1.1 + 0.36 * len(rows)), layout="constrained")
    axes = figure.subplots()
    axes.errorbar(values, range(len(rows)), xerr=errors, color=color, fmt="o", capsize=3)
    for position, mious in enumerate(each):
        axes.plot(mious, [position] * len(mious), **SEED_DOTS, color=color)
    for position, value in enumerate(values):
        if not math.isnan(value):
            place = {"xytext": (0, 5), "textcoords": "offset points", "ha": "center"}
            axes.annotate(f"{value:.2f}", (value, position), **place, fontsize=8)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set(xlabel="mIoU, %", xlim=limits, ylim=(len(rows) - 0.5, -0.7), title=title)
    axes.grid(axis="x", alpha=0.3)
    return figure_png(figure)
