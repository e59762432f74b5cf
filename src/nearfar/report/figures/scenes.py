"""Figures of photographs with true and predicted objects or masks."""

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

#: Color of pixels without a label.
UNLABELED = (1.0, 1.0, 1.0)
#: Heights of the titles and of the legend, in inches.
TITLE = 0.3
LEGEND = 0.5


@dataclass(frozen=True)
class Boxes:
    """Bounding boxes in an image, with class numbers.

    Parameters
    ----------
    boxes : float[m, 4]
        Left, top, right and bottom of each box, in pixels.
    labels : int[m]
        Class number of each box.

    Examples
    --------
    >>> Boxes(np.array([[0, 0, 10, 10]]), np.array([1])).labels
    array([1])
    """

    boxes: npt.NDArray[Any]
    labels: npt.NDArray[Any]


def detection_sheet(
    images: Sequence[Pixels],
    truth: Sequence[Boxes],
    detections: Sequence[Boxes],
    classes: Sequence[str],
) -> Figure:
    """Return a figure with two rows of the same images: with true boxes and with detected boxes.

    Parameters
    ----------
    images : sequence of uint8[h, w, 3]
        RGB images.
    truth, detections : sequence of Boxes
        True boxes and detected boxes of each image.
    classes : sequence of str
        Names of the classes, by class number.

    Examples
    --------
    >>> boxes = Boxes(np.array([[1, 1, 5, 5]]), np.array([0]))
    >>> figure = detection_sheet([np.zeros((8, 8, 3), np.uint8)], [boxes], [boxes], ["cat"])
    >>> len(figure.axes)
    2
    """
    figure, grid = _grid({"truth": list(images), "found": list(images)})
    for row, all_boxes in zip(grid, (truth, detections), strict=True):
        for axes, each in zip(row, all_boxes, strict=True):
            for (left, top, right, bottom), label in zip(each.boxes, each.labels, strict=True):
                frame = Rectangle((left, top), right - left, bottom - top, fill=False)
                frame.set(edgecolor=_color(label), linewidth=1.2)
                axes.add_patch(frame)
    _legend(figure, classes, range(len(classes)))
    return figure


def mask_sheet(
    images: Sequence[Pixels],
    truth: Sequence[Pixels],
    predictions: Sequence[Pixels],
    classes: Sequence[str],
) -> Figure:
    """Return a figure with three rows: images, true masks and predicted masks.

    Parameters
    ----------
    images : sequence of uint8[h, w, 3]
        RGB images.
    truth, predictions : sequence of uint8[h, w]
        True masks and predicted masks, with the class number of each pixel.
    classes : sequence of str
        Names of the classes, by class number.

    Examples
    --------
    >>> mask = np.zeros((8, 8), np.uint8)
    >>> figure = mask_sheet([np.zeros((8, 8, 3), np.uint8)], [mask], [mask], ["ground"])
    >>> len(figure.axes)
    3
    """
    colored = {
        name: [_colored(mask, len(classes)) for mask in masks]
        for name, masks in (("truth", truth), ("found", predictions))
    }
    figure, _ = _grid({"image": list(images), **colored})
    shown = np.unique(np.concatenate([np.unique(mask) for mask in (*truth, *predictions)]))
    _legend(figure, classes, [label for label in shown if label < len(classes)])
    return figure


def _colored(mask: Pixels, num_classes: int) -> npt.NDArray[np.float64]:
    palette = np.full((256, 3), UNLABELED)
    palette[:num_classes] = [_color(label) for label in range(num_classes)]
    return palette[mask]


def _color(label: int) -> Any:
    """Return one of twenty colors for a class. The first ten classes get the saturated colors."""
    return colormaps["tab20"]((2 * label + label // 10) % 20)[:3]


def _grid(rows: Mapping[str, Sequence[npt.NDArray[Any]]]) -> tuple[Figure, list[list[Axes]]]:
    """Return a figure with labeled rows of images, and the axes of each image by row and column."""
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
