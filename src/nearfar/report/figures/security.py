"""Security curves: accuracy under attacks of increasing strength."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle, product
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from nearfar.errors import NearfarError
from nearfar.report.figures.style import INK, MUTED, SERIES, WIDTH, style_axes

#: Heights of a panel and of a line of the legend, in inches.
HEIGHT = 3.0
LEGEND_LINE = 0.25
LEGEND_COLUMNS = 4

#: Line styles, one per cycle through the colors.
STROKES: tuple[dict[str, Any], ...] = (
    {"marker": "o"},
    {"marker": "s", "linestyle": (0, (3, 1.5))},
    {"marker": "^", "linestyle": (0, (1, 1.5))},
)
STYLES = [stroke | {"color": color} for stroke, color in product(STROKES, SERIES)]

#: Points (ε, accuracy), sorted by ε.
Curve = Sequence[tuple[float, float]]


def security_curves(panels: Mapping[str, Mapping[str, Curve]], *, columns: int = 2) -> Figure:
    """Return a figure of accuracies as functions of the perturbation size ε, with several panels.

    Parameters
    ----------
    panels : mapping of str to mapping of str to sequence of (float, float)
        For each panel by title, and for each curve by name, the points (ε, accuracy).
    columns : int
        Number of panels per row of the figure.

    Raises
    ------
    NearfarError
        If there are no values to draw.

    Examples
    --------
    >>> figure = security_curves({"white-box": {"no defense": [(0.0, 0.99), (0.1, 0.2)]}})
    >>> figure.axes[0].get_title(loc="left")
    'white-box'
    """
    if not panels or not all(panels.values()):
        raise NearfarError("nothing has been measured: there is nothing to draw")
    names = list(dict.fromkeys(name for curves in panels.values() for name in curves))
    styles = dict(zip(names, cycle(STYLES), strict=False))
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    legend = LEGEND_LINE * (1 + -(-len(names) // LEGEND_COLUMNS))
    figure = Figure((WIDTH, rows * HEIGHT + legend), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for axes, (title, curves) in zip(grid, panels.items(), strict=False):
        _panel(axes, title, curves, styles)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    lines = [grid[0].plot([], [], **styles[name])[0] for name in names]
    figure.legend(
        lines,
        names,
        loc="outside lower center",
        ncols=min(LEGEND_COLUMNS, len(names)),
        frameon=False,
        labelcolor=INK,
        fontsize=10,
    )
    return figure


def _panel(
    axes: Axes, title: str, curves: Mapping[str, Curve], styles: Mapping[str, dict[str, Any]]
) -> None:
    for name, curve in curves.items():
        epsilons, accuracies = zip(*curve, strict=True)
        axes.plot(epsilons, accuracies, **styles[name], markersize=4, linewidth=1.6)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlim(left=0)
    axes.set_xlabel("ε", color=MUTED, fontsize=10)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    style_axes(axes, title)
