"""Photographs with what was found in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from nearfar.report.figures.style import INK, WIDTH, literal

Pixels = npt.NDArray[np.uint8]

COLUMNS = 3
#: The color of pixels that are not judged.
UNJUDGED = (1.0, 1.0, 1.0)
#: Inches.
TITLE, LEGEND = 0.3, 0.5


@dataclass(frozen=True)
class Boxes:
    """Boxes in an image: left, top, right, bottom in pixels, float[m, 4], and classes, int[m]."""

    boxes: npt.NDArray[Any]
    labels: npt.NDArray[Any]


def detection_sheet(
    images: Sequence[Pixels], truth: Sequence[Boxes], found: Sequence[Boxes], classes: Sequence[str]
) -> Figure:
    """Images, uint8[h, w, 3], with what is there above what was found."""
    figure, grid = _grid({"truth": list(images), "found": list(images)})
    for row, every in zip(grid, (truth, found), strict=True):
        for axes, drawn in zip(row, every, strict=True):
            for (left, top, right, bottom), label in zip(drawn.boxes, drawn.labels, strict=True):
                frame = Rectangle((left, top), right - left, bottom - top, fill=False)
                frame.set(edgecolor=_color(label), linewidth=1.2)
                axes.add_patch(frame)
    _legend(figure, classes, range(len(classes)))
    return figure


def mask_sheet(
    images: Sequence[Pixels],
    truth: Sequence[Pixels],
    found: Sequence[Pixels],
    classes: Sequence[str],
) -> Figure:
    """Images, uint8[h, w, 3], with their true classes, uint8[h, w], above those found."""
    painted = {
        name: [_painted(mask, len(classes)) for mask in every]
        for name, every in (("truth", truth), ("found", found))
    }
    figure, _ = _grid({"image": list(images), **painted})
    shown = np.unique(np.concatenate([np.unique(mask) for mask in (*truth, *found)]))
    _legend(figure, classes, [label for label in shown if label < len(classes)])
    return figure


def _painted(mask: Pixels, classes: int) -> npt.NDArray[np.float64]:
    palette = np.full((256, 3), UNJUDGED)
    palette[:classes] = [_color(label) for label in range(classes)]
    return palette[mask]


def _color(label: int) -> Any:
    """Twenty colors, the strong ones first."""
    return colormaps["tab20"]((2 * label + label // 10) % 20)[:3]


def _grid(rows: Mapping[str, Sequence[npt.NDArray[Any]]]) -> tuple[Figure, list[list[Axes]]]:
    """Show named rows of images."""
    columns = max(map(len, rows.values()))
    height, width = next(iter(rows.values()))[0].shape[:2]
    tile = WIDTH / columns
    figure = Figure(
        (WIDTH, len(rows) * tile * height / width + LEGEND + TITLE), layout="constrained"
    )
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for line, (name, images) in zip(grid, rows.items(), strict=True):
        for axes, image in zip(line, images, strict=True):
            axes.imshow(image, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        line[0].set_ylabel(name, color=INK, fontsize=11)
    return figure, [list(line) for line in grid]


def _legend(figure: Figure, classes: Sequence[str], labels: Sequence[int]) -> None:
    figure.legend(
        handles=[Patch(color=_color(label), label=literal(classes[label])) for label in labels],
        loc="outside lower center",
        ncols=min(max(len(labels), 1), 7),
        frameon=False,
        labelcolor=INK,
        fontsize=9,
    )
