"""Dot plots of values measured with several seeds, compared with the values in the paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from nearfar.errors import NearfarError
from nearfar.report.figures.style import BLUE, INK, ORANGE, WIDTH, style_axes

#: Height of a line, and of the margins of a panel, in inches.
LINE = 0.3
MARGIN = 0.8
#: Marker of the paper's numbers.
HOLLOW: dict[str, Any] = {
    "s": 42,
    "marker": "D",
    "facecolors": "white",
    "edgecolors": ORANGE,
    "linewidths": 1.5,
}


@dataclass(frozen=True)
class Dot:
    """Line of a dot plot: the values of one row of a table.

    Parameters
    ----------
    name : str
        Label of the line.
    values : sequence of float
        Measured values, one per seed.
    paper : float, optional
        Value in the paper; None if there is none.

    Examples
    --------
    >>> Dot("NRE", [0.91, 0.93], paper=0.977).name
    'NRE'
    """

    name: str
    values: Sequence[float]
    paper: float | None = None


def dot_plot(
    panels: Mapping[str, Sequence[Dot]], *, columns: int = 2, percent: bool = False
) -> Figure:
    """Return a figure of dot plots, with the value of each seed, the mean and the deviation.

    Parameters
    ----------
    panels : mapping of str to sequence of Dot
        For each panel by title, the lines from top to bottom.
    columns : int
        Number of panels per row of the figure.
    percent : bool
        Whether to label values from 0 to 1 in percent.

    Raises
    ------
    NearfarError
        If there are no values to draw.

    Examples
    --------
    >>> figure = dot_plot({"5-NN": [Dot("pixels", [0.94]), Dot("NRE", [0.95])]}, columns=1)
    >>> figure.axes[0].get_title(loc="left")
    '5-NN'
    """
    if not panels or not all(panels.values()):
        raise NearfarError("nothing has been measured: there is nothing to draw")
    rows = -(-len(panels) // columns)
    height = LINE * max(map(len, panels.values())) + MARGIN
    figure = Figure((WIDTH, rows * height + LINE), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (title, dots) in zip(grid, panels.items(), strict=False):
        _panel(axes, title, dots)
        if percent:
            axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    if any(dot.paper is not None for dots in panels.values() for dot in dots):
        figure.legend(
            [grid[0].scatter([], [], s=42, color=BLUE), grid[0].scatter([], [], **HOLLOW)],
            ["measured, ± standard deviation over seeds", "the paper"],
            loc="outside lower center",
            ncols=2,
            frameon=False,
            labelcolor=INK,
            fontsize=10,
        )
    return figure


def _panel(axes: Axes, title: str, dots: Sequence[Dot]) -> None:
    lines = np.arange(len(dots))
    for line, dot in zip(lines, dots, strict=True):
        values = np.asarray(dot.values, float)
        axes.scatter(values, np.full(len(values), line), s=14, color=BLUE, alpha=0.35, lw=0)
        deviation = values.std(ddof=1) if len(values) > 1 else 0.0
        axes.errorbar(values.mean(), line, xerr=deviation, color=BLUE, capsize=3, linewidth=1.5)
        axes.scatter(values.mean(), line, s=42, color=BLUE, zorder=3)
        if dot.paper is not None:
            axes.scatter(dot.paper, line, zorder=2, **HOLLOW)
    axes.set_yticks(lines, [dot.name for dot in dots])
    axes.set_ylim(len(dots) - 0.5, -0.5)
    style_axes(axes, title)
    axes.tick_params(axis="y", labelcolor=INK)
    axes.xaxis.set_major_locator(MaxNLocator(4))
