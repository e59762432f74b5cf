"""Clips read from video files and animated images, decoded according to their metadata."""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageSequence

from nearfar.anomaly.clips import Clip, Frame, Pixels, StoredClip, scale
from nearfar.data import (
    Size,
    UnreadableError,
    frame_reformatter,
    hdr_transfer,
    open_image_file,
    open_video,
    pixel_aspect,
    rotate_frame,
    shown_packets,
    video_reason,
    video_streams,
)
from nearfar.errors import NearfarError, require

#: Image formats that may be animated.
_ANIMATIONS = {"AVIF", "GIF", "PNG", "WEBP"}
#: Formats whose header states the duration of the video.
_STATING_DURATION = {"matroska,webm", "asf", "flv", "ogg"}
#: Number of packets from which the frame rate is estimated.
_RATE_PACKETS = 200
#: Intervals between frames, relative to the median, beyond which frames count as lost or too fast.
_LONG, _SHORT = 1.6, 0.5
#: Fraction of short intervals above which a note is issued.
_MANY_SHORT = 0.1


class VideoClip(StoredClip):
    """Clip read from a video file. For `size`, see `FolderClip`.

    Frames are rotated and flipped as the video specifies, and have square pixels. For an empty or
    invalid file, an error is raised when frames are read.
    """

    def __init__(self, path: Path, size: Size | None = None) -> None:
        super().__init__(path, size)
        self._av = require("av", extra="video")
        with suppress(NearfarError, self._av.FFmpegError), open_video(path) as (container, stream):
            self.nominal_total = _stated_frames(stream)
            self.rate = stated_rate(stream)
            self.rate = measured_rate(self._times(container, stream)) or self.rate

    def _times(self, container: Any, stream: Any) -> tuple[list[float], float | None]:
        packets = _until_restart(islice(shown_packets(container.demux(stream)), _RATE_PACKETS))
        stamps = sorted({packet.pts for packet in packets if packet.pts is not None})
        return [float(stamp * stream.time_base) for stamp in stamps], self.rate

    def _read(self) -> Iterator[Frame | UnreadableError]:
        with open_video(self.path) as (container, stream):
            others = len(video_streams(container)) - 1
            if others:
                self.notes.append(
                    f"{self.name!r} holds {others + 1} videos: only stream {stream.index} is used"
                )
            hdr = hdr_transfer(stream)
            if hdr:
                self.notes.append(
                    f"{self.name!r} is HDR video ({hdr}): its levels are used as coded, so score "
                    "it only with a detector of such video"
                )
            yield from Decoder(self, container, stream).frames()


class Decoder:
    """Decoder of a video stream. If a packet is damaged, only the frames in it are lost.

    Frame numbers include frames that cannot be decoded. Gaps in the timestamps count as missing
    frames. If timestamps restart, as in concatenated files, frame times continue.
    """

    def __init__(
        self, clip: Clip, container: Any, stream: Any, *, max_damaged: int | None = None
    ) -> None:
        self.clip, self.container, self.stream = clip, container, stream
        self.max_damaged = max_damaged
        self._av = require("av", extra="video")
        self._aspect = pixel_aspect(stream)
        start = container.start_time
        self._start = None if start is None else start / self._av.time_base
        #: Whether timestamps give the decoding order instead of the frame order.
        self._unordered = container.format.name == "avi" and stream.codec_context.has_b_frames
        #: Timestamps of packets whose frames have not been decoded yet.
        self._expected: list[float] = []
        self._errors: list[UnreadableError] = []
        self._last: float | None = None
        self._since = 0.0
        self._first_restart = ""
        self._intervals = self._short = self._longest = 0.0
        self._lost, self._first_lost = 0, ""
        self._interlaced = False
        self._reformat = frame_reformatter()

    @property
    def _period(self) -> float | None:
        return 1 / self.clip.rate if self.clip.rate else None

    def frames(self) -> Iterator[Frame | UnreadableError]:
        """Yield frames, or the reasons why they are unreadable."""
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
                self._errors.append(UnreadableError(video_reason(error)))
                return
            if packet is None:
                return
            stamp = packet.dts if self._unordered else packet.pts
            if stamp is not None and not packet.is_discard:
                heapq.heappush(self._expected, float(stamp * self.stream.time_base))
            try:
                decoded = packet.decode()
            except self._av.FFmpegError as error:
                self._errors.append(UnreadableError(video_reason(error)))
                if self._unordered and self._expected:
                    heapq.heappop(self._expected)
                if self.max_damaged is not None and len(self._errors) > self.max_damaged:
                    return
                continue
            yield from decoded

    def _placed(self, frame: Any) -> Iterator[Frame | UnreadableError]:
        """Yield an error for each unreadable frame before a frame, then the frame."""
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
        """Return the timestamp of a frame in seconds, or None if it has none."""
        if self._unordered:
            return heapq.heappop(self._expected) if self._expected else None
        return None if frame.pts is None else float(frame.pts * frame.time_base)

    def _restart(self, time: float | None) -> bool:
        """Return whether timestamps jump back at a frame. If so, shift later timestamps."""
        if time is None or self._last is None or time >= self._last:
            return False
        self._start, self._last = time - self._since - (self._period or 0), None
        self._first_restart = self._first_restart or f"{time - self._start:.2f} s"
        return True

    def _gap(self, time: float | None) -> int:
        """Return the number of frames missing between the last frame and this one."""
        last, self._last = self._last, time
        if time is None or last is None or not self._period:
            return 0
        interval = (time - last) / self._period
        self._intervals += 1
        self._short += interval < _SHORT
        self._longest = max(self._longest, interval)
        return round(interval) - 1 if interval >= _LONG else 0

    def _skip_expected(self, time: float | None) -> int:
        """Remove expected timestamps up to a frame, and return how many had no frame."""
        skipped = 0
        while time is not None and self._expected and self._expected[0] <= time:
            skipped += heapq.heappop(self._expected) < time
        return skipped

    def _gray(self, frame: Any) -> Pixels:
        """Return a frame in grayscale (uint8[h, w]), composited over white."""
        if any(component.is_alpha for component in frame.format.components):
            colors = self._reformat(frame, format="rgba").to_ndarray()
            return _gray_of_image(Image.fromarray(colors))
        gray: Pixels = self._reformat(frame, format="gray").to_ndarray()
        return gray

    def _pixels(self, frame: Any) -> Pixels:
        pixels = self._gray(frame)
        size = self.clip.size
        if size is None and self._aspect != 1:
            height, width = pixels.shape
            pixels = scale(pixels, (height, max(1, round(width * self._aspect))))
        pixels = rotate_frame(pixels, frame, self.clip.name)
        return pixels if size is None else scale(pixels, size)

    def _report(self) -> None:
        name, notes = self.clip.name, self.clip.notes
        if self._interlaced:
            notes.append(f"{name!r} is interlaced: both fields are used as one frame")
        if self._lost:
            notes.append(
                f"{name!r}: {self._lost} frames are missing by the timestamps, the first before "
                f"{self._first_lost}; motion is not followed across such gaps"
            )
        if self._first_restart:
            notes.append(
                f"{name!r}: timestamps jump back, first at {self._first_restart}; times continue "
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
    """Clip read from an animated GIF, WebP, PNG or AVIF image. For `size`, see `FolderClip`."""

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


def _seconds(image: Image.Image) -> float:
    """Return the duration of an animation frame in seconds, or 0 if it is not stated."""
    return max(0.0, float(image.info.get("duration", 0) or 0)) / 1000


def _until_restart(packets: Iterable[Any]) -> Iterator[Any]:
    """Yield packets up to the point where timestamps jump back."""
    last = None
    for packet in packets:
        if packet.dts is not None:
            if last is not None and packet.dts < last:
                return
            last = packet.dts
        yield packet


def _stated_frames(stream: Any) -> int:
    """Return the number of visible frames according to the metadata, or 0 if it is unknown."""
    hidden = sum(entry.is_discard for entry in stream.index_entries)
    if "mp4" in stream.container.format.name.split(",") and stream.frames:
        return len(stream.index_entries) - hidden
    return max(0, stream.frames - hidden)


def _stated_end(container: Any, stream: Any) -> float | None:
    """Return the duration of a video in seconds according to its metadata, or None."""
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


def stated_rate(stream: Any) -> float | None:
    """Return the frame rate in the metadata of a stream, or None if it is missing."""
    return float(stream.average_rate) if stream.average_rate else None


def measured_rate(found: tuple[list[float], float | None]) -> float | None:
    """Return the frame rate measured from timestamps, or None if there are too few.

    If it agrees with the stated frame rate, the latter is returned.
    """
    times, stated = found
    steps = [after - before for before, after in pairwise(times) if after > before]
    if not steps:
        return None
    measured = 1 / float(np.median(steps))
    # Two packets per frame are the fields of interlaced video.
    if stated and (abs(measured / stated - 1) < 0.05 or abs(measured / stated / 2 - 1) < 0.05):
        return stated
    return measured


def _gray_of_image(image: Image.Image) -> Pixels:
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if image.mode.startswith("I") or image.mode == "F":
        raise UnreadableError(f"frames of mode {image.mode}: expected 8 bits")
    return np.array(image.convert("L"))
