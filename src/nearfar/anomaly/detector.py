"""Anomaly detector for clips and streams, which combines methods, a scale and a threshold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from nearfar.anomaly.clips import Clip, Frame, scale
from nearfar.anomaly.config import DetectorConfig
from nearfar.anomaly.patches import Grid, ScoreMap, windows
from nearfar.anomaly.registry import LeaveOneOutMethod, Scorer
from nearfar.anomaly.scale import MAX_SCORES, FrameScores, Sample, Scale, smooth
from nearfar.anomaly.threshold import find_threshold
from nearfar.errors import NearfarError
from nearfar.progress import Track, silent

#: One in this many normal clips or photographs is held out for calibration.
CALIBRATE_EVERY = 4
#: Minimum number of photographs that are scored as if left out, if there are that many.
_LEFT_OUT = 50


class ScoredFrame(NamedTuple):
    """Anomaly score and heat map of a frame.

    Attributes
    ----------
    number : int
        Number of the frame in its clip.
    score : float
        Highest score of the frame's patches, at least 0.
    heat : float32[rows, columns]
        Scores of the frame's patches. `Detector.upsample` converts them to scores of pixels.

    Examples
    --------
    >>> ScoredFrame(0, 2.0, np.array([[1, 2]], np.float32)).score
    2.0
    """

    number: int
    score: float
    heat: ScoreMap


class Detector:
    """Anomaly detector for clips and streams.

    Detectors are returned by `fit_detector` and `read_detector`.

    Parameters
    ----------
    config : DetectorConfig
        Settings.
    grid : Grid
        Positions of the patches in downscaled frames.
    methods : sequence of Scorer
        Fitted methods.
    scale : Scale, optional
        Divisors of the scores of each method, if any.
    threshold : float
        Score above which a frame is abnormal.
    calibrated_on : int
        Number of normal frames that the threshold was set on.
    rate : float, optional
        Frames per second of the normal clips, if known.
    expected_false_alarms : float, optional
        Expected fraction of new normal frames with scores above the threshold, if known.
    size : (height, width), optional
        Size of frames before downscaling. Default: the size of the grid.
    continuous : bool
        Whether consecutive normal frames look alike, as in a video.

    Examples
    --------
    >>> class Brightness:
    ...     def score(self, window, grid):
    ...         return grid.means(window[-1].astype(np.float32))
    >>> config = DetectorConfig.paper(patch=8, stride=8)
    >>> detector = Detector(config, Grid((16, 16), 8, 8), [Brightness()], threshold=100)
    >>> stream = [Frame(0, np.full((16, 16), 50, np.uint8)), Frame(1, np.eye(16, dtype=np.uint8))]
    >>> [scored.score for scored in detector.score(stream)]
    [50.0, 0.125]
    """

    def __init__(
        self,
        config: DetectorConfig,
        grid: Grid,
        methods: Sequence[Scorer],
        scale: Scale | None = None,
        threshold: float = float("inf"),
        calibrated_on: int = 0,
        rate: float | None = None,
        *,
        expected_false_alarms: float | None = None,
        size: tuple[int, int] | None = None,
        continuous: bool = False,
    ) -> None:
        self.config, self.grid, self.methods = config, grid, methods
        self.scale, self.threshold, self.calibrated_on = scale, threshold, calibrated_on
        self.expected_false_alarms = expected_false_alarms
        self.rate, self.size, self.continuous = rate, size or grid.size, continuous

    def score(self, frames: Iterable[Frame], name: str = "the stream") -> Iterator[ScoredFrame]:
        """Score frames as they arrive, in constant memory.

        With smoothing, the score of a frame is an average over frames around it. It is yielded once
        all of these frames have arrived.

        Parameters
        ----------
        frames : iterable of Frame
            A `Clip`, or a stream of arrays converted by `as_frames`.
        name : str
            Name of the clip or stream in messages.

        Yields
        ------
        ScoredFrame

        Raises
        ------
        NearfarError
            If the frames differ from the normal clips in size or rate, or if there are too few
            frames.
        """
        if isinstance(frames, Clip):
            self.check_rate(frames)
            frames = frames.as_photographs() if self.config.photographs else frames
        smoothed = smooth(self._score_patches(frames, name), self.config.smoothing)
        for number, scores, _ in smoothed:
            heat = self._heat(scores)
            yield ScoredFrame(number, float(heat.max()), heat)

    def check_rate(self, clip: Clip) -> None:
        """Check the frame rate of a clip, if windows have several frames.

        Raises
        ------
        NearfarError
            See `check_same_rate`.
        """
        if self.config.frames > 1:
            check_same_rate(clip, self.rate)

    def check_size(self, size: tuple[int, int], name: str) -> None:
        """Check the size of frames. Photographs may have any size.

        Raises
        ------
        NearfarError
            If the frames differ in size from the normal clips.
        """
        if not self.config.photographs and size != self.size:
            raise NearfarError(
                f"{name!r} has frames of {size[0]}x{size[1]} pixels, expected "
                f"{self.size[0]}x{self.size[1]}: use clips of one camera, or a size to scale to"
            )

    def upsample(self, heat: ScoreMap, size: tuple[int, int] | None = None) -> ScoreMap:
        """Convert the scores of patches to a heat map with a score for each pixel.

        Parameters
        ----------
        heat : float32[rows, columns]
            Scores of the patches of a frame.
        size : (height, width), optional
            Size of a photograph. Default: the frame size.

        Returns
        -------
        float32[h, w]
        """
        if self.config.photographs and size is not None:
            return self._grid_of(size).upsample(heat)
        return self.grid.upsample(heat, self.size)

    def _heat(self, scores: ScoreMap) -> ScoreMap:
        """Return the sum over all methods of the scaled scores (float[methods, rows, columns])."""
        heat: ScoreMap = (scores if self.scale is None else self.scale(scores)).sum(0)
        return heat

    def _grid_of(self, size: tuple[int, int]) -> Grid:
        return Grid(size, self.grid.patch, self.grid.stride)

    def calibrate(
        self, clips: Sequence[Clip], track: Track = silent, *, left_out: bool = False
    ) -> None:
        """Set the scale and the threshold from the scores of normal clips. See `find_threshold`.

        Parameters
        ----------
        clips : sequence of Clip
            Normal clips that were not used to fit the methods, unless `left_out` is true.
        track : Track
            Progress display. See `nearfar.progress.Track`.
        left_out : bool
            Whether the methods were fitted to these clips. Each photograph is then scored as if it
            had been left out. See `LeaveOneOutMethod`. If there are 100 or more photographs, only
            some of them are scored.

        Raises
        ------
        NearfarError
            If no frame is readable.
        """

        def normal(description: str) -> Iterator[FrameScores]:
            if left_out:
                yield from self._score_left_out(clips, track)
                return
            for clip in track(clips, description, len(clips)):
                self.check_rate(clip)
                yield from smooth(self._score_patches(clip, clip.name), self.config.smoothing)

        if self.config.needs_scale:
            maps = (scores for _, scores, _ in normal("calibrating"))
            self.scale = (
                Scale.of_rows(maps)
                if self.config.scale_by_row
                else Scale.of_methods(maps, self.config.false_alarms)
            )
        sample: Sample[float] = Sample(MAX_SCORES)
        self.calibrated_on = 0
        for _, scores, _ in normal("threshold"):
            self.calibrated_on += 1
            sample.add(float(self._heat(scores).max()))
        if not sample.items:
            raise NearfarError("no normal frame is readable to set the threshold: expected more")
        self.threshold, self.expected_false_alarms = find_threshold(
            sample.items, self.config.false_alarms, independent=self.config.independent_frames
        )

    def _score_patches(self, frames: Iterable[Frame], name: str) -> Iterator[FrameScores]:
        if self.config.photographs:
            for frame in frames:
                grid = self._grid_of((frame.pixels.shape[0], frame.pixels.shape[1]))
                maps = [method.score(frame.pixels[None], grid) for method in self.methods]
                yield FrameScores(frame.number, np.stack(maps))
            return
        last, scores = None, None
        downscaled = (self._downscale(frame, name) for frame in frames)
        for frame, window in windows(downscaled, self.config.frames, name, step=self.config.step):
            if window is not last or scores is None:
                scores = np.stack([method.score(window, self.grid) for method in self.methods])
                last = window
            yield FrameScores(frame.number, scores, frame.lost)

    def _downscale(self, frame: Frame, name: str) -> Frame:
        height, width = frame.pixels.shape
        self.check_size((height, width), name)
        return frame._replace(pixels=scale(frame.pixels, self.grid.size))

    def _score_left_out(self, clips: Sequence[Clip], track: Track) -> Iterator[FrameScores]:
        total = sum(clip.nominal_total for clip in clips)
        every = min(CALIBRATE_EVERY, max(1, total // _LEFT_OUT))
        frames = (frame for clip in clips for frame in clip)
        for number, frame in enumerate(track(frames, "threshold", total)):
            if number % every == 0:
                grid = self._grid_of((frame.pixels.shape[0], frame.pixels.shape[1]))
                window = frame.pixels[None]
                maps = [
                    method.score_left_out(window, grid, number)
                    for method in self.methods
                    if isinstance(method, LeaveOneOutMethod)
                ]
                yield FrameScores(number, np.stack(maps))


def check_same_rate(clip: Clip, rate: float | None) -> None:
    """Check that a clip has the same frame rate as the normal clips.

    Parameters
    ----------
    clip : Clip
        Clip to check.
    rate : float, optional
        Frames per second of the normal clips.

    Raises
    ------
    NearfarError
        If both rates are known and differ by more than a tenth.
    """
    if rate and clip.rate and not 0.9 < clip.rate / rate < 1.1:
        raise NearfarError(
            f"{clip.name!r} has {clip.rate:g} frames per second, the normal clips {rate:g}: motion "
            "would look too fast or too slow; expected the same rate"
        )
