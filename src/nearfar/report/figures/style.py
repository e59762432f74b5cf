"""Style of all figures: colors, sizes and axes."""

from __future__ import annotations

import os
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure

#: Colors of text, secondary text, lines, background and curves.
INK = "#1f2328"
MUTED = "#656d76"
FAINT = "#d0d7de"
SHADE = "#f4f6f8"
BLUE = "#0072b2"
ORANGE = "#d55e00"
GREEN = "#009e73"
#: Colors of M. Okabe and K. Ito, safe for color-blind readers.
SERIES = (INK, BLUE, ORANGE, GREEN, "#cc79a7", "#e69f00", "#56b4e9", MUTED)

#: Width of a figure, in inches.
WIDTH = 10.0
#: Longest name in a figure, in characters.
MAX_NAME = 24
#: Dots per inch, for high-density screens.
DPI = 200


def style_axes(axes: Axes, title: str, *, grid: Literal["both", "y"] = "both") -> None:
    """Set the title and the style of axes: only the grid and the bottom line are drawn."""
    axes.set_title(title, color=INK, fontsize=11, loc="left")
    axes.tick_params(which="both", colors=MUTED, labelsize=9, length=0)
    axes.grid(axis=grid, color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)


def literal(name: str, longest: int = MAX_NAME) -> str:
    """Return a name as one line of at most `longest` characters, with dollar signs escaped.

    matplotlib would read text between dollar signs as a formula.
    """
    text = " ".join(name.split())
    text = text if len(text) <= longest else f"{text[: longest - 1]}…"
    return text.replace("$", r"\$")


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure as a PNG file. The same figure always yields the same bytes.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".png") as file:
    ...     save_figure(Figure(), file.name)
    """
    figure.savefig(path, format="png", dpi=DPI, facecolor="white", metadata={"Software": None})
