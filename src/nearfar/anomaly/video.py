"""Clips of video files and animated images: what they say about themselves is obeyed."""

from __future__ import annotations

import functools
import heapq
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageSequence

from nearfar.anomaly.clips import Frame, Pixels, StoredClip, scale
from nearfar.data import Size, UnreadableError, open_image_file
from nearfar.errors import NearfarError, reason, require

#: Formats that hold video by themselves. Playlists, which name other files and addresses, and
#: formats that take any text for a picture are not among them.
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpegtsraw,mpeg,mpegvideo,asf,asf_o,flv,"
    "live_flv,ogg,mxf,mxf_opatom,gxf,nut,rm,ivf,nsv,wtv,dv,h264,hevc,vvc,av1,obu,m4v,mjpeg,"
    "mjpeg_2000,vc1,vc1test,cavsvideo,yuv4mpegpipe,dhav,ifv,kux,xmv,roq,smk,bink,swf,avs,apng,gif"
)
_OPTIONS = {"format_whitelist": _FORMATS, "protocol_whitelist": "file"}
#: Image formats that may be animated.
_ANIMATIONS = {"AVIF", "GIF", "PNG", "WEBP"}
#: Formats whose header states how long the video is.
_STATING_DURATION = {"matroska,webm", "asf", "flv", "ogg"}
#: Transfer functions of HDR video by their number in ITU-T H.273, Table 3.
_HDR = {16: "PQ", 18: "HLG"}
#: Number of packets that the rate is estimated from.
_RATE_PACKETS = 200
#: Intervals between frames, in usual intervals, from which on frames are lost or come too fast.
_LONG, _SHORT = 1.6, 0.5
#: Share of short intervals from which on a note says so.
_MANY_SHORT = 0.1
#: Largest aspect of a pixel, or one divided by it.
_MAX_ASPECT = 8
#: Angles in the display matrix: cosines of right angles, with some tolerance.
_TOLERANCE = 0.01
_ONE = 2.0**16


class VideoClip(StoredClip):
    """Video file; see `FolderClip` for the size.

    Frames are turned and flipped as the video says, and have square pixels. An empty or invalid
    file raises when its frames are read.
    """

    def __init__(self, path: Path, size: Size | None = None) -> None:
        super().__init__(path, size)
        self._av = require("av", extra="video")
        with suppress(NearfarError, self._av.FFmpegError), self._open() as (container, stream):
            self.nominal_total = _stated_frames(stream)
            self.rate = _average_rate(stream)
            self.rate = _rate(self._times(container, stream)) or self.rate

    def _times(self, container: Any, stream: Any) -> tuple[list[float], float | None]:
        packets = _until_restart(islice(_shown(container.demux(stream)), _RATE_PACKETS))
        stamps = sorted({packet.pts for packet in packets if packet.pts is not None})
        return [float(stamp * stream.time_base) for stamp in stamps], self.rate

    def _read(self) -> Iterator[Frame | UnreadableError]:
        with self._open() as (container, stream):
            others = len(_streams(container)) - 1
            if others:
                self.notes.append(
                    f"{self.name!r} holds {others + 1} videos: only stream {stream.index} is used"
                )
            hdr = _HDR.get(stream.codec_context.color_trc)
            if hdr:
                self.notes.append(
                    f"{self.name!r} is HDR video ({hdr}): its levels are used as coded, so score "
                    "it only with a detector of such video"
                )
            yield from _Decoder(self, container, stream).frames()

    @contextmanager
    def _open(self) -> Iterator[tuple[Any, Any]]:
        try:
            if not self.path.is_file() and self.path.exists():
                raise NearfarError(f"{str(self.path)!r} is no regular file: expected a video")
            if self.path.stat().st_size == 0:
                raise NearfarError(
                    f"{str(self.path)!r} is an empty file, 0 bytes: expected a video"
                )
            container = self._av.open(
                f"file:{self.path}", options=dict(_OPTIONS), metadata_errors="replace"
            )
        except (self._av.FFmpegError, OSError, ValueError) as error:
            raise NearfarError(
                f"{str(self.path)!r} cannot be read as a video ({_reason(error)})"
            ) from error
        with container:
            streams = _streams(container)
            if not streams:
                raise NearfarError(f"{str(self.path)!r} holds no video")
            best = container.streams.best("video")
            stream = best if best in streams else streams[0]
            self._check(stream)
            yield container, stream

    def _check(self, stream: Any) -> None:
        if stream.codec_context is None:
            raise NearfarError(f"{str(self.path)!r} is encoded in a way that PyAV cannot decode")
        most = Image.MAX_IMAGE_PIXELS or float("inf")
        aspect = _aspect(stream)
        if not 1 / _MAX_ASPECT <= aspect <= _MAX_ASPECT:
            raise NearfarError(
                f"{str(self.path)!r} states pixels {float(aspect):g} times as wide as high: "
                f"expected at most {_MAX_ASPECT} times"
            )
        if stream.width * aspect * stream.height > most:
            raise NearfarError(
                f"{str(self.path)!r} has frames of {stream.width}x{stream.height} pixels: "
                f"expected at most {Image.MAX_IMAGE_PIXELS} in all"
            )


class _Decoder:
    """Decodes a stream packet by packet: a damaged packet costs only its own frames.

    Frames are counted as the file holds them, those that cannot be decoded included. A frame is
    missing where the time stamps leave room for it. Where they start again, as in files that were
    put together, the times of frames go on.
    """

    def __init__(self, clip: VideoClip, container: Any, stream: Any) -> None:
        self.clip, self.container, self.stream = clip, container, stream
        self._av = require("av", extra="video")
        self._aspect = _aspect(stream)
        start = container.start_time
        self._start = None if start is None else start / self._av.time_base
        self._period = 1 / clip.rate if clip.rate else None
        #: Whether time stamps give the order of decoding, instead of that of frames.
        self._unordered = container.format.name == "avi" and stream.codec_context.has_b_frames
        #: Time stamps of packets whose frames have not come yet.
        self._expected: list[float] = []
        self._errors: list[UnreadableError] = []
        self._last: float | None = None
        self._since = 0.0
        self._first_restart = ""
        self._intervals = self._short = self._longest = 0.0
        self._lost, self._first_lost = 0, ""
        self._interlaced = False
        # One for all frames: making another takes longer than using it. One thread, because
        # several write different pixels from run to run in some formats (libswscale 9.5).
        reformatter = require("av.video.reformatter", extra="video").VideoReformatter()
        self._reformat = functools.partial(reformatter.reformat, threads=1)

    def frames(self) -> Iterator[Frame | UnreadableError]:
        """Yield frames, and the reasons for those that are unreadable."""
        for frame in self._decoded():
            yield from self._placed(frame)
        yield from self._errors
        self._report()

    def _decoded(self) -> Iterator[Any]:
        packets = self.container.demux(self.stream)
        while True:
            try:
                packet = next(packets, None)
            except self._av.FFmpegError as error:
                self._errors.append(UnreadableError(_reason(error)))
                return
            if packet is None:
                return
            stamp = packet.dts if self._unordered else packet.pts
            if stamp is not None and not packet.is_discard:
                heapq.heappush(self._expected, float(stamp * self.stream.time_base))
            try:
                decoded = packet.decode()
            except self._av.FFmpegError as error:
                self._errors.append(UnreadableError(_reason(error)))
                if self._unordered and self._expected:
                    heapq.heappop(self._expected)
                continue
            yield from decoded

    def _placed(self, frame: Any) -> Iterator[Frame | UnreadableError]:
        """Yield a frame after the unreadable ones before it."""
        time = self._time(frame)
        restarted = self._restart(time)
        gap = self._gap(time)
        skipped = self._skip_expected(time)
        damaged = max(len(self._errors), min(skipped, gap))
        fill = [UnreadableError("damaged")] * (damaged - len(self._errors))
        yield from (*self._errors, *fill)
        self._errors.clear()
        lost = max(restarted, gap - damaged)
        if time is not None and self._start is None:
            self._start = time
        since = None if time is None or self._start is None else time - self._start
        self._since = self._since if since is None else since
        if lost and not restarted:
            self._lost += lost
            self._first_lost = self._first_lost or f"{since:.2f} s"
        if frame.is_corrupt:
            yield UnreadableError("damaged")
            return
        self._interlaced |= bool(frame.interlaced_frame)
        yield Frame(0, self._pixels(frame), since, lost)

    def _time(self, frame: Any) -> float | None:
        """Return the time stamp of a frame, in seconds."""
        if self._unordered:
            return heapq.heappop(self._expected) if self._expected else None
        return None if frame.pts is None else float(frame.pts * frame.time_base)

    def _restart(self, time: float | None) -> bool:
        """Return whether time stamps jump back, and let the times of frames go on then."""
        if time is None or self._last is None or time >= self._last:
            return False
        self._start, self._last = time - self._since - (self._period or 0), None
        self._first_restart = self._first_restart or f"{time - self._start:.2f} s"
        return True

    def _gap(self, time: float | None) -> int:
        """Return how many frames would have room since the last one."""
        last, self._last = self._last, time
        if time is None or last is None or not self._period:
            return 0
        interval = (time - last) / self._period
        self._intervals += 1
        self._short += interval < _SHORT
        self._longest = max(self._longest, interval)
        return round(interval) - 1 if interval >= _LONG else 0

    def _skip_expected(self, time: float | None) -> int:
        """Drop the time stamps up to that of a frame, and return how many had no frame."""
        skipped = 0
        while time is not None and self._expected and self._expected[0] <= time:
            skipped += heapq.heappop(self._expected) < time
        return skipped

    def _gray(self, frame: Any) -> Pixels:
        """Return gray levels, uint8[h, w]; transparent pixels are put on white."""
        if any(component.is_alpha for component in frame.format.components):
            colors = self._reformat(frame, format="rgba").to_ndarray()
            return _gray_of_image(Image.fromarray(colors))
        gray: Pixels = self._reformat(frame, format="gray").to_ndarray()
        return gray

    def _pixels(self, frame: Any) -> Pixels:
        pixels = self._gray(frame)
        matrix = next((s for s in frame.side_data if s.type.name == "DISPLAYMATRIX"), None)
        size = self.clip.size
        if size is None and self._aspect != 1:
            height, width = pixels.shape
            pixels = scale(pixels, (height, max(1, round(width * self._aspect))))
        if matrix is not None:
            pixels = _turn(pixels, bytes(matrix), self.clip.name)
        return pixels if size is None else scale(pixels, size)

    def _report(self) -> None:
        name, notes = self.clip.name, self.clip.notes
        if self._interlaced:
            notes.append(f"{name!r} is interlaced: both fields are used as one frame")
        if self._lost:
            notes.append(
                f"{name!r}: {self._lost} frames are missing by the time stamps, the first before "
                f"{self._first_lost}; motion is not followed across such gaps"
            )
        if self._first_restart:
            notes.append(
                f"{name!r}: time stamps jump back, first at {self._first_restart}; times go on "
                "there, and motion is not followed across"
            )
        if self._short > _MANY_SHORT * max(self._intervals, 1):
            notes.append(
                f"{name!r}: frames come at different rates, some much faster than "
                f"{self.clip.rate:.4g} per second; motion looks slower there"
            )
        stated = _stated_end(self.container, self.stream)
        if self.clip.nominal_total or stated is None or self._last is None:
            return
        if self._start is None or self._period is None:
            return
        end = self._last - self._start + self._period * max(1.0, self._longest)
        if stated > end + 0.5 * self._period:
            self.clip.skipped.append(f"{name!r}: ends at {end:.2f} of {stated:.2f} seconds")


class AnimationClip(StoredClip):
    """Animated GIF, WebP, PNG or AVIF; see `FolderClip` for the size."""

    def __init__(self, path: Path, size: Size | None = None) -> None:
        super().__init__(path, size)
        with suppress(UnreadableError), open_image_file(path) as image:
            self.nominal_total = getattr(image, "n_frames", 1)
            image.seek(1)
            image.load()
            duration = _seconds(image)
            self.rate = 1 / duration if duration else None

    def _read(self) -> Iterator[Frame | UnreadableError]:
        try:
            with open_image_file(self.path) as image:
                time = 0.0
                for number, each in enumerate(ImageSequence.Iterator(image)):
                    each.load()
                    pixels = _gray_of_image(each)
                    if self.size is not None:
                        pixels = scale(pixels, self.size)
                    yield Frame(number, pixels, time if self.rate else None)
                    time += _seconds(each)
        except UnreadableError as error:
            yield error


def is_animation(path: Path) -> bool:
    """Return whether a file is an animated image."""
    try:
        with open_image_file(path) as image:
            return image.format in _ANIMATIONS and bool(getattr(image, "is_animated", False))
    except UnreadableError:
        return False


def is_video(path: Path) -> bool:
    """Return whether a file whose name does not tell holds video."""
    try:
        with VideoClip(path)._open() as (_, stream):
            return bool(stream.width and stream.height)
    except NearfarError:
        return False


def _reason(error: BaseException) -> str:
    """Return the message of PyAV without number and function."""
    return getattr(error, "strerror", None) or reason(error)


def _seconds(image: Image.Image) -> float:
    """Return how long a frame of an animation is shown; 0 if that is not stated."""
    return max(0.0, float(image.info.get("duration", 0) or 0)) / 1000


def _streams(container: Any) -> list[Any]:
    """Return the video streams without cover pictures."""
    return [s for s in container.streams.video if not s.disposition & s.disposition.attached_pic]


def _shown(packets: Iterable[Any]) -> Iterator[Any]:
    return (packet for packet in packets if not packet.is_discard)


def _until_restart(packets: Iterable[Any]) -> Iterator[Any]:
    """Yield packets up to where their time stamps jump back."""
    last = None
    for packet in packets:
        if packet.dts is not None:
            if last is not None and packet.dts < last:
                return
            last = packet.dts
        yield packet


def _stated_frames(stream: Any) -> int:
    """Return the stated number of frames, without those that an edit list hides; 0 if unknown."""
    hidden = sum(entry.is_discard for entry in stream.index_entries)
    if "mp4" in stream.container.format.name.split(",") and stream.frames:
        return len(stream.index_entries) - hidden
    return max(0, stream.frames - hidden)


def _stated_end(container: Any, stream: Any) -> float | None:
    """Return the stated length of a video in seconds, if its format has one."""
    if container.format.name not in _STATING_DURATION:
        return None
    tag = re.fullmatch(r"(\d+):(\d+):([\d.]+)", stream.metadata.get("DURATION", "").strip("\0 "))
    if tag:
        return 3600 * int(tag[1]) + 60 * int(tag[2]) + float(tag[3])
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    if len(container.streams) == 1 and container.duration is not None:
        return float(container.duration / require("av", extra="video").time_base)
    return None


def _average_rate(stream: Any) -> float | None:
    return float(stream.average_rate) if stream.average_rate else None


def _rate(found: tuple[list[float], float | None]) -> float | None:
    """Return frames per second: as stated, unless time stamps with gaps show another rate."""
    times, stated = found
    steps = [after - before for before, after in pairwise(times) if after > before]
    if not steps:
        return None
    measured = 1 / float(np.median(steps))
    # Two packets per frame are the fields of interlaced video.
    if stated and (abs(measured / stated - 1) < 0.05 or abs(measured / stated / 2 - 1) < 0.05):
        return stated
    return measured


def _aspect(stream: Any) -> Fraction:
    """Return the width of a pixel divided by its height."""
    return Fraction(stream.sample_aspect_ratio or 1) or Fraction(1)


def _gray_of_image(image: Image.Image) -> Pixels:
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if image.mode.startswith("I") or image.mode == "F":
        raise UnreadableError(f"frames of mode {image.mode}: expected 8 bits")
    return np.array(image.convert("L"))


def _turn(pixels: Pixels, matrix: bytes, name: str) -> Pixels:
    """Turn and flip a frame by its display matrix.

    Raises
    ------
    NearfarError
        If it is turned by anything but right angles.
    """
    values = np.frombuffer(matrix, np.int32)[:9].astype(float)
    a, b, c, d = values[[0, 1, 3, 4]] / _ONE
    small = _TOLERANCE * max(abs(a), abs(b), abs(c), abs(d))
    # A pixel at column x and row y is shown at column a·x + c·y and row b·x + d·y.
    if max(abs(b), abs(c)) <= small < min(abs(a), abs(d)):
        return np.ascontiguousarray(pixels[:: _sign(d), :: _sign(a)])
    if max(abs(a), abs(d)) <= small < min(abs(b), abs(c)):
        return np.ascontiguousarray(pixels.T[:: _sign(b), :: _sign(c)])
    raise NearfarError(
        f"{name!r} is to be turned by an angle that is no multiple of 90 degrees: expected an "
        "upright video"
    )


def _sign(value: float) -> int:
    return 1 if value > 0 else -1
