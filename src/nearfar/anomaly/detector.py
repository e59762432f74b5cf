"""A detector of what is not normal, run on any stream of frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from nearfar.anomaly.clips import Clip, Frame
from nearfar.anomaly.config import DetectorConfig
from nearfar.anomaly.patches import Grid, Map, windows
from nearfar.anomaly.scoring import MOST_SCORES, Numbered, Scale, Scorer, smoothed, thin
from nearfar.errors import NearfarError
from nearfar.progress import Track, silent


class Scored(NamedTuple):
    """A frame: its number, its score, and the heat map behind it, float32[rows, columns].

    The score is that of its worst patch.
    """

    number: int
    score: float
    heat: Map


class Detector:
    """Scores frames; see `fit_detector` and `read_detector`.

    Parameters
    ----------
    config : DetectorConfig
        How.
    grid : Grid
        Where the patches of a frame lie.
    scorers : sequence of Scorer
        One for each part.
    scale : Scale, optional
        What is usual, if scores are relative to that.
    threshold : float
        Above which score a frame is called abnormal.
    calibrated_on : int
        How many normal frames the threshold comes from.
    rate : float, optional
        Frames a second of the clips that were learned from, if it is known.
    """

    def __init__(
        self,
        config: DetectorConfig,
        grid: Grid,
        scorers: Sequence[Scorer],
        scale: Scale | None = None,
        threshold: float = float("inf"),
        calibrated_on: int = 0,
        rate: float | None = None,
    ) -> None:
        self.config, self.grid, self.scorers = config, grid, scorers
        self.scale, self.threshold, self.calibrated_on = scale, threshold, calibrated_on
        self.rate = rate

    def score(self, frames: Iterable[Frame], name: str = "the stream") -> Iterator[Scored]:
        """Score the frames of one clip as they come, in memory that does not grow.

        Parameters
        ----------
        frames : iterable of Frame
            A `Clip`, or what `as_frames` makes of a stream of arrays. With smoothing, a frame is
            scored when as many after it have come as it is averaged with.

        Raises
        ------
        NearfarError
            If the frames are of another size or rate than the detector was fitted to, or too few.
        """
        if isinstance(frames, Clip):
            self.check_rate(frames)
        maps = smoothed(self._maps(frames, name), self.config.smoothing)
        for number, scores in maps:
            heat = (scores if self.scale is None else self.scale(scores)).sum(0)
            yield Scored(number, float(heat.max()), heat)

    def check_rate(self, clip: Clip) -> None:
        """Refuse a clip of another rate than was learned from, if frames are looked at together.

        Raises
        ------
        NearfarError
            See `check_same_rate`.
        """
        if self.config.frames > 1:
            check_same_rate(clip, self.rate)

    def _maps(self, frames: Iterable[Frame], name: str) -> Iterator[Numbered]:
        """Scores of all parts, float32[parts, rows, columns], of each frame."""
        last, maps = None, None
        for number, window in windows(frames, self.config.frames, name):
            self.grid.check(window.shape[1:], name)
            if window is not last or maps is None:
                maps = np.stack([scorer(window, self.grid) for scorer in self.scorers])
                last = window
            yield Numbered(number, maps)

    def calibrate(self, clips: Sequence[Clip], track: Track = silent) -> None:
        """Take the scale, and the threshold, from normal clips."""
        if self.config.scaled:
            maps = (
                scores
                for clip in track(clips, "calibrating", len(clips))
                for _, scores in smoothed(self._maps(clip, clip.name), self.config.smoothing)
            )
            self.scale = (
                Scale.of_rows(maps)
                if self.config.by_place
                else Scale.of_parts(maps, self.config.false_alarms)
            )
        self.calibrated_on = 0
        scores = thin(self._normal_scores(clips, track), MOST_SCORES)
        self.threshold = float(np.quantile(scores, 1 - self.config.false_alarms, method="higher"))

    def _normal_scores(self, clips: Sequence[Clip], track: Track) -> Iterator[Map]:
        for clip in track(clips, "threshold", len(clips)):
            for scored in self.score(clip, clip.name):
                self.calibrated_on += 1
                yield np.array(scored.score)


def check_same_rate(clip: Clip, rate: float | None) -> None:
    """Refuse a clip in which the same motion would look faster or slower.

    Parameters
    ----------
    rate : float, optional
        Frames a second of what was learned from.

    Raises
    ------
    NearfarError
        If both rates are known, and differ by more than a tenth.
    """
    if rate and clip.rate and not 0.9 < clip.rate / rate < 1.1:
        raise NearfarError(
            f"{clip.name!r} has {clip.rate:g} frames a second, what was learned from {rate:g}: "
            "motion would look faster or slower than it is; expected the same rate"
        )
