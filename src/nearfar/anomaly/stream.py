"""Streams: live alerts from a camera or a pipe."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from nearfar.anomaly.clips import Clip, Frame
from nearfar.anomaly.detector import Detector, ScoredFrame
from nearfar.anomaly.patches import ShortClipError
from nearfar.anomaly.video import Decoder, measured_rate, stated_rate
from nearfar.data import (
    VIDEO_FORMATS,
    Size,
    UnreadableError,
    choose_stream,
    video_reason,
)
from nearfar.errors import NearfarError, printable, require

#: Name of standard input as a source.
STDIN = "-"
#: Protocols allowed for addresses of each scheme, and for what they refer to.
_PROTOCOLS = {
    "rtsp": "rtsp,rtp,udp,tcp",
    "rtsps": "rtsp,rtsps,rtp,srtp,tls,udp,tcp",
    "rtmp": "rtmp,tcp",
    "http": "http,tcp",
    "https": "https,tls,tcp",
    "srt": "srt,udp",
    "tcp": "tcp",
    "udp": "udp",
}
#: Formats allowed for addresses, in addition to those of files.
_ADDRESS_FORMATS = "rtsp,sdp,rtp,mpjpeg"
#: Seconds without data after which a source counts as lost.
_TIMEOUT = 10.0
_ENDED = "it ended"
#: Seconds before retrying after the source was lost: first and longest.
_FIRST_WAIT, _MAX_WAIT = 1.0, 60.0
#: Number of frames from which the rate is measured.
_RATE_FRAMES = 25
#: Seconds without an abnormal frame after which the next one raises a new alert.
_QUIET = 2.0
#: Lag of scores behind a camera, in seconds, above which a note is issued.
_MAX_LAG = 10.0
#: Consecutive damaged packets after which a source counts as lost.
_MAX_DAMAGED = 250


@dataclass(frozen=True, kw_only=True)
class StreamAlert:
    """First abnormal frame of a stream after at least two seconds without abnormal frames.

    Attributes
    ----------
    clock : str
        Date and time of the alert (UTC, ISO 8601).
    source : str
        Name of the stream, without a password.
    frame : int
        Number of the frame, counted from the start of the stream.
    time : float
        Seconds from the start of the stream to the frame.
    score : float
        Score of the frame.
    threshold : float
        Score above which a frame is abnormal.
    box : (left, top, width, height)
        Position and size of the patch with the highest score, in pixels.

    Examples
    --------
    >>> alert = StreamAlert(
    ...     clock="2026-01-01T12:00:00+00:00", source="camera", frame=50, time=2.0, score=3.1,
    ...     threshold=1.9, box=(0, 0, 48, 48),
    ... )
    >>> alert.time
    2.0
    """

    clock: str
    source: str
    frame: int
    time: float
    score: float
    threshold: float
    box: tuple[int, int, int, int]


def follow(
    detector: Detector, source: str, *, notify: Callable[[str], object] = lambda line: None
) -> Iterator[StreamAlert]:
    """Score a stream as it arrives, and yield its alerts.

    Memory use does not depend on the length of the stream. If the connection to a camera is lost,
    it is reopened after 1, 2, 4, … up to 60 seconds. Windows do not span the gap. Files, pipes and
    standard input are read to their end.

    Parameters
    ----------
    detector : Detector
        Fitted detector for video.
    source : str
        An address (rtsp, rtsps, rtmp, http, https, srt, tcp, udp), a device such as
        ``/dev/video0``, a file, a named pipe, or "-" for video on standard input.
    notify : callable
        Function that is called with a one-line message when a camera is lost or scoring falls
        behind.

    Yields
    ------
    StreamAlert

    Raises
    ------
    NearfarError
        If the detector is for photographs, if the stream differs from the normal clips in size or
        rate, or if a source other than a camera cannot be opened.

    Examples
    --------
    >>> import numpy as np
    >>> from tempfile import TemporaryDirectory
    >>> from nearfar.anomaly import DetectorConfig, Grid, open_video
    >>> class Brightness:
    ...     def score(self, window, grid):
    ...         return grid.means(window[-1].astype(np.float32))
    >>> config = DetectorConfig.paper(patch=8, stride=8)
    >>> detector = Detector(config, Grid((32, 48), 8, 8), [Brightness()], threshold=100)
    >>> with TemporaryDirectory() as folder:
    ...     path = f"{folder}/clip.mp4"
    ...     with open_video(Path(path), rate=10) as video:
    ...         for number in range(30):
    ...             video.add(np.full((32, 48, 3), 200 if number >= 20 else 20, np.uint8))
    ...     [alert.frame for alert in follow(detector, path)]
    [20]
    """
    if detector.config.photographs or detector.config.independent_frames:
        raise NearfarError(
            "the detector is for photographs: expected one for video, from fit --setting video"
        )
    stream = Stream(source, detector.config.size)
    last_abnormal, wait = -_QUIET, 0.0
    while True:
        before = stream.count
        try:
            for scored, at in _score(detector, stream, notify):
                if scored.score <= detector.threshold:
                    continue
                if at - last_abnormal >= _QUIET:
                    yield _alert(detector, stream.name, scored, at)
                last_abnormal = at
            why = _ENDED
        except UnreadableError as error:
            if not stream.live:
                raise NearfarError(
                    f"{stream.name!r} cannot be read as a video ({error})"
                ) from error
            why = str(error)
        except ShortClipError:
            if not stream.live:
                raise
            why = _ENDED
        if not stream.live:
            if why != _ENDED:
                notify(f"{stream.name!r} ends early ({why})")
            return
        wait = max(_FIRST_WAIT, min(2 * wait, _MAX_WAIT)) if stream.count == before else _FIRST_WAIT
        notify(f"{stream.name!r} is lost ({why}): next try in {wait:g} s")
        time.sleep(wait)


def _score(
    detector: Detector, stream: Stream, notify: Callable[[str], object]
) -> Iterator[tuple[ScoredFrame, float]]:
    """Yield the scored frames of one connection, with their times."""
    times: deque[tuple[int, float]] = deque()

    def frames() -> Iterator[Frame]:
        first = late = True
        for frame in stream:
            if first:
                detector.check_rate(stream)
                detector.check_size((frame.pixels.shape[0], frame.pixels.shape[1]), stream.name)
            at = frame.time or 0.0
            if late and stream.live and stream.clock() - at > _MAX_LAG:
                notify(f"{stream.name!r} has more frames per second than can be scored")
                late = False
            first = False
            times.append((frame.number, at))
            yield frame

    for scored in detector.score(frames(), stream.name):
        while times[0][0] < scored.number:
            times.popleft()
        yield scored, times[0][1]


def _alert(detector: Detector, name: str, scored: ScoredFrame, at: float) -> StreamAlert:
    grid = detector.grid
    row, column = divmod(int(scored.heat.argmax()), grid.shape[1])
    down, across = (own / cut for own, cut in zip(detector.size, grid.size, strict=True))
    corner = round(grid.lefts[column] * across), round(grid.tops[row] * down)
    return StreamAlert(
        clock=datetime.now(UTC).isoformat(timespec="milliseconds"),
        source=name,
        frame=scored.number,
        time=round(at, 3),
        score=scored.score,
        threshold=detector.threshold,
        box=(*corner, round(grid.patch * across), round(grid.patch * down)),
    )


class Stream(Clip):
    """Frames of a source that cannot be read again from the start.

    Each iteration opens the source again. Numbers and times continue from one connection to the
    next.

    Parameters
    ----------
    source : str
        See `follow`.
    size : (height, width), optional
        Size to which frames are resized.

    Attributes
    ----------
    live : bool
        Whether the source is a camera, which is reopened if the connection is lost.
    count : int
        Number of frames so far.
    """

    def __init__(self, source: str, size: Size | None = None) -> None:
        super().__init__(size)
        self._av = require("av", extra="video")
        self.source, self.count = source, 0
        self.scheme = urlsplit(source).scheme if "://" in source else ""
        if self.scheme and self.scheme not in _PROTOCOLS:
            raise NearfarError(
                f"{self.scheme}:// is unknown: expected {', '.join(_PROTOCOLS)}, a device or a file"
            )
        self.device = not self.scheme and Path(source).is_char_device()
        self.live = bool(self.scheme or self.device)
        self.name = _without_password(source)
        self._start, self._last = time.monotonic(), 0.0

    def clock(self) -> float:
        """Return the seconds since the first frame."""
        return time.monotonic() - self._start

    def __iter__(self) -> Iterator[Frame]:
        """See `Clip`. If the connection is lost, an `UnreadableError` states the reason."""
        self.notes.clear()
        self.skipped.clear()
        with self._open() as container:
            stream = choose_stream(container, self.name)
            frames = self._frames(Decoder(self, container, stream, max_damaged=_MAX_DAMAGED))
            if self.rate is None:
                first = list(islice(frames, _RATE_FRAMES))
                stated = stated_rate(stream)
                times = [frame.time for frame in first if frame.time is not None]
                self.rate = measured_rate((times, stated)) or stated
                frames = chain(first, frames)
            if not self.count:
                self._start = time.monotonic()
            # A source may be faster than the clock.
            start = max(self.clock(), self._last) if self.count else 0.0
            for frame in frames:
                since = frame.time
                if since is None:
                    since = self.count / self.rate if self.rate else self.clock()
                self.count += 1
                self._last = start + since
                yield frame._replace(number=self.count - 1, time=self._last)

    def _frames(self, decoder: Decoder) -> Iterator[Frame]:
        error, damaged = None, 0
        for read in decoder.frames():
            if isinstance(read, Frame):
                yield read._replace(lost=read.lost + damaged)
                damaged = 0
            else:
                error, damaged = read, damaged + 1
        if error is not None and damaged:
            raise error

    @contextmanager
    def _open(self) -> Iterator[Any]:
        """Open the source."""
        with ExitStack() as opened:
            try:
                if self.scheme:
                    options = {
                        "format_whitelist": f"{VIDEO_FORMATS},{_ADDRESS_FORMATS}",
                        "protocol_whitelist": _PROTOCOLS[self.scheme],
                    }
                    if self.scheme.startswith("rtsp"):
                        options["rtsp_flags"] = "prefer_tcp"
                    container = self._av.open(self.source, options=options, timeout=_TIMEOUT)
                elif self.device:
                    container = self._av.open(self.source, format="v4l2", timeout=_TIMEOUT)
                else:
                    # Through a file object, whose reads can be interrupted.
                    file: Any = sys.stdin.buffer
                    if self.source != STDIN:
                        file = opened.enter_context(Path(self.source).open("rb"))
                    container = self._av.open(file, options={"format_whitelist": VIDEO_FORMATS})
            except (self._av.FFmpegError, OSError, ValueError) as error:
                raise UnreadableError(video_reason(error)) from error
            yield opened.enter_context(container)


def _without_password(source: str) -> str:
    """Return the name of a source, without credentials and query parameters."""
    if "://" not in source:
        return "standard input" if source == STDIN else printable(source)
    parts = urlsplit(source)
    return printable(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}")
