"""Figures for anomaly detection: ROC curves, score histograms, and scores over time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import cycle, product
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from nearfar.report.figures.style import (
    BLUE,
    FAINT,
    INK,
    MUTED,
    ORANGE,
    SERIES,
    WIDTH,
    literal,
)

LINES = ("-", "--")
#: Background of abnormal frames.
ABNORMAL = "#fbe3d6"
#: Most bars of a histogram.
_BINS = 60

Rates = npt.NDArray[np.float64]


def roc_curves(curves: Mapping[str, tuple[Rates, Rates]]) -> Figure:
    """Return a figure of ROC curves.

    A descending diagonal is drawn: it crosses each curve at the equal error rate.

    Parameters
    ----------
    curves : mapping of str to (float[m], float[m])
        For each curve by name, the false-positive rates and the true-positive rates, in [0, 1].

    Examples
    --------
    >>> rates = np.array([0.0, 0.1, 1.0]), np.array([0.0, 0.9, 1.0])
    >>> roc_curves({"NRE": rates}).axes[0].get_xlabel()
    'normal frames called abnormal'
    """
    figure = Figure((WIDTH * 0.6, WIDTH * 0.55), layout="constrained")
    axes = figure.subplots()
    styles = cycle(product(LINES, SERIES))
    for (name, (false, true)), (line, color) in zip(curves.items(), styles, strict=False):
        axes.plot(false, true, line, color=color, linewidth=1.6, label=name)
    axes.plot([0, 1], [1, 0], color=FAINT, linewidth=1)
    axes.set_xlabel("normal frames called abnormal", color=MUTED, fontsize=10)
    axes.set_ylabel("abnormal frames found", color=MUTED, fontsize=10)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0))
    _plain(axes)
    axes.legend(frameon=False, labelcolor=INK, fontsize=9, loc="lower right")
    return figure


def clip_scores(
    clips: Mapping[str, Mapping[str, Any]],
    columns: int = 3,
    *,
    threshold: float | None = None,
    seconds: bool = False,
) -> Figure:
    """Return a figure with the scores of the frames of each clip. Abnormal frames are shaded.

    Parameters
    ----------
    clips : mapping of str to mapping
        Clips by name. Each has "scores" (float[n]), "abnormal" (bool[n]) and, optionally, "starts"
        (float[n], ascending; default: 0, 1, …).
    columns : int
        Number of clips per row of the figure.
    threshold : float, optional
        Threshold of the scores, drawn as a line.
    seconds : bool
        Whether "starts" are in seconds, not in frames.

    Examples
    --------
    >>> clip = {"scores": np.arange(5.0), "abnormal": np.arange(5) > 3}
    >>> len(clip_scores({"one": clip, "two": clip}, columns=2).axes)
    2
    """
    rows = -(-len(clips) // columns)
    figure = Figure((WIDTH, 1.6 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for axes, (name, clip) in zip(grid, clips.items(), strict=False):
        starts = np.asarray(clip.get("starts", np.arange(len(clip["scores"]))), float)
        borders = _borders(starts)
        steps = np.flatnonzero(np.diff(np.pad(np.asarray(clip["abnormal"], int), 1)))
        for start, stop in borders[steps].reshape(-1, 2):
            axes.axvspan(start, stop, color=ABNORMAL, linewidth=0)
        axes.plot(starts, clip["scores"], color=BLUE, linewidth=1.2)
        if threshold is not None:
            axes.axhline(threshold, color=ORANGE, linewidth=1)
        axes.set_xlim(starts[0], max(starts[-1], starts[0] + 1e-9))
        axes.set_title(literal(name, 48), color=INK, fontsize=9, loc="left")
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        _plain(axes)
    for axes in grid[len(clips) :]:
        axes.set_axis_off()
    unit = "seconds" if seconds else "frame"
    figure.supxlabel(f"{unit} (abnormal frames are shaded)", color=MUTED, fontsize=10)
    figure.supylabel("score", color=MUTED, fontsize=10)
    return figure


def score_histogram(scores: Sequence[float], threshold: float) -> Figure:
    """Return a figure with a histogram of scores. Scores above the threshold have another color.

    Parameters
    ----------
    scores : sequence of float
        At least one score.
    threshold : float
        Score above which an image counts as abnormal.

    Examples
    --------
    >>> score_histogram([1.0, 1.1, 3.0], threshold=2).axes[0].get_xlabel()
    'score'
    """
    figure = Figure((WIDTH, WIDTH * 0.24), layout="constrained")
    axes = figure.subplots()
    known = np.asarray(scores, float)
    low, high = min(known.min(), threshold), max(known.max(), threshold)
    bins = min(_BINS, 2 * math.ceil(math.sqrt(len(known))))
    width = max(float(high - low) / bins, 1e-9)
    # The threshold is an edge, so that no bar has both colors.
    first, last = math.floor((low - threshold) / width), math.ceil((high - threshold) / width)
    edges = [threshold + width * place for place in range(first, last + 1)]
    for above, color, name in ((False, BLUE, "below"), (True, ORANGE, "above")):
        axes.hist(known[(known > threshold) == above], edges, color=color, label=name)
    axes.axvline(threshold, color=INK, linewidth=1, label="threshold")
    axes.set_xlabel("score", color=MUTED, fontsize=10)
    axes.set_ylabel("images", color=MUTED, fontsize=10)
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    _plain(axes)
    axes.legend(frameon=False, labelcolor=INK, fontsize=9)
    return figure


def _borders(starts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the borders of n frames, given their starts (float64[n + 1]).

    Borders are halfway between consecutive starts, and half a gap beyond the first and last start.
    """
    gaps = np.diff(starts) if len(starts) > 1 else np.ones(1)
    around = np.concatenate([[starts[0] - gaps[0]], starts, [starts[-1] + gaps[-1]]])
    return (around[1:] + around[:-1]) / 2


def _plain(axes: Axes) -> None:
    axes.tick_params(colors=MUTED, labelsize=8, length=0)
    axes.grid(color=FAINT, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
