"""Sheets: figures that show a grid of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from nearfar.errors import NearfarError
from nearfar.report.figures.style import FAINT, INK, WIDTH, literal

Pixels = npt.NDArray[np.floating[Any]]

#: Largest side of an image, in inches.
MAX_TILE = 1.1
#: Longest name of a row, in characters.
MAX_ROW_NAME = 14
#: Longest name below an image, in characters, and its height, as a share of the image's.
MAX_IMAGE_NAME, NAME_SPACE = 14, 0.2
#: Space between images, as a share of the image's side.
GAP = 0.06


def reconstruction_sheet(
    originals: Pixels,
    before: Pixels,
    after: Pixels,
    *,
    initial: str = "autoencoder",
    method: str = "NRE",
) -> Figure:
    """Return a figure with three rows: images, and their reconstructions by two networks (Fig. 4).

    Parameters
    ----------
    originals, before, after : float[n, c, h, w]
        Images, reconstructions by the initial network, and reconstructions by the trained network.
        They are grayscale (c = 1) or RGB (c = 3), with values in [0, 1]. About 12 images fit well.
    initial, method : str
        Names of the initial and the trained network, written next to the rows.

    Examples
    --------
    >>> images = np.random.rand(12, 1, 28, 28)
    >>> len(reconstruction_sheet(images, images, images).axes[0].images)
    36
    """
    return comparison_sheet({"original": originals, initial: before, method: after})


def comparison_sheet(rows: Mapping[str, Pixels]) -> Figure:
    """Return a figure with labeled rows of images.

    Parameters
    ----------
    rows : mapping of str to float[n, c, h, w]
        For each row by label, the images: grayscale (c = 1) or RGB (c = 3), with values in [0, 1].
        All rows have the same shape. About 12 images per row fit well.

    Raises
    ------
    NearfarError
        If the shapes differ, or the images are neither grayscale nor RGB.

    Examples
    --------
    >>> noisy = np.random.rand(12, 1, 28, 28)
    >>> len(comparison_sheet({"noisy": noisy, "restored": noisy.round()}).axes[0].images)
    24
    """
    shapes = {images.shape for images in rows.values()}
    if len(shapes) > 1:
        raise NearfarError(f"images to compare have shapes {sorted(shapes)}: expected one shape")
    (shape,) = shapes
    sheet = _Sheet(shape, columns=shape[0], rows=len(rows), left=1.45)
    for row, (name, images) in enumerate(rows.items()):
        sheet.text(
            literal(name, MAX_ROW_NAME), 0, row + 0.5, offset=(-8, 0), ha="right", va="center"
        )
        sheet.images(images, 0, row)
    return sheet.figure


def neighbor_sheet(
    queries: Pixels, near: Pixels, far: Pixels, *, names: Sequence[Sequence[str]] | None = None
) -> Figure:
    """Return a figure with one row per query image: the query, near samples and far samples.

    Parameters
    ----------
    queries : float[n, c, h, w]
        Query images: grayscale (c = 1) or RGB (c = 3), with values in [0, 1].
    near, far : float[n, T, c, h, w]
        Near samples of each query, nearest first, and far samples of each query, farthest first.
    names : sequence of n sequences of str, optional
        For each row, the names of the query, the near samples and the far samples, in this order.
        They are written below the images. For paths, only the file name is written.

    Raises
    ------
    NearfarError
        If the shapes do not match.

    Examples
    --------
    >>> queries, samples = np.random.rand(4, 1, 28, 28), np.random.rand(4, 3, 1, 28, 28)
    >>> len(neighbor_sheet(queries, samples, samples).axes[0].images)
    28
    """
    for name, images in (("near", near), ("far", far)):
        if images.ndim != 5 or images.shape[0] != len(queries) or not images.shape[1]:
            raise NearfarError(
                f"{name} images have shape {images.shape} for {len(queries)} queries: "
                "expected (queries, T, channels, height, width)"
            )
    near_at = 1.5
    far_at = near_at + near.shape[1] + 0.5
    pitch = 1 if names is None else 1 + NAME_SPACE
    sheet = _Sheet(queries.shape, columns=far_at + far.shape[1], rows=len(queries) * pitch, top=0.3)
    for text, column in (("query", 0.0), ("near", near_at), ("far", far_at)):
        sheet.text(text, column, 0, offset=(2, 5), ha="left", va="bottom")
    columns = [0.0, *near_at + np.arange(near.shape[1]), *far_at + np.arange(far.shape[1])]
    for row in range(len(queries)):
        sheet.images(queries[row : row + 1], 0, row * pitch)
        sheet.images(near[row], near_at, row * pitch)
        sheet.images(far[row], far_at, row * pitch)
        for name, column in zip(names[row] if names else (), columns, strict=bool(names)):
            last = literal(PurePath(name).name, MAX_IMAGE_NAME)
            at = column + GAP / 2, row * pitch + 1
            sheet.text(last, *at, offset=(0, 0), size=6, ha="left", va="top")
    return sheet.figure


class _Sheet:
    """Figure with a grid of images.

    Columns and rows are numbered from 0 and may be fractional. The margins `left` and `top` are in
    inches.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        columns: float,
        rows: float,
        left: float = 0,
        top: float = 0,
    ) -> None:
        if shape[-3] not in (1, 3) or not rows or not columns:
            raise NearfarError(f"images to show have shape {shape}: expected (n, 1 or 3, h, w)")
        tile = min((WIDTH - left) / columns, MAX_TILE)
        grid_width, grid_height = columns * tile, rows * tile * shape[-2] / shape[-1]
        width, height = left + grid_width, top + grid_height
        self.figure = Figure((width, height))
        self.axes = self.figure.add_axes(
            (left / width, 0, grid_width / width, grid_height / height)
        )
        self.axes.set_axis_off()
        self.columns, self.rows = columns, rows

    def images(self, images: Pixels, column: float, row: float) -> None:
        """Draw images (float[n, c, h, w]) side by side in `row`, the first one in `column`."""
        for i, image in enumerate(np.clip(images, 0, 1)):
            left, right = column + i + GAP / 2, column + i + 1 - GAP / 2
            top, bottom = row + GAP / 2, row + 1 - GAP / 2
            pixels = image[0] if len(image) == 1 else np.moveaxis(image, 0, -1)
            self.axes.imshow(
                pixels,
                cmap="gray",
                vmin=0,
                vmax=1,
                extent=(left, right, bottom, top),
                aspect="auto",
            )
            frame = Rectangle((left, top), right - left, bottom - top, fill=False)
            frame.set(edgecolor=FAINT, linewidth=0.5)
            self.axes.add_patch(frame)
        self.axes.set(xlim=(0, self.columns), ylim=(self.rows, 0))

    def text(
        self,
        text: str,
        column: float,
        row: float,
        *,
        offset: tuple[float, float],
        size: float = 11,
        **align: Any,
    ) -> None:
        """Write text at a position in the grid, shifted by `offset` (right and up, in points)."""
        self.axes.annotate(
            text,
            (column, row),
            xytext=offset,
            textcoords="offset points",
            annotation_clip=False,
            color=INK,
            fontsize=size,
            **align,
        )
