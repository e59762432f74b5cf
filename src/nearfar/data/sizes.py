"""The sizes and channel counts that images can be asked for."""

from __future__ import annotations

from typing import Literal

from nearfar.errors import NearfarError

#: The smallest side of an image, and the smallest that a convolutional autoencoder takes.
MIN_SIDE = 8

Size = int | tuple[int, int]
Channels = Literal[1, 3]


def check_size(size: Size | None) -> tuple[int, int] | None:
    """The height and width that were asked for."""
    if size is None:
        return None
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < MIN_SIDE:
        raise NearfarError(
            f"size {size!r} is too small: expected a side, or a height and a width, "
            f"of at least {MIN_SIDE} pixels"
        )
    return height, width


def check_channels(channels: Channels | None) -> None:
    """Refuse a channel count that is neither gray nor color."""
    if channels not in (None, 1, 3):
        raise NearfarError(f"channels {channels!r} is not possible: expected 1 (gray) or 3 (RGB)")
