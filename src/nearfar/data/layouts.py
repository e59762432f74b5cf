"""Conversion of user arrays, of any layout and pixel scale, to images and back."""

from __future__ import annotations

import math
import warnings
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor

from nearfar.data.arrays import ArrayImages
from nearfar.data.images import Images, Shape
from nearfar.data.sizes import MIN_SIDE
from nearfar.errors import NearfarError

Array = npt.NDArray[Any]
#: Factor of the brightest pixel, compared with a model's white, that suggests another scale.
OTHER_SCALE = 100
#: n×(h·w·c), n×h×w, or n×h×w×c.
Layout = Literal["flat", "gray", "color"]


def layout_of(array: Array) -> tuple[Layout, Shape]:
    """Return the layout of an array (n×h×w or n×h×w×c), and the shape (c, h, w) of its images.

    Raises
    ------
    NearfarError
        If c is neither 1 nor 3, or if an n×h×w array has images narrower than 8 pixels, since it is
        probably a single h×w×c image.

    Examples
    --------
    >>> layout_of(np.zeros((5, 28, 28)))
    ('gray', (1, 28, 28))
    """
    height, width, channels = (*array.shape[1:], 1)[:3]
    if array.ndim == 3 and width < MIN_SIDE:
        raise NearfarError(
            f"an array of shape {array.shape} looks like one picture h×w×c: expected images n×h×w, "
            "n×h×w×c, or array[None] for one"
        )
    if channels not in (1, 3):
        raise NearfarError(
            f"images of shape {array.shape}: expected n×h×w or n×h×w×c with 1 or 3 channels"
        )
    return "gray" if array.ndim == 3 else "color", (channels, height, width)


def shape_of_rows(features: int, image_shape: tuple[int, ...] | None) -> Shape:
    """Return the shape (c, h, w) of images whose pixels are given as rows of an array.

    Parameters
    ----------
    features : int
        Values per row.
    image_shape : tuple of int, optional
        Shape as (h, w) or (h, w, c). Default: a square image if `features` is the square of a
        number ≥ 8; otherwise, rows are feature vectors of shape (1, 1, features).

    Raises
    ------
    NearfarError
        If `image_shape` does not have `features` values, or c is neither 1 nor 3.

    Examples
    --------
    >>> shape_of_rows(784, None), shape_of_rows(100, (5, 20)), shape_of_rows(13, None)
    ((1, 28, 28), (1, 5, 20), (1, 1, 13))
    """
    if image_shape is not None:
        sides = image_shape if isinstance(image_shape, tuple | list) else ()
        whole = all(isinstance(side, int | np.integer) and side > 0 for side in sides)
        height, width, channels = (*sides, 1)[:3] if whole and len(sides) in (2, 3) else (0, 0, 0)
        if height * width * channels != features or channels not in (1, 3):
            raise NearfarError(
                f"image_shape={image_shape}: expected (h, w) or (h, w, c) with c = 1 or 3 "
                f"and {features} values"
            )
        return channels, height, width
    side = math.isqrt(features)
    if side * side == features and side >= MIN_SIDE:
        return 1, side, side
    return 1, 1, features


def pixel_range_of(rows: Array) -> tuple[float, float]:
    """Return the pixel values of black and white in an array.

    They are 0 and 255 for uint8; 0 and 1 if all other values are in [0, 1]; and otherwise the
    smallest and largest values of the array.

    Examples
    --------
    >>> pixel_range_of(np.array([[0.0, 0.5]])), pixel_range_of(np.array([[0.0, 16.0]]))
    ((0.0, 1.0), (0.0, 16.0))
    """
    if rows.dtype == np.uint8:
        return 0.0, 255.0
    low, high = float(rows.min()), float(rows.max())
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    return low, max(high, np.nextafter(low, np.inf, dtype=np.float32).item())


def warn_about_scale(rows: Array, pixel_range: tuple[float, float], *, stacklevel: int) -> None:
    """Warn if pixels are on a different scale than a model expects, such as 0…1 instead of 0…255.

    Parameters
    ----------
    rows : array
        Pixels.
    pixel_range : tuple of float
        Pixel values of black and white that the model expects.
    stacklevel : int
        See `warnings.warn`. With 1, the warning names the line that calls this function.

    Examples
    --------
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     warn_about_scale(np.array([[0.0, 0.9]]), (0.0, 255.0), stacklevel=1)
    >>> len(caught)
    1
    """
    low, high = pixel_range
    largest = float(rows.max())
    if rows.dtype == np.uint8 and low == 0 and high in (1, 255):
        if high == 1 and largest == 1:
            warnings.warn(
                "uint8 images with values up to 1, for a model of images on 0…1: 255 is white in "
                "uint8, so convert them to floats",
                stacklevel=stacklevel + 1,
            )
        return
    white = (largest - low) / (high - low)
    if 0 < white < 1 / OTHER_SCALE or white > OTHER_SCALE:
        warnings.warn(
            f"images with values up to {largest:g}, for a model of images on {low:g}…{high:g}: "
            "expected the same scale",
            stacklevel=stacklevel + 1,
        )


def images_from_rows(rows: Array, shape: Shape, pixel_range: tuple[float, float]) -> Images:
    """Convert rows of pixels to images.

    Parameters
    ----------
    rows : array
        uint8[n, h·w·c] or float[n, h·w·c].
    shape : tuple of int
        Shape (channels, height, width) of each image.
    pixel_range : tuple of float
        Values of black and white.

    Examples
    --------
    >>> images = images_from_rows(np.full((2, 64), 8.0), (1, 8, 8), (0.0, 16.0))
    >>> images.shape, images[0].mean().item()
    ((1, 8, 8), 0.5)
    """
    channels, height, width = shape
    low, high = pixel_range
    if rows.dtype == np.uint8 and low == 0 and high in (1, 255):
        scaled = rows
    else:
        scaled = (rows.astype(np.float32, copy=False) - np.float32(low)) / np.float32(high - low)
    arranged = scaled.reshape(-1, height, width, channels).transpose(0, 3, 1, 2)
    return ArrayImages(np.ascontiguousarray(arranged))


def images_to_array(images: Tensor, layout: Layout, pixel_range: tuple[float, float]) -> Array:
    """Convert images from a network to an array.

    Parameters
    ----------
    images : Tensor
        float[n, c, h, w], with values in [0, 1].
    layout : {"flat", "gray", "color"}
        Layout of the array: n×(h·w·c), n×h×w, or n×h×w×c.
    pixel_range : tuple of float
        Values of black and white; (0, 255) gives uint8.

    Examples
    --------
    >>> import torch
    >>> images_to_array(torch.ones(2, 1, 8, 8), "gray", (0, 255)).shape
    (2, 8, 8)
    """
    low, high = pixel_range
    unit = images.clamp(0, 1).numpy().transpose(0, 2, 3, 1)
    array = unit * np.float32(high - low) + np.float32(low)
    if (low, high) == (0, 255):
        array = array.round().astype(np.uint8)
    if layout == "flat":
        return array.reshape(len(array), -1)
    return array[..., 0] if layout == "gray" else array
