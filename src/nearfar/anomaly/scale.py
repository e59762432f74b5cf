"""Normalization of scores by levels estimated on normal frames, and smoothing over time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from scipy.ndimage import uniform_filter1d

from nearfar.anomaly.patches import ScoreMap

#: Quantile of the scores of a row's normal patches that defines its level.
ROW_QUANTILE = 0.995
#: Number of neighboring rows over which levels are averaged.
_SMOOTH_ROWS = 5
#: Minimum level, as a fraction of the highest level of all rows or of a method's highest score.
#: Otherwise, nearly everything would look abnormal where hardly anything happens.
MIN_LEVEL = 0.3
#: Truncation of the Gaussian, in standard deviations.
_REACH = 2
#: Maximum number of normal maps, and of normal frame scores, used to estimate levels and
#: thresholds.
_MAX_MAPS, MAX_SCORES = 4096, 2**20

T = TypeVar("T")


class Scale:
    """Normalization of the scores of each method, optionally for each row of patches.

    Parameters
    ----------
    levels : float32[methods, rows] or float32[methods, 1]
        Positive divisors of the scores: high quantiles of the scores of normal frames.

    Examples
    --------
    >>> maps = np.ones((2, 3, 4), np.float32)
    >>> Scale(np.array([[1], [2]], np.float32))(maps)[:, 0, 0]
    array([1. , 0.5], dtype=float32)
    """

    def __init__(self, levels: ScoreMap) -> None:
        self.levels = levels

    @classmethod
    def of_methods(cls, maps: Iterable[ScoreMap], false_alarms: float) -> Scale:
        """Estimate one level per method: a quantile of the highest scores of normal frames.

        Parameters
        ----------
        maps : iterable of float[methods, rows, columns]
            Scores of normal frames.
        false_alarms : float
            Fraction of frames with a score above the level, in (0, 1).
        """
        highest = np.stack(subsample((scores.max((1, 2)) for scores in maps), MAX_SCORES))
        level = np.quantile(highest, 1 - false_alarms, axis=0, method="higher")
        level = np.maximum(level, MIN_LEVEL * highest.max(0))
        return cls(np.where(level > 0, level, 1).astype(np.float32)[:, None])

    @classmethod
    def of_rows(cls, maps: Iterable[ScoreMap]) -> Scale:
        """Estimate one level per method and row, since closer objects look larger and faster.

        Parameters
        ----------
        maps : iterable of float[methods, rows, columns]
            Scores of normal frames.
        """
        kept = np.stack(subsample(maps, _MAX_MAPS))
        quantiles = np.quantile(kept, ROW_QUANTILE, axis=(0, 3))
        smoothed = uniform_filter1d(quantiles, _SMOOTH_ROWS, axis=1, mode="nearest")
        least = MIN_LEVEL * smoothed.max(1, keepdims=True)
        levels = np.maximum(smoothed, np.where(least > 0, least, 1))
        return cls(levels.astype(np.float32))

    def __call__(self, maps: ScoreMap) -> ScoreMap:
        """Divide scores (float[methods, rows, columns]) by their levels."""
        return maps / self.levels[:, :, None]


class FrameScores(NamedTuple):
    """Scores of a frame's patches by all methods (float32[methods, rows, columns])."""

    number: int
    scores: ScoreMap
    lost: int = 0


def smooth(frames: Iterable[FrameScores], deviation: float) -> Iterator[FrameScores]:
    """Smooth scores over time with a Gaussian, truncated at two standard deviations.

    The scores of a frame become a weighted average over frames around it. They are yielded once all
    of these frames have arrived. Missing frames are ignored.

    Parameters
    ----------
    frames : iterable of FrameScores
        Scores of frames, in order of their numbers.
    deviation : float
        Standard deviation of the Gaussian in frames, or 0 for no smoothing.

    Examples
    --------
    >>> peak = [FrameScores(n, np.full((1, 1, 1), float(n == 2))) for n in range(5)]
    >>> [round(frame.scores.item(), 2) for frame in smooth(peak, 0.5)]
    [0.0, 0.11, 0.79, 0.11, 0.0]
    """
    reach = int(np.ceil(_REACH * deviation))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(deviation, 1e-9)) ** 2)
    recent: deque[FrameScores | None] = deque([None] * reach, maxlen=2 * reach + 1)

    def average() -> Iterator[FrameScores]:
        center = recent[reach]
        if len(recent) == 2 * reach + 1 and center is not None:
            near = [(w, m.scores) for w, m in zip(weights, recent, strict=True) if m is not None]
            total = sum(w for w, _ in near)
            yield FrameScores(center.number, sum(w * s for w, s in near) / total, center.lost)

    last: int | None = None
    for frame in frames:
        missing = 0 if last is None else frame.number - last - 1 + frame.lost
        for _ in range(min(missing, 2 * reach + 1)):
            recent.append(None)
            yield from average()
        last = frame.number
        recent.append(frame)
        yield from average()
    for _ in range(reach):
        recent.append(None)
        yield from average()


class Sample(Generic[T]):
    """Sample that consists of every k-th item added.

    k is the smallest power of two such that at most `max_items` items are kept.

    Examples
    --------
    >>> sample = Sample(4)
    >>> for number in range(10):
    ...     sample.add(number)
    >>> sample.items
    [0, 4, 8]
    """

    def __init__(self, max_items: int) -> None:
        self.max_items = max_items
        self.items: list[T] = []
        self._seen, self._every = 0, 1

    def add(self, item: T) -> None:
        """Add the next item."""
        if self._seen % self._every == 0:
            self.items.append(item)
        self._seen += 1
        if len(self.items) > self.max_items:
            self.items, self._every = self.items[::2], 2 * self._every


def subsample(items: Iterable[ScoreMap], max_items: int) -> Sequence[ScoreMap]:
    """Return every k-th item, with k chosen as in `Sample`.

    Examples
    --------
    >>> subsample(range(10), 4)
    [0, 4, 8]
    """
    sample: Sample[ScoreMap] = Sample(max_items)
    for item in items:
        sample.add(item)
    return sample.items
