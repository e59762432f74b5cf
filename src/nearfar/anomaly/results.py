"""What scoring leaves for people to look at: scores, alerts, overlays and the worst frames."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import numpy.typing as npt
from PIL import Image

from nearfar.anomaly.clips import Clip, Frame, Pixels
from nearfar.anomaly.detector import Detector, Scored
from nearfar.anomaly.patches import Map
from nearfar.errors import require
from nearfar.files import atomic_path

#: How many of the worst frames are written, and how far apart in a clip they are at least.
WORST, APART = 12, 10
COLORS = "inferno"
#: How much of the color shows at twice the threshold.
OPACITY = 0.6


class Seen(NamedTuple):
    """A scored frame with its pixels."""

    clip: str
    scored: Scored
    pixels: Pixels


@dataclass(frozen=True)
class Alert:
    """An abnormal span: its clip, its first and last frame, and its worst."""

    clip: str
    start: int
    end: int
    worst: int
    score: float


def watch(detector: Detector, clip: Clip) -> Iterator[Seen]:
    """Score a clip, each frame with its pixels, of which few are in memory at a time."""
    waiting: dict[int, Pixels] = {}

    def frames() -> Iterator[Frame]:
        for frame in clip:
            waiting[frame.number] = frame.pixels
            yield frame

    for scored in detector.score(frames(), clip.name):
        yield Seen(clip.name, scored, waiting.pop(scored.number))


class Alerts:
    """Joins consecutive abnormal frames to spans."""

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.spans: list[Alert] = []
        self._last: tuple[str, bool] = ("", False)

    def add(self, clip: str, number: int, score: float) -> bool:
        """Add the next frame; return whether it is abnormal."""
        abnormal = score > self.threshold
        if abnormal and self._last == (clip, True):
            span = self.spans[-1]
            worst, most = max((span.worst, span.score), (number, score), key=lambda x: x[1])
            self.spans[-1] = Alert(clip, span.start, number, worst, most)
        elif abnormal:
            self.spans.append(Alert(clip, number, number, number, score))
        self._last = clip, abnormal
        return abnormal

    def to_list(self) -> list[dict[str, Any]]:
        """The spans as JSON holds them."""
        return [asdict(span) for span in self.spans]


class Worst:
    """Keeps the frames with the highest scores, each apart from the others of its clip."""

    def __init__(self, most: int = WORST) -> None:
        self.most = most
        self.frames: list[Seen] = []

    def add(self, seen: Seen) -> None:
        """Keep a frame if it is among the worst so far."""
        score = seen.scored.score
        near = [
            other
            for other in self.frames
            if other.clip == seen.clip and abs(other.scored.number - seen.scored.number) < APART
        ]
        if any(other.scored.score >= score for other in near):
            return
        apart = [other for other in self.frames if not any(other is one for one in near)]
        ranked = sorted([*apart, seen], key=lambda one: -one.scored.score)
        self.frames = ranked[: self.most]


def overlay(pixels: Pixels, heat: Map, threshold: float) -> npt.NDArray[np.uint8]:
    """Color a frame, uint8[h, w], by its heat map, float[h, w]: uint8[h, w, 3]."""
    level = np.clip(heat / max(2 * threshold, 1e-12), 0, 1)
    colors = matplotlib.colormaps[COLORS](level)[..., :3]
    opacity = OPACITY * level[..., None]
    mixed = (1 - opacity) * pixels[..., None] + opacity * 255 * colors
    return np.rint(mixed).astype(np.uint8)


def write_picture(path: Path, picture: npt.NDArray[np.uint8]) -> None:
    """Write a PNG, atomically."""
    with atomic_path(path) as temporary:
        Image.fromarray(picture).save(temporary, format="png")


def write_scores(path: Path, rows: Sequence[tuple[str, int, float, bool]]) -> None:
    """Write a line a frame, as CSV or, by its ending, as Parquet."""
    columns = ("clip", "frame", "score", "abnormal")
    with atomic_path(path) as temporary:
        if path.suffix == ".parquet":
            arrow = require("pyarrow", extra="parquet")
            parquet = require("pyarrow.parquet", extra="parquet")
            values = zip(*rows, strict=True) if rows else ([],) * len(columns)
            named = {name: list(value) for name, value in zip(columns, values, strict=True)}
            parquet.write_table(arrow.table(named), temporary)
            return
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows((c, n, f"{s:.6g}", int(a)) for c, n, s, a in rows)


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
