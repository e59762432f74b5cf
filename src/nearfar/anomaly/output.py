"""Output of scoring: scores, alerts, overlays, videos and the most abnormal frames."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow
from PIL import Image, ImageDraw
from pyarrow import parquet
from scipy.ndimage import binary_erosion

from nearfar.anomaly.clips import Clip, Frame, Pixels
from nearfar.anomaly.detector import Detector, ScoredFrame
from nearfar.anomaly.patches import ScoreMap
from nearfar.errors import require
from nearfar.files import atomic_path

#: Number of most abnormal frames to show, and their minimum distance within a clip.
_SHOWN, WORST_DISTANCE = 12, 10
_COLORMAP = "inferno"
#: Opacity of the heat map at twice the threshold.
_OPACITY = 0.6
#: Color of the outline of abnormal pixels, and of the label background of abnormal frames.
ALARM_COLOR = (255, 60, 40)
#: Number of pixels to color at once; the colors of one pixel take a hundred bytes.
_BLENDED = 2**20
#: Minimum height of a frame with room for a label.
_MIN_LABELED_HEIGHT = 96
#: Rows per row group of a Parquet file.
_ROW_GROUP = 4096
#: Columns of the scores, with their Parquet types.
_COLUMNS = {
    "clip": "string",
    "frame": "int64",
    "file": "string",
    "score": "float64",
    "abnormal": "bool_",
    "time": "float64",
}
ScoreRow = tuple[str, int, str, float, bool, float | None]


class FrameResult(NamedTuple):
    """Scored frame with its clip, pixels, time and, if it has a file of its own, file name."""

    clip: str
    scored: ScoredFrame
    pixels: Pixels
    file: str = ""
    time: float | None = None
    lost: int = 0


@dataclass(frozen=True)
class Alert:
    """Abnormal span of a clip.

    Parameters
    ----------
    clip : str
        Name of the clip.
    start, end : int
        Numbers of the first and last frames.
    worst : int
        Number of the frame with the highest score.
    score : float
        Highest score.
    file : str
        File name of the first frame, if it has a file of its own.
    start_time, end_time : float or None
        Times of the first and last frames, in seconds from the start of the clip. They are taken
        from timestamps or, if there are none, computed from the frame rate. None if both are
        unknown.
    """

    clip: str
    start: int
    end: int
    worst: int
    score: float
    file: str = ""
    start_time: float | None = None
    end_time: float | None = None


def score_with_pixels(detector: Detector, clip: Clip) -> Iterator[FrameResult]:
    """Score a clip, and yield each score with the pixels of the frame.

    Only a few frames are kept in memory.

    Raises
    ------
    NearfarError
        See `Detector.score`.
    """
    detector.check_rate(clip)
    clip = clip.as_photographs() if detector.config.photographs else clip
    waiting: dict[int, Frame] = {}

    def frames() -> Iterator[Frame]:
        row = range(0)  # the latest frames, without gaps
        for frame in clip:
            if frame.number != row.stop or frame.lost:
                if len(row) < detector.config.span:
                    for unscored in row:
                        del waiting[unscored]
                row = range(frame.number, frame.number)
            row = range(row.start, frame.number + 1)
            waiting[frame.number] = frame
            yield frame

    for scored in detector.score(frames(), clip.name):
        frame = waiting.pop(scored.number)
        time = frame.time
        if time is None and clip.rate:
            time = frame.number / clip.rate
        file = clip.file_name(scored.number)
        yield FrameResult(clip.name, scored, frame.pixels, file, time, frame.lost)


class Alerts:
    """Collector of abnormal frames, which joins consecutive ones into spans.

    Parameters
    ----------
    threshold : float
        Score above which a frame is abnormal.
    join : bool
        Whether to join frames into spans.
    """

    def __init__(self, threshold: float, *, join: bool = True) -> None:
        self.threshold, self.join = threshold, join
        self.spans: list[Alert] = []

    def add(self, result: FrameResult) -> bool:
        """Add the next frame, and return whether it is abnormal."""
        clip, (number, score, _) = result.clip, result.scored
        abnormal = score > self.threshold
        span = self.spans[-1] if self.spans and self.join else None
        goes_on = span and (span.clip, span.end + 1) == (clip, number) and not result.lost
        if abnormal and span and goes_on:
            worst, highest = max((span.worst, span.score), (number, score), key=lambda x: x[1])
            self.spans[-1] = replace(
                span, end=number, worst=worst, score=highest, end_time=result.time
            )
        elif abnormal:
            time = result.time
            self.spans.append(Alert(clip, number, number, number, score, result.file, time, time))
        return abnormal

    def to_list(self) -> list[dict[str, Any]]:
        """Return the spans, or the defective images, as JSON-compatible dictionaries."""
        if self.join:
            return [asdict(span) for span in self.spans]
        return [
            {"folder": one.clip, "file": one.file, "number": one.start, "score": one.score}
            for one in self.spans
        ]


class WorstFrames:
    """Collector of the frames with the highest scores, at a minimum distance within a clip.

    The most abnormal of every `distance` consecutive frames is a candidate. Three candidates per
    shown frame are enough, since each shown frame excludes at most two others.

    Parameters
    ----------
    shown : int
        Number of frames to show.
    distance : int
        Minimum distance between shown frames of a clip, in frames.
    """

    def __init__(self, shown: int = _SHOWN, distance: int = WORST_DISTANCE) -> None:
        self.shown, self.distance = shown, distance
        self._candidates: dict[tuple[str, int], FrameResult] = {}

    def add(self, result: FrameResult) -> None:
        """Add the next frame."""
        block = result.clip, result.scored.number // self.distance
        best = self._candidates.get(block)
        if best is not None and best.scored.score >= result.scored.score:
            return
        self._candidates[block] = result
        if len(self._candidates) > 3 * self.shown:
            del self._candidates[min(self._candidates, key=self._score)]

    def frames(self) -> list[FrameResult]:
        """Return the frames to show, the most abnormal first."""
        chosen: list[FrameResult] = []
        for block in sorted(self._candidates, key=self._score, reverse=True):
            result = self._candidates[block]
            if all(
                other.clip != result.clip
                or abs(other.scored.number - result.scored.number) >= self.distance
                for other in chosen
            ):
                chosen.append(result)
        return chosen[: self.shown]

    def _score(self, block: tuple[str, int]) -> float:
        return self._candidates[block].scored.score


def overlay(
    pixels: Pixels, heat: ScoreMap, threshold: float, label: str = ""
) -> npt.NDArray[np.uint8]:
    """Overlay a frame with its heat map, and outline abnormal pixels.

    Parameters
    ----------
    pixels : uint8[h, w] or uint8[h, w, 3]
        Frame.
    heat : float[h, w]
        Scores of pixels. The color saturates at twice the threshold.
    threshold : float
        Score above which a pixel is abnormal.
    label : str
        Text in the corner of the picture, on a red background if any pixel is abnormal. Frames with
        fewer than 96 rows have no text.

    Returns
    -------
    uint8[h, w, 3]
    """
    picture = np.empty((*heat.shape, 3), np.uint8)
    rows = max(1, _BLENDED // heat.shape[1])
    for start in range(0, len(heat), rows):
        band = slice(start, start + rows)
        picture[band] = _blend(pixels[band], heat[band], threshold)
    above = heat > threshold
    picture[above & ~binary_erosion(above, border_value=1)] = ALARM_COLOR
    if not label or len(picture) < _MIN_LABELED_HEIGHT:
        return picture
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    box = draw.textbbox((4, 3), label)
    background = ALARM_COLOR if above.any() else (0, 0, 0)
    draw.rectangle((0, 0, box[2] + 4, box[3] + 3), fill=background)
    draw.text((4, 3), label, fill=(255, 255, 255))
    return np.array(image)


def _blend(pixels: Pixels, heat: ScoreMap, threshold: float) -> npt.NDArray[np.floating[Any]]:
    """Return pixels blended with the colors of their scores (float[h, w, 3], rounded)."""
    from matplotlib import colormaps

    level = np.clip(heat / max(2 * threshold, 1e-12), 0, 1)
    colors = colormaps[_COLORMAP](level)[..., :3]
    opacity = _OPACITY * level[..., None]
    below = pixels[..., None] if pixels.ndim == 2 else pixels
    return np.rint((1 - opacity) * below + opacity * 255 * colors)


def write_picture(path: Path, picture: npt.NDArray[np.uint8]) -> None:
    """Write a PNG file atomically."""
    with atomic_path(path) as temporary:
        Image.fromarray(picture).save(temporary, format="png")


class ScoreWriter:
    """Writer of a table with one row per frame.

    CSV is written line by line. Parquet is complete when the writer is closed.

    Parameters
    ----------
    path : Path
        Output file. The extension determines the format.
    """

    def __init__(self, path: Path) -> None:
        self.count = 0
        self._rows: list[ScoreRow] = []
        self._parquet: Any = None
        if path.suffix != ".parquet":
            # Line-buffered, so that other programs can read rows as they are added.
            self._file = path.open("w", buffering=1, newline="", encoding="utf-8")
            self._csv = csv.writer(self._file)
            self._csv.writerow(_COLUMNS)
            return
        fields = [(name, getattr(pyarrow, kind)()) for name, kind in _COLUMNS.items()]
        self._parquet = parquet.ParquetWriter(path, pyarrow.schema(fields))

    def add(self, row: ScoreRow) -> None:
        """Add a frame."""
        self.count += 1
        if self._parquet is None:
            clip, number, file, score, abnormal, time = row
            seconds = "" if time is None else f"{time:.3f}"
            self._csv.writerow((clip, number, file, f"{score:.6g}", int(abnormal), seconds))
            return
        self._rows.append(row)
        if len(self._rows) >= _ROW_GROUP:
            self._write_rows()

    def close(self) -> None:
        """Write the remaining rows and close the file."""
        if self._parquet is None:
            self._file.close()
            return
        self._write_rows()
        self._parquet.close()

    def _write_rows(self) -> None:
        rows, self._rows = self._rows, []
        columns = [list(values) for values in zip(*rows, strict=True)] or [[]] * len(_COLUMNS)
        self._parquet.write_table(pyarrow.table(columns, schema=self._parquet.schema))


class VideoWriter:
    """Encoder of frames into an MP4 file. See `open_video`."""

    def __init__(self, container: Any, rate: float) -> None:
        self._container, self._rate = container, rate
        self._stream: Any = None
        self._av = require("av", extra="video")

    def add(self, picture: npt.NDArray[np.uint8]) -> None:
        """Add a frame (uint8[h, w, 3])."""
        height, width = (side - side % 2 for side in picture.shape[:2])
        if self._stream is None:
            from fractions import Fraction

            rate = Fraction(self._rate).limit_denominator(1000)
            self._stream = self._container.add_stream("libx264", rate=rate)
            self._stream.width, self._stream.height = width, height
            self._stream.pix_fmt = "yuv420p"
        even = np.ascontiguousarray(picture[:height, :width])
        frame = self._av.VideoFrame.from_ndarray(even, format="rgb24")
        self._container.mux(self._stream.encode(frame))

    def finish(self) -> None:
        """Write the frames that the encoder still holds."""
        if self._stream is not None:
            self._container.mux(self._stream.encode())


@contextmanager
def open_video(path: str | os.PathLike[str], rate: float) -> Iterator[VideoWriter]:
    """Open an MP4 file for writing. The file appears only when it is complete.

    Parameters
    ----------
    path : str or path
        File to write.
    rate : float
        Frames per second.

    Raises
    ------
    MissingExtraError
        If PyAV is not installed.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from nearfar.anomaly import open_clips
    >>> with TemporaryDirectory() as folder:
    ...     with open_video(Path(folder) / "clip.mp4", rate=10) as video:
    ...         for _ in range(3):
    ...             video.add(np.zeros((32, 48, 3), np.uint8))
    ...     (clip,) = open_clips(folder)
    ...     len(list(clip))
    3
    """
    av = require("av", extra="video")
    with (
        atomic_path(Path(path)) as temporary,
        av.open(str(temporary), "w", format="mp4") as container,
    ):
        writer = VideoWriter(container, rate)
        yield writer
        writer.finish()
