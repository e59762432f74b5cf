"""Patches of frames: where they lie, how they are cut, and how their scores become a heat map."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from nearfar.anomaly.clips import Clip, Frame, Pixels
from nearfar.data import ArrayImages
from nearfar.errors import NearfarError

#: The most that patches to learn from take; of more, some are drawn at random.
PATCH_BYTES = 2**29

Places = npt.NDArray[np.int64]
Map = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Grid:
    """Square patches that cover a frame, in rows and columns.

    Parameters
    ----------
    size : (height, width)
        Of the frame, in pixels.
    patch : int
        Side of a patch.
    stride : int
        From one patch to the next. The last row and column end where the frame does.

    Raises
    ------
    NearfarError
        If the frame is smaller than a patch, or the patches leave gaps.
    """

    size: tuple[int, int]
    patch: int
    stride: int

    def __post_init__(self) -> None:
        if min(self.size) < self.patch:
            raise NearfarError(
                f"frames of {self.size[0]}x{self.size[1]} pixels are smaller than a patch of "
                f"{self.patch}: expected larger frames, or a size to scale them to"
            )
        if not 1 <= self.stride <= self.patch:
            raise NearfarError(
                f"stride={self.stride}: expected 1…{self.patch}, so that patches leave no gaps"
            )

    def check(self, size: tuple[int, ...], name: str) -> None:
        """Refuse frames of another size; `name` is what they are called.

        Raises
        ------
        NearfarError
            If they are.
        """
        if size != self.size:
            raise NearfarError(
                f"{name!r} has frames of {size[0]}x{size[1]} pixels, expected "
                f"{self.size[0]}x{self.size[1]}: clips of one camera, or a size to scale them to"
            )

    @cached_property
    def tops(self) -> Places:
        """The first pixel row of each row of patches."""
        return _starts(self.size[0], self.patch, self.stride)

    @cached_property
    def lefts(self) -> Places:
        """The first pixel column of each column of patches."""
        return _starts(self.size[1], self.patch, self.stride)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return len(self.tops), len(self.lefts)

    @cached_property
    def depths(self) -> npt.NDArray[np.float64]:
        """How far down the middle of each patch lies, float[n] in 0…1, row by row."""
        middles = (self.tops + self.patch / 2) / self.size[0]
        return middles.repeat(len(self.lefts))

    def cut(self, frames: Pixels, chosen: Places | None = None) -> Pixels:
        """Cut consecutive frames, uint8[t, h, w], into patches, uint8[n, t, p, p].

        Parameters
        ----------
        chosen : int64[n], optional
            Which of them, counted row by row; all if not given.
        """
        if chosen is None:
            chosen = np.arange(len(self.tops) * len(self.lefts))
        rows, columns = np.divmod(chosen, len(self.lefts))
        every = sliding_window_view(frames, (self.patch, self.patch), axis=(1, 2))
        return np.ascontiguousarray(every[:, self.tops[rows], self.lefts[columns]].swapaxes(0, 1))

    def means(self, image: Map) -> Map:
        """Mean of an image, float[h, w], in each patch, float32[rows, columns]."""
        sums = np.pad(image, ((1, 0), (1, 0))).cumsum(0, dtype=np.float64).cumsum(1)
        top, left, p = self.tops[:, None], self.lefts, self.patch
        total = sums[top + p, left + p] - sums[top, left + p] - sums[top + p, left]
        return ((total + sums[top, left]) / p**2).astype(np.float32)

    def spread(self, scores: Map) -> Map:
        """Give each pixel, float32[h, w], the score, float[rows, columns], of the nearest patch."""
        rows = _nearest(self.tops + (self.patch - 1) / 2, self.size[0])
        columns = _nearest(self.lefts + (self.patch - 1) / 2, self.size[1])
        return scores[rows[:, None], columns]


def windows(
    frames: Iterable[Frame], length: int, name: str = "the stream"
) -> Iterator[tuple[int, Pixels]]:
    """Group each frame with those before it; the first frames share the first whole window.

    After a gap in their numbers frames are grouped anew: across it, all would seem to jump. Frames
    between two gaps that are too few for a window are left out.

    Yields
    ------
    number : int
        Of the last frame of the window.
    pixels : uint8[length, h, w]
        Its frames.

    Raises
    ------
    NearfarError
        If there are nowhere as many frames as a window holds, or they change their size.
    """
    recent: deque[Frame] = deque(maxlen=length)
    waiting: list[int] = []
    longest = 0
    for frame in frames:
        if recent and frame.pixels.shape != recent[0].pixels.shape:
            before, now = recent[0].pixels.shape, frame.pixels.shape
            raise NearfarError(
                f"frame {frame.number} of {name!r} is {now[0]}x{now[1]} pixels, those before it "
                f"{before[0]}x{before[1]}: expected frames of one size"
            )
        if recent and frame.number != recent[-1].number + 1:
            recent.clear()
            waiting.clear()
        recent.append(frame)
        longest = max(longest, len(recent))
        if len(recent) < length:
            waiting.append(frame.number)
            continue
        window = np.stack([frame.pixels for frame in recent])
        for number in (*waiting, frame.number):
            yield number, window
        waiting.clear()
    if longest < length:
        raise NearfarError(
            f"{name!r} has {longest} frames in a row, fewer than the {length} that are looked at "
            "together: expected a longer clip"
        )


def gather_patches(
    clips: Iterable[Clip],
    patch: int,
    stride: int,
    length: int,
    *,
    name: str,
    seed: int = 0,
    most_bytes: int = PATCH_BYTES,
    border: int = 0,
) -> ArrayImages:
    """Patches of all windows of some clips, as images whose channels are the frames of a window.

    The clips are read once, a frame at a time. If all patches would take more than `most_bytes`,
    each is kept with the same probability (reservoir sampling).

    Parameters
    ----------
    border : int
        How many pixels are left out on each side of a frame.

    Raises
    ------
    NearfarError
        See `Clip` and `windows`.
    """
    most = max(1, most_bytes // (length * patch**2))
    generator = np.random.default_rng(seed)
    kept = np.empty((0, length, patch, patch), np.uint8)
    filled = seen = 0
    grid: Grid | None = None
    for clip in clips:
        for _, window in windows(clip, length, clip.name):
            height, width = window.shape[1:]
            inner = window[:, border : height - border, border : width - border]
            if grid is None:
                grid = Grid((height - 2 * border, width - 2 * border), patch, stride)
            grid.check(inner.shape[1:], clip.name)
            cut = grid.cut(inner)
            places = np.arange(seen, seen + len(cut))
            late = places >= most
            places[late] = generator.integers(0, places[late] + 1)
            chosen = places < most
            filled = min(seen + len(cut), most)
            if filled > len(kept):
                larger = np.empty((min(2 * filled, most), *kept.shape[1:]), np.uint8)
                larger[: len(kept)] = kept
                kept = larger
            kept[places[chosen]] = cut[chosen]
            seen += len(cut)
    if not seen:
        raise NearfarError(f"{name!r} holds no normal frames to learn from")
    return ArrayImages(kept[:filled], name=name)


def _starts(length: int, patch: int, stride: int) -> Places:
    last = length - patch
    return np.unique(np.append(np.arange(0, last + 1, stride), last))


def _nearest(centers: npt.NDArray[np.floating], length: int) -> Places:
    """Which of the sorted centers is nearest to each of so many pixels."""
    between = (centers[1:] + centers[:-1]) / 2
    return np.searchsorted(between, np.arange(length))
