"""Clips that are in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from nearfar.anomaly.clips import Clip, Frame


class ClipInMemory(Clip):
    """Frames that are given one by one, as uint8[h, w]."""

    name = "frames"

    def __init__(self, frames: Iterable[np.ndarray]) -> None:
        super().__init__()
        self.frames = [Frame(number, pixels) for number, pixels in enumerate(frames)]

    def __iter__(self) -> Iterator[Frame]:
        return iter(self.frames)
