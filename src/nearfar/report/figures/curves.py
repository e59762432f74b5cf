"""Figures with curves: metrics by epoch, and accuracy by the value of a parameter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle, groupby
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import (
    LogLocator,
    MaxNLocator,
    NullFormatter,
    PercentFormatter,
    StrMethodFormatter,
)

from nearfar.errors import NearfarError
from nearfar.report.figures.style import (
    BLUE,
    GREEN,
    MUTED,
    ORANGE,
    SERIES,
    SHADE,
    WIDTH,
    style_axes,
)

Curve = npt.NDArray[np.float64]

#: Most epochs to draw with markers.
MARKED_EPOCHS = 40
#: Height of a sweep, in inches.
SWEEP_HEIGHT = 3.5


def training_curves(log: Sequence[Mapping[str, Any]]) -> Figure:
    """Return a figure with the training metrics of each epoch.

    Parameters
    ----------
    log : sequence of mapping
        Metrics of each epoch. "phase" ("pretrain" or "train") is required. These metrics are drawn
        if present: "pixel", "own", "near", "far", "contrastive", "distillation", "knn_accuracy",
        "effective_rank" and "dead_units". Values may be None.

    Raises
    ------
    NearfarError
        If the log is empty or contains no finite numbers.

    Examples
    --------
    >>> log = [{"phase": "pretrain", "pixel": 0.1}, {"phase": "train", "pixel": 0.05}]
    >>> len(training_curves(log).axes)
    1
    """
    if not log:
        raise NearfarError("the training log is empty: train for at least one epoch")
    panels = {
        "pixel error (mean square)": {"pixel": BLUE},
        "distance to own and near samples": {"own": BLUE, "near": GREEN},
        "similarity to far samples": {"far": ORANGE},
        "near versus far embeddings (cross entropy)": {"contrastive": GREEN},
        "distance to the pretrained embeddings": {"distillation": BLUE},
        "accuracy on labeled images": {"knn_accuracy": GREEN},
        "units of the embedding": {"effective_rank": BLUE, "dead_units": ORANGE},
    }
    curves = {
        key: np.array([np.nan if record.get(key) is None else record[key] for record in log], float)
        for keys in panels.values()
        for key in keys
    }
    known = {key: curve for key, curve in curves.items() if np.isfinite(curve).any()}
    shown = {title: keys for title, keys in panels.items() if keys.keys() & known.keys()}
    if not shown:
        raise NearfarError("the training log holds no finite numbers: train again")
    figure = Figure((WIDTH, 0.8 + 1.6 * len(shown)), layout=ConstrainedLayoutEngine(h_pad=0.1))
    all_axes = list(figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0])
    epochs = np.arange(1, len(log) + 1)
    marker = "o" if len(log) <= MARKED_EPOCHS else ""
    for axes, (title, colors) in zip(all_axes, shown.items(), strict=True):
        drawn = {key: known[key] for key in colors if key in known}
        for key, curve in drawn.items():
            axes.plot(epochs, curve, color=colors[key], linewidth=1.8, marker=marker, markersize=4)
        if "pixel" in colors:
            _logarithmic(axes)
        style_axes(axes, title, grid="y")
        _label_ends(axes, drawn, colors)
    _shade_phases(all_axes, [record["phase"] for record in log])
    all_axes[-1].set_xlabel("epoch", color=MUTED, fontsize=10)
    all_axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return figure


def sweep_curves(
    title: str, parameter: str, curves: Mapping[str, Sequence[tuple[float, float]]]
) -> Figure:
    """Return a figure of accuracies as functions of a parameter, which has a logarithmic axis.

    Parameters
    ----------
    title : str
        Title of the figure.
    parameter : str
        Label of the horizontal axis.
    curves : mapping of str to sequence of (float, float)
        For each curve by name, the points: parameter (> 0) and accuracy (in [0, 1]).

    Examples
    --------
    >>> figure = sweep_curves("accuracy", "γ", {"pixels": [(0.1, 0.92), (1.0, 0.98)]})
    >>> figure.axes[0].get_xlabel()
    'γ'
    """
    figure = Figure((WIDTH, SWEEP_HEIGHT), layout="constrained")
    axes = figure.subplots()
    for (name, points), color in zip(curves.items(), cycle(SERIES), strict=False):
        axes.plot(
            *zip(*points, strict=True),
            label=name,
            color=color,
            marker="o",
            markersize=4,
            linewidth=1.8,
        )
    axes.set_xscale("log")
    axes.set_xlabel(parameter, color=MUTED, fontsize=10)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.legend(frameon=False, fontsize=10)
    style_axes(axes, title, grid="y")
    return figure


def _logarithmic(axes: Axes) -> None:
    """Make the y-axis logarithmic, with labels at 1, 2 and 5 in each decade."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _label_ends(
    axes: Axes, curves: Mapping[str, Curve], colors: Mapping[str, str], *, apart: float = 0.16
) -> None:
    """Write the name and the last value of each curve next to the end of the curve.

    `apart` is the minimum distance between labels, as a fraction of the height of the axes.
    """
    axes.autoscale_view()
    last = {key: curve[np.isfinite(curve)][-1] for key, curve in curves.items()}
    to_height = axes.transScale + axes.transLimits
    heights = {key: to_height.transform((1, value))[1] for key, value in last.items()}
    order = sorted(heights, key=heights.__getitem__)
    place = np.array([heights[key] for key in order])
    for i in range(1, len(place)):
        place[i] = max(place[i], place[i - 1] + apart)
    place -= max(place[-1] - 1, 0)
    for key, height in zip(order, place, strict=True):
        axes.annotate(
            f"{key.replace('_', ' ')}  {last[key]:.3g}" if len(last) > 1 else f"{last[key]:.3g}",
            (1, height),
            xycoords="axes fraction",
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            color=colors[key],
            fontsize=10,
            annotation_clip=False,
        )


def _shade_phases(all_axes: Sequence[Axes], phases: Sequence[str]) -> None:
    """Shade the second training phase, and write the names of the phases above the first axes."""
    start = 0.5
    for phase, records in groupby(phases):
        end = start + len(list(records))
        second = phase != "pretrain"
        for axes in all_axes:
            axes.axvspan(start, end, color=SHADE if second else "white", zorder=0, linewidth=0)
            axes.set_xlim(0.5, len(phases) + 0.5)
        all_axes[0].annotate(
            "training" if second else "pre-training",
            (end if second else start, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 24),
            textcoords="offset points",
            ha="right" if second else "left",
            color=MUTED,
            fontsize=10,
        )
        start = end
