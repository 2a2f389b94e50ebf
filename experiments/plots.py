"""Plots of the tables: the paper's numbers and ours side by side, each on its own axis."""

from collections.abc import Mapping
from typing import Any

import matplotlib.figure
import numpy as np

from data.pictures import figure_png


def plot(result: Mapping[str, Any]) -> bytes:
    """The contents of a table's JSON -> a PNG: Table 1 as a curve, others as bars."""
    rows = result["rows"]
    is_curve = result["table"] == "table1"
    figure = matplotlib.figure.Figure(
        figsize=(9, 3.6 if is_curve else 1.2 + 0.28 * len(rows)), layout="constrained"
    )
    papers, ours = figure.subplots(1, 2, sharey=not is_curve)
    draw = _curve if is_curve else _bars
    draw(papers, list(rows), [row["paper"] for row in rows.values()], None, "grey")
    mious = np.array([100 * row.get("miou", np.nan) for row in rows.values()])
    missing = [np.nan, np.nan]
    bounds = 100 * np.array([row.get("image_interval", missing) for row in rows.values()])
    errors = np.stack([mious - bounds[:, 0], bounds[:, 1] - mious])
    draw(ours, list(rows), mious, errors, "tab:blue")
    papers.set_title("the paper")
    ours.set_title(f"ours, scale {result['scale']} (95% CI over images)")
    return figure_png(figure)


def _curve(axes, names, values, errors, color):
    strides = [int(name.removeprefix("os")) for name in names]
    axes.errorbar(strides, values, errors, color=color, marker="o", capsize=3)
    axes.set_xscale("log", base=2)
    axes.set_xticks(strides, strides)
    axes.set(xlabel="output stride", ylabel="mIoU, %")


def _bars(axes, names, values, errors, color):
    axes.barh(names, values, xerr=errors, color=color, capsize=3)
    # A narrow range, so that differences are visible.
    axes.set_xlim(max(0, np.nanmin(values) - 5), min(100, np.nanmax(values) + 5))
    if not axes.yaxis_inverted():  # The two axes share it.
        axes.invert_yaxis()
    axes.set(xlabel="mIoU, %")
