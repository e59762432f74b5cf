"""Overview of scores: pictures with the highest scores, and scores over time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from nearfar.anomaly.clips import Pixels
from nearfar.anomaly.output import FrameResult, overlay
from nearfar.anomaly.patches import ScoreMap
from nearfar.anomaly.scale import Sample

#: Maximum number of pictures, and of clips with scores over time.
_PICTURES, MAX_TIMELINES = 200, 24
#: Maximum number of scores for a histogram, and of intervals of a clip.
_SCORES, _INTERVALS = 2**16, 1000
#: Longest side of an image in a picture, and distance of the two images, in pixels.
_SIDE, _GAP = 152, 4

_V = TypeVar("_V", bound=np.generic)


@dataclass(frozen=True)
class Highlight:
    """Photograph with a high score, or most abnormal frame of an abnormal span.

    Attributes
    ----------
    clip : str
        Name of the clip or folder.
    number : int
        Number of the frame.
    file : str
        Name of the frame's file, if it has a file of its own.
    time : float or None
        Seconds since the start of the clip, if known.
    score : float
        Score of the photograph or frame.
    abnormal : bool
        Whether the score is above the threshold.
    picture : uint8[h, w, 3]
        Thumbnails of the image without and with its heat map, side by side.

    Examples
    --------
    >>> import numpy as np
    >>> picture = np.zeros((90, 324, 3), np.uint8)
    >>> Highlight("cam", 7, "", 0.28, 1.5, True, picture).name
    'cam, frame 7'
    """

    clip: str
    number: int
    file: str
    time: float | None
    score: float
    abnormal: bool
    picture: Pixels

    @property
    def name(self) -> str:
        """Name of the clip, with the file name or number of the frame."""
        if self.clip == self.file:
            return self.file
        return f"{self.clip}/{self.file}" if self.file else f"{self.clip}, frame {self.number}"


@dataclass
class Timeline:
    """Highest score in each of at most 1,000 intervals of a clip.

    Attributes
    ----------
    clip : str
        Name of the clip.
    starts : list of float
        Start of each interval, in seconds or as the number of the first frame.
    scores : list of float
        Highest score in each interval.
    seconds : bool
        Whether `starts` is in seconds.

    Examples
    --------
    >>> timeline = Timeline("cam", [0.0, 0.1], [0.5, 1.5], seconds=True)
    >>> max(timeline.scores)
    1.5
    """

    clip: str
    starts: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    seconds: bool = False
    _length: int = field(default=1, init=False, repr=False)
    _filled: int = field(default=0, init=False, repr=False)

    def add(self, result: FrameResult) -> None:
        """Add the next frame."""
        score, self.seconds = result.scored.score, result.time is not None
        if self._filled % self._length:
            self.scores[-1] = max(self.scores[-1], score)
        else:
            self.starts.append(result.scored.number if result.time is None else result.time)
            self.scores.append(score)
        self._filled += 1
        if len(self.scores) > _INTERVALS:
            pairs = zip(self.scores[::2], [*self.scores[1::2], 0.0], strict=False)
            self.starts, self.scores = self.starts[::2], [max(pair) for pair in pairs]
            self._length *= 2


@dataclass(frozen=True)
class Overview:
    """Overview of the scores of clips or photographs.

    Attributes
    ----------
    highlights : list of Highlight
        The 200 photographs with the highest scores, or the most abnormal frames of the 200 most
        abnormal spans. The highest score is first.
    timelines : list of Timeline
        Scores over time of the 24 clips with the highest scores, in the order of the clips. Empty
        for photographs.
    scores : list of float
        Scores of all frames or, if there are more than 65,536, of every second, fourth, … frame.

    Examples
    --------
    >>> Overview().highlights
    []
    """

    highlights: list[Highlight] = field(default_factory=list)
    timelines: list[Timeline] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)


class OverviewCollector:
    """Collector of frames during scoring, from which an overview is made.

    Parameters
    ----------
    threshold : float
        Score above which a frame is abnormal.
    independent : bool
        Whether frames are unrelated images.
    """

    def __init__(self, threshold: float, *, independent: bool) -> None:
        self.threshold, self.independent = threshold, independent
        self._highlights: dict[int, Highlight] = {}
        self._timelines: list[Timeline] = []
        self._scores: Sample[float] = Sample(_SCORES)
        self._count = 0

    def add(self, result: FrameResult, heat: ScoreMap, span: int | None) -> None:
        """Add the next frame, with its heat map and the number of its abnormal span, if any."""
        self._scores.add(result.scored.score)
        if not self.independent:
            self._add_to_timeline(result)
        key = self._count if self.independent else span
        self._count += 1
        if key is not None and self._is_higher(key, result.scored.score):
            number, score, _ = result.scored
            clip, file, time = result.clip, result.file, result.time
            picture = _picture(result.pixels, heat, self.threshold)
            abnormal = score > self.threshold
            self._highlights[key] = Highlight(clip, number, file, time, score, abnormal, picture)
            if len(self._highlights) > _PICTURES:
                del self._highlights[self._lowest()]

    def overview(self) -> Overview:
        """Return the overview of the frames added so far."""
        highlights = sorted(self._highlights.values(), key=lambda each: -each.score)
        self._drop_lowest_timeline()
        return Overview(highlights, self._timelines, self._scores.items)

    def _is_higher(self, key: int, score: float) -> bool:
        known = self._highlights
        if key in known:
            return score > known[key].score
        return len(known) < _PICTURES or score > known[self._lowest()].score

    def _lowest(self) -> int:
        return min(self._highlights, key=lambda key: self._highlights[key].score)

    def _add_to_timeline(self, result: FrameResult) -> None:
        if not self._timelines or self._timelines[-1].clip != result.clip:
            self._drop_lowest_timeline()
            self._timelines.append(Timeline(result.clip))
        self._timelines[-1].add(result)

    def _drop_lowest_timeline(self) -> None:
        if len(self._timelines) > MAX_TIMELINES:
            self._timelines.remove(min(self._timelines, key=lambda each: max(each.scores)))


def _picture(pixels: Pixels, heat: ScoreMap, threshold: float) -> Pixels:
    """Return thumbnails of an image without and with its heat map, side by side."""
    factor = max(1, _SIDE // max(heat.shape))
    if factor > 1:
        pixels, heat = _enlarge(pixels, factor), _enlarge(heat, factor)
    image = Image.fromarray(pixels)
    image.thumbnail((_SIDE, _SIDE), reducing_gap=2)
    small = np.asarray(image)
    parts: list[npt.NDArray[Any]] = [
        np.asarray(image.convert("RGB")),
        np.full((len(small), _GAP, 3), 255, np.uint8),
        overlay(small, _highest(heat, small.shape[:2]), threshold),
    ]
    return np.concatenate(parts, axis=1)


def _enlarge(values: npt.NDArray[_V], factor: int) -> npt.NDArray[_V]:
    return values.repeat(factor, 0).repeat(factor, 1)


def _highest(heat: ScoreMap, size: tuple[int, ...]) -> ScoreMap:
    """Reduce a heat map to a size (height, width), with the highest score for each pixel."""
    for axis, side in enumerate(size):
        starts = np.linspace(0, heat.shape[axis], side, endpoint=False).astype(int)
        heat = np.maximum.reduceat(heat, starts, axis)
    return heat
