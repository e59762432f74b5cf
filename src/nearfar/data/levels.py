"""Mapping of pixels with more than 8 bits or more than three bands to gray levels or colors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from nearfar.data.encoded import UndefinedColorsError, UnreadableError
from nearfar.errors import NearfarError

#: Values of black and white.
Window = tuple[float, float]
#: Transfer functions of HDR by their number in ITU-T H.273, Table 3.
HDR_TRANSFERS = {16: "PQ", 18: "HLG"}


@dataclass(frozen=True)
class Decoding:
    """Options for mapping the pixel values of image files to gray levels.

    Parameters
    ----------
    window : (low, high), optional
        Pixel values of black and white in files with more than 8 bits; for DICOM files, values
        after rescaling. Default: as stated in each file.
    bands : tuple of 1 or 3 int, optional
        Bands to use in files with more than three, counted from 1: one for grayscale, or three for
        red, green and blue.

    Raises
    ------
    NearfarError
        If the window is empty or not finite, if the number of bands is neither 1 nor 3, or if a
        band is below 1.

    Examples
    --------
    >>> Decoding(window=(4095, 0))
    Traceback (most recent call last):
    nearfar.errors.NearfarError: window=(4095, 0): expected two numbers, the first below the second
    """

    window: Window | None = None
    bands: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.window is not None:
            pair = isinstance(self.window, tuple | list) and all(
                isinstance(value, Real) for value in self.window
            )
            low, high = (*self.window, math.nan, math.nan)[:2] if pair else (math.nan, math.nan)
            if not -math.inf < low < high < math.inf or len(self.window) != 2:
                raise NearfarError(
                    f"window={self.window}: expected two numbers, the first below the second"
                )
        if self.bands is not None:
            whole = isinstance(self.bands, tuple | list) and all(
                isinstance(band, Integral) and band >= 1 for band in self.bands
            )
            if not whole or len(self.bands) not in (1, 3):
                raise NearfarError(f"bands={self.bands}: expected one or three numbers, from 1")


#: Everything as stated in the files.
AS_STATED = Decoding()


class Depth(Enum):
    """Kind of the pixel values of a file: how black and white are defined.

    Examples
    --------
    >>> Depth.UNKNOWN.name
    'UNKNOWN'
    """

    LEVELS = 0  # 8 bits or fewer
    STATED = 1  # more, and the file states black and white
    FULL = 2  # more, and white is the largest number that they hold
    UNKNOWN = 3  # floats, signed and 32-bit integers


class RawPixels(NamedTuple):
    """Pixel values of an image before conversion to gray levels.

    Attributes
    ----------
    values : array [h, w] or [h, w, 3]
        Pixel values as specified by the file.
    default_window : (low, high) or None
        Pixel values of black and white according to the file or its data type; None if unknown.
    inverted : bool
        Whether the lowest value is white.
    alpha : uint8[h, w] or None
        Alpha channel, which is 255 where the image is opaque.

    Examples
    --------
    >>> raw = RawPixels(np.array([[0, 2048], [4095, 4095]], np.uint16), (0, 65535))
    >>> np.asarray(raw.image((0, 4095))).tolist()
    [[0, 128], [255, 255]]
    """

    values: npt.NDArray[Any]
    default_window: Window | None = None
    inverted: bool = False
    alpha: npt.NDArray[np.uint8] | None = None

    def image(self, window: Window | None = None) -> Image.Image:
        """Return an 8-bit image: grayscale or RGB, with an alpha channel if there is one.

        Parameters
        ----------
        window : (low, high), optional
            Pixel values of black and white; not used for 8-bit pixels. Default: `default_window`.

        Raises
        ------
        UnreadableError
            If neither `window` nor `default_window` is known, or a pixel is not finite.
        """
        window = self.default_window if window is None or self.values.dtype == np.uint8 else window
        if self.values.dtype.kind == "f" and not np.isfinite(self.values).all():
            raise UnreadableError("NaN or infinite pixels")
        if window is None:
            raise UndefinedColorsError(
                f"pixels of {self.values.dtype}, whose black and white are unknown",
                "state them by --window LOW HIGH",
            )
        if self.values.dtype == np.uint16 and window == (0, 65535):
            levels = (self.values >> 8).astype(np.uint8)
        else:
            low, high = window
            wide = self.values.dtype.itemsize > 2 and self.values.dtype != np.float32
            scaled: npt.NDArray[Any] = np.array(self.values, np.float64 if wide else np.float32)
            np.subtract(scaled, low, out=scaled)
            np.multiply(scaled, 255 / (high - low), out=scaled)
            levels = np.rint(scaled.clip(0, 255, out=scaled), out=scaled).astype(np.uint8)
        image = Image.fromarray(~levels if self.inverted else levels)
        if self.alpha is not None:
            image.putalpha(Image.fromarray(self.alpha))
        return image

    def range(self) -> Window:
        """Return the smallest and largest finite values."""
        values = self.values
        if values.dtype.kind == "f":
            values = values[np.isfinite(values)]
            if not values.size:
                raise UnreadableError("NaN or infinite pixels")
        return float(values.min()), float(values.max())
