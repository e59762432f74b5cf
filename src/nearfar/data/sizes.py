"""Sizes and channel counts of images."""

from __future__ import annotations

from numbers import Integral
from typing import Any, Literal

from nearfar.errors import NearfarError

#: Minimum image side, in pixels; also the minimum side for convolutional autoencoders.
MIN_SIDE = 8
#: Maximum number of pixels in an image.
MAX_PIXELS = 2**26

#: Side of a square, or height and width, in pixels.
Size = int | tuple[int, int]
#: Gray or RGB.
Channels = Literal[1, 3]


def check_size(size: Size | None) -> tuple[int, int] | None:
    """Return a size as (height, width). None is returned unchanged.

    Raises
    ------
    NearfarError
        If the value is not a size, a side is below `MIN_SIDE`, or there are more than `MAX_PIXELS`
        pixels.

    Examples
    --------
    >>> check_size(64)
    (64, 64)
    """
    if size is None:
        return None
    given: Any = size  # from untyped callers
    sides = (given, given) if isinstance(given, Integral) else given
    whole = isinstance(sides, tuple | list) and all(isinstance(side, Integral) for side in sides)
    if not whole or len(sides) != 2:
        raise NearfarError(f"size={size!r}: expected a side, or a height and a width, in pixels")
    height, width = map(int, sides)
    if min(height, width) < MIN_SIDE:
        raise NearfarError(
            f"size {size!r} is too small: expected a side, or a height and a width, "
            f"of at least {MIN_SIDE} pixels"
        )
    if height * width > MAX_PIXELS:
        raise NearfarError(f"size {size!r} is too large: expected at most {MAX_PIXELS:,} pixels")
    return height, width


def check_channels(channels: Channels | None) -> None:
    """Raise an error for a channel count other than 1 (gray), 3 (RGB) or None."""
    if channels not in (None, 1, 3) or isinstance(channels, bool | float):
        raise NearfarError(f"channels={channels!r}: expected 1 (gray) or 3 (RGB)")
