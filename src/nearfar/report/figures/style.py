"""What all figures have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, MUTED, FAINT, SHADE = "#1f2328", "#656d76", "#d0d7de", "#f4f6f8"
BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"
#: Colors of M. Okabe and K. Ito, which the color blind tell apart.
SERIES = (INK, BLUE, ORANGE, GREEN, "#cc79a7", "#e69f00", "#56b4e9", MUTED)

#: Inches.
WIDTH = 10.0
LONGEST_NAME = 24
#: Sharp on screens of two dots a pixel.
DPI = 200


def plain(axes: Axes, title: str, *, grid: Literal["both", "y"] = "both") -> None:
    """Give axes their title, and leave of them what is needed to read them."""
    axes.set_title(title, color=INK, fontsize=11, loc="left")
    axes.tick_params(which="both", colors=MUTED, labelsize=9, length=0)
    axes.grid(axis=grid, color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)


def literal(name: str, longest: int = LONGEST_NAME) -> str:
    """Return a name on one short line, no part of which matplotlib takes for mathematics."""
    text = " ".join(name.split())
    text = text if len(text) <= longest else f"{text[: longest - 1]}…"
    return text.replace("$", r"\$")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG whose bytes depend on nothing but the figure."""
    figure.savefig(path, format="png", dpi=DPI, facecolor="white", metadata={"Software": None})
