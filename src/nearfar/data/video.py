"""Frames of video files, rotated upright, with square pixels, and sampled at a frame rate."""

from __future__ import annotations

import functools
import itertools
import os
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from nearfar.data.decoding import Header
from nearfar.data.encoded import UnreadableError
from nearfar.data.levels import HDR_TRANSFERS, Decoding
from nearfar.data.listing import Item, Listing
from nearfar.errors import NearfarError, reason, require

Pixels = npt.NDArray[np.uint8]

#: Common video extensions.
VIDEO_EXTENSIONS = frozenset(
    {
        *(".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts"),
        *(".wmv", ".asf", ".flv", ".ogv", ".3gp", ".3g2", ".vob", ".mxf", ".f4v", ".divx", ".m2v"),
        *(".qt", ".dav", ".y4m", ".h264", ".264", ".h265", ".hevc", ".mjpg", ".mjpeg"),
    }
)
#: Self-contained video formats. Excluded are playlists, which name other files and addresses, and
#: formats that accept any text as a picture.
VIDEO_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpegtsraw,mpeg,mpegvideo,asf,asf_o,flv,"
    "live_flv,ogg,mxf,mxf_opatom,gxf,nut,rm,ivf,nsv,wtv,dv,h264,hevc,vvc,av1,obu,m4v,mjpeg,"
    "mjpeg_2000,vc1,vc1test,cavsvideo,yuv4mpegpipe,dhav,ifv,kux,xmv,roq,smk,bink,swf,avs,apng,gif"
)
_OPTIONS = {"format_whitelist": VIDEO_FORMATS, "protocol_whitelist": "file"}
#: Maximum pixel aspect ratio, or its inverse.
_MAX_ASPECT = 8
#: Minimum ticks between frames at which timestamps may be rounded to ticks.
_FINE_TICKS = 4
#: Tolerance for right angles in the display matrix, as cosines.
_TOLERANCE = 0.01
_ONE = 2.0**16
#: Seconds before a frame at which decoding starts, until a start is early enough.
_SEEK_BACK = (0, 2, 8, 32, 128, 512)
#: Number of videos to keep open.
_OPEN_VIDEOS = 4
#: Bytes of decoded frames to keep for later requests.
_KEPT_BYTES = 2**27


@contextmanager
def open_video(path: str | os.PathLike[str]) -> Iterator[tuple[Any, Any]]:
    """Open the best video stream of a file with PyAV.

    Yields
    ------
    container, stream
        PyAV objects.

    Raises
    ------
    NearfarError
        If the file is not a decodable video, or its frames have too many pixels.

    Examples
    --------
    >>> with open_video(Path("absent.mp4")) as (container, stream):
    ...     stream.width
    Traceback (most recent call last):
    nearfar.errors.NearfarError: 'absent.mp4' cannot be read as a video (No such file or directory)
    """
    av = require("av", extra="video")
    path = Path(path)
    try:
        if not path.is_file() and path.exists():
            raise NearfarError(f"{str(path)!r} is not a regular file: expected a video")
        if path.stat().st_size == 0:
            raise NearfarError(f"{str(path)!r} is an empty file, 0 bytes: expected a video")
        container = av.open(f"file:{path}", options=dict(_OPTIONS), metadata_errors="replace")
    except (av.FFmpegError, OSError, ValueError) as error:
        raise NearfarError(
            f"{str(path)!r} cannot be read as a video ({video_reason(error)})"
        ) from error
    with container:
        yield container, choose_stream(container, str(path))


def choose_stream(container: Any, name: str) -> Any:
    """Return the best video stream.

    Raises
    ------
    NearfarError
        If there is no video stream, it cannot be decoded, or its frames have too many pixels.

    Examples
    --------
    >>> import io
    >>> import av
    >>> file = io.BytesIO()
    >>> with av.open(file, "w", format="matroska") as out:
    ...     written = out.add_stream("ffv1", rate=5)
    ...     written.width, written.height, written.pix_fmt = 32, 16, "gray"
    ...     out.mux(written.encode(av.VideoFrame(32, 16, "gray")))
    ...     out.mux(written.encode())
    >>> with av.open(io.BytesIO(file.getvalue())) as container:
    ...     choose_stream(container, "a.mkv").width
    32
    """
    streams = video_streams(container)
    if not streams:
        raise NearfarError(f"{name!r} holds no video")
    best = container.streams.best("video")
    stream = best if best in streams else streams[0]
    _check(stream, name)
    return stream


def is_video(path: str | os.PathLike[str]) -> bool:
    """Return whether a file can be opened as a video, regardless of its name.

    Examples
    --------
    >>> is_video(Path("absent.bin"))
    False
    """
    try:
        with open_video(path) as (_, stream):
            return bool(stream.width and stream.height)
    except NearfarError:
        return False


def video_streams(container: Any) -> list[Any]:
    """Return the video streams, except cover pictures.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> video_streams(SimpleNamespace(streams=SimpleNamespace(video=[])))
    []
    """
    return [s for s in container.streams.video if not s.disposition & s.disposition.attached_pic]


def hdr_transfer(stream: Any) -> str | None:
    """Return the name of an HDR video's transfer function; None for other videos.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> hdr_transfer(SimpleNamespace(codec_context=SimpleNamespace(color_trc=16)))
    'PQ'
    """
    return HDR_TRANSFERS.get(stream.codec_context.color_trc)


def shown_packets(packets: Iterable[Any]) -> Iterator[Any]:
    """Yield the packets of visible frames, without those hidden by an edit list.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> packets = [SimpleNamespace(pts=pts, is_discard=pts < 0) for pts in (-1, 0, 1)]
    >>> [packet.pts for packet in shown_packets(packets)]
    [0, 1]
    """
    return (packet for packet in packets if not packet.is_discard)


def pixel_aspect(stream: Any) -> Fraction:
    """Return the width of a pixel divided by its height.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> pixel_aspect(SimpleNamespace(sample_aspect_ratio=Fraction(16, 15)))
    Fraction(16, 15)
    """
    return Fraction(stream.sample_aspect_ratio or 1) or Fraction(1)


def video_reason(error: BaseException) -> str:
    """Return the message of a PyAV error, without the error number and the function name.

    Examples
    --------
    >>> video_reason(FileNotFoundError(2, "No such file or directory"))
    'No such file or directory'
    """
    return getattr(error, "strerror", None) or reason(error)


def frame_reformatter() -> Any:
    """Return a function that converts frames to another pixel format on one thread.

    Reuse the function for all frames, since creating it takes longer than calling it. With several
    threads, the pixels of some formats would differ from run to run (libswscale 9.5).

    Examples
    --------
    >>> import av
    >>> frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
    >>> frame_reformatter()(frame, format="gray").to_ndarray().shape
    (16, 16)
    """
    reformatter = require("av.video.reformatter", extra="video").VideoReformatter()
    return functools.partial(reformatter.reformat, threads=1)


def rotate_frame(pixels: Pixels, frame: Any, name: str) -> Pixels:
    """Rotate and flip pixels ([h, w] or [h, w, 3]) by the display matrix of their video frame.

    Raises
    ------
    NearfarError
        If the rotation is not a multiple of 90 degrees.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> rotate_frame(np.zeros((2, 3), np.uint8), SimpleNamespace(side_data=[]), "a.mp4").shape
    (2, 3)
    """
    matrix = next((s for s in frame.side_data if s.type.name == "DISPLAYMATRIX"), None)
    if matrix is None:
        return pixels
    values = np.frombuffer(bytes(matrix), np.int32)[:9].astype(float)
    a, b, c, d = values[[0, 1, 3, 4]] / _ONE
    small = _TOLERANCE * max(abs(a), abs(b), abs(c), abs(d))
    # A pixel at column x and row y is shown at column a·x + c·y and row b·x + d·y.
    if max(abs(b), abs(c)) <= small < min(abs(a), abs(d)):
        return np.ascontiguousarray(pixels[:: _sign(d), :: _sign(a)])
    if max(abs(a), abs(d)) <= small < min(abs(b), abs(c)):
        return np.ascontiguousarray(pixels.swapaxes(0, 1)[:: _sign(b), :: _sign(c)])
    raise NearfarError(
        f"{name!r} is rotated by an angle that is not a multiple of 90 degrees: expected an "
        "upright video"
    )


class FrameItem(Item):
    """Frame of a video."""

    __slots__ = ("stamp", "video")

    def __init__(self, video: _Video, stamp: int, name: str) -> None:
        self.video, self.stamp, self.name = video, stamp, name

    @property
    def location(self) -> str:
        """See `Item`."""
        return f"{self.video.path}, {self.name}"

    def load(self) -> Image.Image:
        """See `Item`."""
        return self.video.frame(self.stamp)

    def header(self, decoding: Decoding) -> Header:
        """See `Item`."""
        return self.video.header

    def content(self) -> Iterator[bytes]:
        """Yield the pixels, since a frame has no bytes of its own."""
        yield self.load().tobytes()


def find_frames(path: Path, rate: float, prefix: str) -> Listing:
    """Return the frames of a video shown at 0, 1/rate, 2/rate, … seconds.

    Parameters
    ----------
    path : Path
        Video file.
    rate : float
        Number of frames to use per second. Each frame is used at most once.
    prefix : str
        Name of the video. Images are named ``PREFIX#t=SECONDS``.

    Raises
    ------
    NearfarError
        If the video cannot be read, or its frames have no timestamps.
    """
    av = require("av", extra="video")
    listing, stamps = Listing(), []
    with open_video(path) as (container, stream):
        if container.format.name == "avi" and stream.codec_context.has_b_frames:
            raise NearfarError(
                f"{str(path)!r} has no presentation times of its frames: convert it to MP4"
            )
        last = None
        try:
            for packet in shown_packets(container.demux(stream)):
                if last is not None and packet.dts is not None and packet.dts < last:
                    listing.skipped.append(f"{prefix!r}: frames after time stamps that jump back")
                    break
                last = packet.dts if packet.dts is not None else last
                stamp = packet.dts if packet.pts is None else packet.pts
                if stamp is not None:
                    stamps.append(stamp)
        except av.FFmpegError as error:
            listing.skipped.append(f"{prefix!r}: the rest of the video ({video_reason(error)})")
        others = len(video_streams(container)) - 1
        base, gray = stream.time_base, stream.codec_context.pix_fmt or ""
        hdr = hdr_transfer(stream)
    if others:
        listing.notes.append(f"{prefix!r} holds {others + 1} videos: only one is used")
    if hdr:
        listing.notes.append(f"{prefix!r} is HDR video ({hdr}): its levels are used as coded")
    if not stamps:
        raise NearfarError(f"{str(path)!r} has no frames with time stamps")
    chosen = _at_rate(sorted(stamps), base, rate)
    video = _Video(path, chosen, gray.startswith("gray"))
    for stamp in chosen:
        seconds = float((stamp - chosen[0]) * base)
        listing.items.append(FrameItem(video, stamp, f"{prefix}#t={seconds:.3f}"))
    return listing


def _at_rate(stamps: list[int], base: Fraction, rate: float) -> list[int]:
    """Return the timestamps of the frames shown at multiples of 1/rate seconds."""
    step = 1 / (Fraction(rate) * base)
    chosen = [stamps[0]]
    # Timestamps are rounded to ticks: a frame may be shown half a tick late.
    gaps = sorted(late - early for early, late in itertools.pairwise(stamps))
    rounding = Fraction(1, 2) if gaps and gaps[len(gaps) // 2] >= _FINE_TICKS else Fraction(0)
    count = int((stamps[-1] - stamps[0] + rounding) / step)
    if count >= len(stamps):
        return list(dict.fromkeys(stamps))
    for number in range(1, count + 1):
        shown = stamps[bisect_right(stamps, stamps[0] + number * step + rounding) - 1]
        if shown != chosen[-1]:
            chosen.append(shown)
    return chosen


class _Video:
    """Frames of a video by timestamp.

    Frames are decoded in order as far as possible.
    """

    def __init__(self, path: Path, stamps: list[int], gray: bool) -> None:
        self.path, self.stamps, self.gray = path, frozenset(stamps), gray
        self.header = Header(self._size(stamps), gray)

    def _size(self, stamps: list[int]) -> tuple[int, int]:
        """Return the height and width of the first readable frame, as displayed."""
        why = "none has a timestamp"
        for stamp in stamps:
            try:
                first = self.frame(stamp)
                return first.height, first.width
            except UnreadableError as error:
                why = str(error)
        raise NearfarError(f"{str(self.path)!r} has no readable frame: {why}")

    def frame(self, stamp: int) -> Image.Image:
        """Return the frame with a given timestamp. Raise `UnreadableError` if it is damaged."""
        with _lock:
            try:
                return _reader(self).frame(stamp)
            except NearfarError as error:
                raise UnreadableError(str(error)) from error


class _Reader:
    """Open video with the current position, and frames that are decoded, but not yet requested."""

    def __init__(self, video: _Video) -> None:
        self.video = video
        self._context = open_video(video.path)
        self._container, self._stream = self._context.__enter__()
        self._aspect = pixel_aspect(self._stream)
        self._reformat = frame_reformatter()
        self._av = require("av", extra="video")
        self._passed: OrderedDict[int, Image.Image] = OrderedDict()
        self._position: int | None = None
        self._frames: Iterator[Any] = iter(())
        #: Maximum distance, in ticks of the stream, at which decoding onward is faster than a seek.
        self._near = round(2 / self._stream.time_base)

    def close(self) -> None:
        self._context.__exit__(None, None, None)

    def frame(self, stamp: int) -> Image.Image:
        if stamp in self._passed:
            return self._passed.pop(stamp)
        if self._position is None or not self._position < stamp <= self._position + self._near:
            self._seek(stamp)
        for frame in self._frames:
            self._position = frame.pts
            if frame.pts is None or frame.pts not in self.video.stamps:
                continue
            image = None if frame.is_corrupt else self._image(frame)
            if frame.pts == stamp:
                if image is None:
                    break
                return image
            if image is not None and frame.pts < stamp:
                self._keep(frame.pts, image)
            if frame.pts > stamp:
                self._keep(frame.pts, image)
                break
        raise UnreadableError("a damaged frame")

    def _seek(self, stamp: int) -> None:
        """Seek to a frame at or before a timestamp.

        In some formats, a seek may end between key frames, so that the first decoded frame comes
        after the timestamp. The seek is then repeated from an earlier time.
        """
        self._position = None
        start = min(self.video.stamps)
        for seconds in _SEEK_BACK:
            earlier = stamp - round(seconds / self._stream.time_base)
            try:
                self._container.seek(earlier, stream=self._stream, backward=True)
            except self._av.FFmpegError as error:
                raise UnreadableError(video_reason(error)) from error
            frames = self._decoded()
            first = list(itertools.islice(frames, 1))
            self._frames = itertools.chain(first, frames)
            if earlier < start or (first and (first[0].pts is None or first[0].pts <= stamp)):
                return

    def _decoded(self) -> Iterator[Any]:
        """Yield frames packet by packet, so that a damaged packet loses only its own frames."""
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except self._av.FFmpegError:
                return
            if packet is None:
                return
            try:
                yield from packet.decode()
            except self._av.FFmpegError:
                continue

    def _image(self, frame: Any) -> Image.Image:
        if any(component.is_alpha for component in frame.format.components):
            colors = self._reformat(frame, format="rgba").to_ndarray()
            image = Image.fromarray(colors)
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            pixels = np.array(image.convert("RGB"))
        else:
            mode = "gray" if self.video.gray else "rgb24"
            pixels = self._reformat(frame, format=mode).to_ndarray()
        if self._aspect != 1:
            height, width = pixels.shape[:2]
            wide = Image.fromarray(pixels).resize(
                (max(1, round(width * self._aspect)), height), Image.Resampling.BILINEAR
            )
            pixels = np.array(wide)
        return Image.fromarray(rotate_frame(pixels, frame, str(self.video.path)))

    def _keep(self, stamp: int, image: Image.Image | None) -> None:
        if image is None:
            return
        self._passed[stamp] = image
        size = image.width * image.height * len(image.getbands())
        while len(self._passed) > 1 and len(self._passed) * size > _KEPT_BYTES:
            self._passed.popitem(last=False)


_lock = threading.Lock()
_readers: OrderedDict[tuple[int, int], _Reader] = OrderedDict()


def _reader(video: _Video) -> _Reader:
    """Return the reader of a video. A forked process opens the video again."""
    key = (os.getpid(), id(video))
    reader = _readers.pop(key, None)
    if reader is None or reader.video is not video:
        reader = _Reader(video)
    _readers[key] = reader
    while len(_readers) > _OPEN_VIDEOS:
        _readers.popitem(last=False)[1].close()
    return reader


def _check(stream: Any, name: str) -> None:
    if stream.codec_context is None:
        raise NearfarError(f"{name!r} is encoded in a way that PyAV cannot decode")
    most = Image.MAX_IMAGE_PIXELS or float("inf")
    aspect = pixel_aspect(stream)
    if not 1 / _MAX_ASPECT <= aspect <= _MAX_ASPECT:
        raise NearfarError(
            f"{name!r} states pixels {float(aspect):g} times as wide as high: "
            f"expected at most {_MAX_ASPECT} times"
        )
    if stream.width * aspect * stream.height > most:
        raise NearfarError(
            f"{name!r} has frames of {stream.width}x{stream.height} pixels: "
            f"expected at most {Image.MAX_IMAGE_PIXELS} in all"
        )


def _sign(value: float) -> int:
    return 1 if value > 0 else -1
