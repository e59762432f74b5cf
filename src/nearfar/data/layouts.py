"""Images as callers' arrays hold them: in some layout and on some scale of pixel values."""

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
Layout = Literal["flat", "gray", "color"]


def layout_of(array: Array) -> tuple[Layout, Shape]:
    """Tell the layout of images n×h×w or n×h×w×c, and their shape (c, h, w).

    Raises
    ------
    NearfarError
        If c is neither 1 nor 3.
    """
    height, width, channels = (*array.shape[1:], 1)[:3]
    if channels not in (1, 3):
        raise NearfarError(
            f"images of shape {array.shape}: expected n×h×w or n×h×w×c with 1 or 3 channels"
        )
    return "gray" if array.ndim == 3 else "color", (channels, height, width)


def shape_of_rows(features: int, image_shape: tuple[int, ...] | None) -> Shape:
    """Tell the shape (c, h, w) of flattened images from (h, w) or (h, w, c), or from their length.

    Rows whose length is no square of at least 8 are features, which have shape (1, 1, features).

    Raises
    ------
    NearfarError
        If `image_shape` is not of so many values, or of a number of channels other than 1 and 3.
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
    """Tell the values that mean black and white."""
    if rows.dtype == np.uint8:
        return 0.0, 255.0
    low, high = float(rows.min()), float(rows.max())
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    return low, max(high, np.nextafter(low, np.inf, dtype=np.float32).item())


def warn_about_scale(rows: Array, pixel_range: tuple[float, float], *, stacklevel: int) -> None:
    """Warn of floats that seem to be on the other of the two usual scales."""
    if rows.dtype == np.uint8 or pixel_range not in ((0, 1), (0, 255)):
        return
    (_, white), largest = pixel_range, float(rows.max())
    if (white == 255 and 0 < largest <= 1) or (white == 1 and 128 <= largest <= 255):
        warnings.warn(
            f"images with values up to {largest:g}, for a model of images on 0…{white:g}: "
            f"are they on 0…{256 - white:g}?",
            stacklevel=stacklevel + 1,
        )


def images_from_rows(rows: Array, shape: Shape, pixel_range: tuple[float, float]) -> Images:
    """Take flattened images h·w·c, uint8 or float[n, h·w·c], as images of a shape (c, h, w)."""
    channels, height, width = shape
    low, high = pixel_range
    if rows.dtype == np.uint8 and low == 0 and high in (1, 255):
        scaled = rows
    else:
        scaled = (rows.astype(np.float32, copy=False) - np.float32(low)) / np.float32(high - low)
    arranged = scaled.reshape(-1, height, width, channels).transpose(0, 3, 1, 2)
    return ArrayImages(np.ascontiguousarray(arranged))


def images_to_array(images: Tensor, layout: Layout, pixel_range: tuple[float, float]) -> Array:
    """Lay out a network's images, float[n, c, h, w] in 0…1; as uint8 if 0…255 is their scale."""
    low, high = pixel_range
    unit = images.clamp(0, 1).numpy().transpose(0, 2, 3, 1)
    array = unit * np.float32(high - low) + np.float32(low)
    if (low, high) == (0, 255):
        array = array.round().astype(np.uint8)
    if layout == "flat":
        return array.reshape(len(array), -1)
    return array[..., 0] if layout == "gray" else array
