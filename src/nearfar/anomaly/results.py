"""What scoring leaves for people to look at: scores, alerts, overlays and the worst frames."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy.ndimage import binary_erosion

from nearfar.anomaly.clips import Clip, Frame, Pixels
from nearfar.anomaly.detector import Detector, Scored
from nearfar.anomaly.patches import Map
from nearfar.errors import require
from nearfar.files import atomic_path

#: How many of the worst frames are shown, and how far apart in a clip they are at least.
SHOWN, APART = 12, 10
COLORS = "inferno"
#: How much of the color shows at twice the threshold.
OPACITY = 0.6
#: Around what is above the threshold, and behind the label of such a frame.
ALARM = (255, 60, 40)
#: The least height of a frame that has room for a label.
LABELED = 96
#: Rows of scores that Parquet holds together.
TOGETHER = 4096


class Seen(NamedTuple):
    """A scored frame with its pixels, and the name of its file if it has one of its own."""

    clip: str
    scored: Scored
    pixels: Pixels
    file: str = ""


@dataclass(frozen=True)
class Alert:
    """An abnormal span: its clip, its first and last frame, its worst, and the first one's file."""

    clip: str
    start: int
    end: int
    worst: int
    score: float
    file: str = ""


def watch(detector: Detector, clip: Clip) -> Iterator[Seen]:
    """Score a clip, each frame with its pixels, of which few are in memory at a time.

    Raises
    ------
    NearfarError
        See `Detector.score`.
    """
    detector.check_rate(clip)
    waiting: dict[int, Pixels] = {}

    def frames() -> Iterator[Frame]:
        row = range(0)  # the latest frames, without a gap
        for frame in clip:
            if frame.number != row.stop:
                if len(row) < detector.config.frames:
                    for unscored in row:
                        del waiting[unscored]
                row = range(frame.number, frame.number)
            row = range(row.start, frame.number + 1)
            waiting[frame.number] = frame.pixels
            yield frame

    for scored in detector.score(frames(), clip.name):
        pixels = waiting.pop(scored.number)
        yield Seen(clip.name, scored, pixels, clip.file(scored.number))


class Alerts:
    """Joins consecutive abnormal frames to spans, unless each frame is something of its own."""

    def __init__(self, threshold: float, *, join: bool = True) -> None:
        self.threshold, self.join = threshold, join
        self.spans: list[Alert] = []

    def add(self, seen: Seen) -> bool:
        """Add the next frame; return whether it is abnormal."""
        clip, (number, score, _) = seen.clip, seen.scored
        abnormal = score > self.threshold
        span = self.spans[-1] if self.spans and self.join else None
        if abnormal and span and (span.clip, span.end + 1) == (clip, number):
            worst, most = max((span.worst, span.score), (number, score), key=lambda x: x[1])
            self.spans[-1] = Alert(clip, span.start, number, worst, most, span.file)
        elif abnormal:
            self.spans.append(Alert(clip, number, number, number, score, seen.file))
        return abnormal

    def to_list(self) -> list[dict[str, Any]]:
        """The spans as JSON holds them."""
        return [asdict(span) for span in self.spans]


class Worst:
    """Keeps the frames with the highest scores, each apart from the others of its clip.

    Of every so many consecutive frames, the worst is a candidate; memory holds three times as many
    candidates as are shown, as each that is shown is too near to two others at most.
    """

    def __init__(self, shown: int = SHOWN, apart: int = APART) -> None:
        self.shown, self.apart = shown, apart
        self._candidates: dict[tuple[str, int], Seen] = {}

    def add(self, seen: Seen) -> None:
        """Keep a frame if it may be among the worst."""
        block = seen.clip, seen.scored.number // self.apart
        if block in self._candidates and self._candidates[block].scored.score >= seen.scored.score:
            return
        self._candidates[block] = seen
        if len(self._candidates) > 3 * self.shown:
            del self._candidates[min(self._candidates, key=self._score)]

    def frames(self) -> list[Seen]:
        """The worst first."""
        chosen: list[Seen] = []
        for block in sorted(self._candidates, key=self._score, reverse=True):
            seen = self._candidates[block]
            if all(
                one.clip != seen.clip or abs(one.scored.number - seen.scored.number) >= self.apart
                for one in chosen
            ):
                chosen.append(seen)
        return chosen[: self.shown]

    def _score(self, block: tuple[str, int]) -> float:
        return self._candidates[block].scored.score


def overlay(pixels: Pixels, heat: Map, threshold: float, label: str = "") -> npt.NDArray[np.uint8]:
    """Color a frame by its heat map, with a line around what is above the threshold.

    Parameters
    ----------
    pixels : uint8[h, w]
    heat : float[h, w]
        The color is full at twice the threshold.
    label : str
        Written in the corner of frames that are large enough; on red if anything is above.

    Returns
    -------
    uint8[h, w, 3]
    """
    level = np.clip(heat / max(2 * threshold, 1e-12), 0, 1)
    colors = matplotlib.colormaps[COLORS](level)[..., :3]
    opacity = OPACITY * level[..., None]
    mixed = (1 - opacity) * pixels[..., None] + opacity * 255 * colors
    above = heat > threshold
    mixed[above & ~binary_erosion(above, border_value=1)] = ALARM
    picture = np.rint(mixed).astype(np.uint8)
    if not label or len(picture) < LABELED:
        return picture
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    box = draw.textbbox((4, 3), label)
    background = ALARM if above.any() else (0, 0, 0)
    draw.rectangle((0, 0, box[2] + 4, box[3] + 3), fill=background)
    draw.text((4, 3), label, fill=(255, 255, 255))
    return np.array(image)


def write_picture(path: Path, picture: npt.NDArray[np.uint8]) -> None:
    """Write a PNG, atomically."""
    with atomic_path(path) as temporary:
        Image.fromarray(picture).save(temporary, format="png")


Row = tuple[str, int, str, float, bool]
#: And what they are in Parquet.
COLUMNS = {
    "clip": "string",
    "frame": "int64",
    "file": "string",
    "score": "float64",
    "abnormal": "bool_",
}


class ScoreWriter:
    """Writes a line a frame, as CSV or, by the ending of the path, as Parquet.

    CSV is written line by line; Parquet is complete when it is closed.
    """

    def __init__(self, path: Path) -> None:
        self.count = 0
        self._rows: list[Row] = []
        self._parquet: Any = None
        if path.suffix != ".parquet":
            # Line by line: what was added is there for others to read.
            self._file = path.open("w", buffering=1, newline="", encoding="utf-8")
            self._csv = csv.writer(self._file)
            self._csv.writerow(COLUMNS)
            return
        self._arrow = require("pyarrow", extra="parquet")
        parquet = require("pyarrow.parquet", extra="parquet")
        fields = [(name, getattr(self._arrow, kind)()) for name, kind in COLUMNS.items()]
        self._parquet = parquet.ParquetWriter(path, self._arrow.schema(fields))

    def add(self, row: Row) -> None:
        """Add a frame."""
        self.count += 1
        if self._parquet is None:
            clip, number, file, score, abnormal = row
            self._csv.writerow((clip, number, file, f"{score:.6g}", int(abnormal)))
            return
        self._rows.append(row)
        if len(self._rows) >= TOGETHER:
            self._write_rows()

    def close(self) -> None:
        """Write what is left."""
        if self._parquet is None:
            self._file.close()
            return
        self._write_rows()
        self._parquet.close()

    def _write_rows(self) -> None:
        rows, self._rows = self._rows, []
        columns = [list(values) for values in zip(*rows, strict=True)] or [[]] * len(COLUMNS)
        self._parquet.write_table(self._arrow.table(columns, schema=self._parquet.schema))


class VideoWriter:
    """Frames in, an MP4 file out."""

    def __init__(self, container: Any, rate: float) -> None:
        self._container, self._rate = container, rate
        self._stream: Any = None
        self._av = require("av", extra="video")

    def add(self, picture: npt.NDArray[np.uint8]) -> None:
        """Add a frame, uint8[h, w, 3]."""
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
        """Write what the encoder still holds."""
        if self._stream is not None:
            self._container.mux(self._stream.encode())


@contextmanager
def open_video(path: Path, rate: float) -> Iterator[VideoWriter]:
    """Open a video to write, which is there when it is complete."""
    av = require("av", extra="video")
    with (
        atomic_path(path) as temporary,
        av.open(str(temporary), "w", format="mp4") as container,
    ):
        writer = VideoWriter(container, rate)
        yield writer
        writer.finish()
