"""Clips: frames of image folders, videos, arrays and streams; read one at a time, in gray."""

from __future__ import annotations

import os
import re
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from nearfar.data import Size, UnreadableError, check_size, image_endings, read_header, read_image
from nearfar.errors import NearfarError, printable, reason, require

_VIDEO_ENDINGS = frozenset({".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg"})
#: Suffix of the folder of a clip's masks, beside the folder of its frames.
MASK_SUFFIX = "_gt"
#: Weights of red, green and blue (ITU-R BT.601), as in PIL.
_LUMINANCE = (0.299, 0.587, 0.114)

Pixels = npt.NDArray[np.uint8]


class Frame(NamedTuple):
    """Frame of a clip.

    Attributes
    ----------
    number : int
        Position in the clip, from 0. Damaged frames leave a gap in the numbers.
    pixels : uint8[h, w]
        Gray levels.

    Examples
    --------
    >>> Frame(0, np.zeros((240, 360), np.uint8)).pixels.shape
    (240, 360)
    """

    number: int
    pixels: Pixels


class Clip(Iterable[Frame]):
    """Consecutive frames of one scene; every iteration reads them again, one at a time.

    Parameters
    ----------
    size : int or (height, width), optional
        Size that frames are scaled to.

    Attributes
    ----------
    name : str
        Name in messages and results.
    total : int or None
        Number of frames including damaged ones, if known before reading.
    nominal_total : int
        `total`, or the number of frames that a video states, which may be wrong.
    rate : float or None
        Frames per second, if known.
    skipped : list of str
        One line with the reason for each unreadable frame of the latest iteration.

    Examples
    --------
    >>> class Blinking(Clip):
    ...     name = "blinking"
    ...     def __iter__(self):
    ...         return (Frame(i, np.full((32, 32), i % 2, np.uint8)) for i in range(4))
    >>> [int(frame.pixels[0, 0]) for frame in Blinking()]
    [0, 1, 0, 1]
    """

    name: str
    total: int | None = None
    nominal_total: int = 0
    rate: float | None = None

    def __init__(self, size: Size | None = None) -> None:
        self.size = check_size(size)
        self.skipped: list[str] = []

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]:
        """Yield the readable frames.

        Raises
        ------
        NearfarError
            If no frame is readable, or the size of frames changes.
        """

    def file_name(self, number: int) -> str:
        """Return the name of a frame's own file, or an empty string."""
        return ""


class Span(Clip):
    """Part of a clip: the frames with numbers `start` to `stop` - 1."""

    def __init__(self, clip: Clip, start: int, stop: int) -> None:
        super().__init__(clip.size)
        self.clip, self.start, self.stop = clip, start, stop
        self.name, self.total, self.rate = clip.name, stop - start, clip.rate
        self.nominal_total = self.total

    def __iter__(self) -> Iterator[Frame]:
        """See `Clip`."""
        for frame in self.clip:
            if frame.number >= self.stop:
                return
            if frame.number >= self.start:
                yield frame


class ArrayClip(Clip):
    """Clip of frames in memory.

    Parameters
    ----------
    frames : sequence of uint8[h, w]
        Gray frames of one size; uint8[h, w, 3] in color; None for a damaged frame.
    name : str
        Name in messages and results.
    rate : float, optional
        Frames per second.

    Raises
    ------
    NearfarError
        If a frame has another shape or type.

    Examples
    --------
    >>> clip = ArrayClip(np.zeros((10, 240, 360), np.uint8), name="camera")
    >>> clip.total, next(iter(clip)).pixels.shape
    (10, (240, 360))
    """

    def __init__(
        self,
        frames: Sequence[npt.NDArray[Any] | None] | npt.NDArray[Any],
        *,
        name: str = "frames",
        rate: float | None = None,
    ) -> None:
        super().__init__()
        self.name, self.rate = name, rate
        self.total = self.nominal_total = len(frames)
        self.frames = list(as_frames(frames))

    def __iter__(self) -> Iterator[Frame]:
        """See `Clip`."""
        return iter(self.frames)


class StoredClip(Clip):
    """Clip on disk, which may have damaged frames."""

    def __init__(self, path: Path, size: Size | None) -> None:
        super().__init__(size)
        self.path, self.name = path, printable(path.name)

    def __iter__(self) -> Iterator[Frame]:
        """See `Clip`."""
        self.skipped = []
        size, readable, count = self.size, False, 0
        for number, read in enumerate(self._read()):
            count = number + 1
            if isinstance(read, UnreadableError):
                self.skipped.append(f"frame {number} of {self.name!r}: {read}")
                continue
            if size is not None and read.shape != size:
                raise NearfarError(
                    f"frame {number} of {self.name!r} is {read.shape[0]}x{read.shape[1]} pixels, "
                    f"those before it {size[0]}x{size[1]}: expected frames of one size, or a size "
                    "to scale to"
                )
            size, readable = (read.shape[0], read.shape[1]), True
            yield Frame(number, read)
        if count < self.nominal_total:
            self.skipped.append(f"{self.name!r}: ends after {count} of {self.nominal_total} frames")
        if not readable:
            why = f" ({self.skipped[0]})" if self.skipped else ""
            raise NearfarError(f"{self.name!r} has no readable frame{why}")

    @abstractmethod
    def _read(self) -> Iterator[Pixels | UnreadableError]:
        """Yield each frame, scaled to `size` if given, or the reason why it is unreadable."""


class FolderClip(StoredClip):
    """Images of a folder as frames, in natural order of their names (2 before 10).

    Parameters
    ----------
    path : Path
        A folder, without its subfolders; or a single image.
    size : int or (height, width), optional
        Size that frames are scaled to cover, cropped at the center.
    """

    def __init__(self, path: Path, size: Size | None = None) -> None:
        super().__init__(path, size)
        self.folder = path if path.is_dir() else None
        self.files = image_files(path) if self.folder else [path]
        self.total = self.nominal_total = len(self.files)

    def file_name(self, number: int) -> str:
        """See `Clip`."""
        return printable(self.files[number].name)

    def _read(self) -> Iterator[Pixels | UnreadableError]:
        for number in range(len(self.files)):
            try:
                yield self.read(number)
            except UnreadableError as error:
                yield error

    def read(self, number: int) -> Pixels:
        """Read a single frame.

        Raises
        ------
        UnreadableError
            If it is damaged.
        """
        file = self.files[number]
        try:
            size = self.size or read_header(file).size
            return read_image(file, (1, *size))[0].numpy()
        except UnreadableError as error:
            raise UnreadableError(f"{printable(file.name)}: {error}") from error


class VideoClip(StoredClip):
    """Video file; see `FolderClip` for the size.

    An empty or invalid file raises when its frames are read.
    """

    def __init__(self, path: Path, size: Size | None = None) -> None:
        super().__init__(path, size)
        self._av = require("av", extra="video")
        with suppress(NearfarError), self._open() as container:
            stream = container.streams.video[0]
            self.nominal_total = stream.frames
            self.rate = float(stream.average_rate) if stream.average_rate else None

    def _read(self) -> Iterator[Pixels | UnreadableError]:
        with self._open() as container:
            yield from self._decode(container, container.streams.video[0])

    @contextmanager
    def _open(self) -> Iterator[Any]:
        try:
            if self.path.stat().st_size == 0:
                raise NearfarError(
                    f"{str(self.path)!r} is an empty file, 0 bytes: expected a video"
                )
            container = self._av.open(str(self.path))
        except (self._av.FFmpegError, OSError, ValueError) as error:
            raise NearfarError(
                f"{str(self.path)!r} cannot be read as a video ({reason(error)})"
            ) from error
        with container:
            if not container.streams.video:
                raise NearfarError(f"{str(self.path)!r} holds no video")
            stream = container.streams.video[0]
            if stream.width * stream.height > (Image.MAX_IMAGE_PIXELS or float("inf")):
                raise NearfarError(
                    f"{str(self.path)!r} has frames of {stream.width}x{stream.height} pixels: "
                    f"expected at most {Image.MAX_IMAGE_PIXELS} in all"
                )
            yield container

    def _decode(self, container: Any, stream: Any) -> Iterator[Pixels | UnreadableError]:
        """Decode packet by packet: a damaged packet costs only its own frames."""
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
            except self._av.FFmpegError as error:
                yield UnreadableError(reason(error))
                return
            if packet is None:
                return
            try:
                frames = packet.decode()
            except self._av.FFmpegError as error:
                yield UnreadableError(reason(error))
                continue
            for frame in frames:
                if frame.is_corrupt:
                    yield UnreadableError("damaged")
                else:
                    yield self._scaled(frame.to_ndarray(format="gray"))

    def _scaled(self, pixels: Pixels) -> Pixels:
        return pixels if self.size is None else _scale(pixels, self.size)


def open_clips(source: str | os.PathLike[str], *, size: Size | None = None) -> list[Clip]:
    """Open a video, an image or a folder as clips.

    Parameters
    ----------
    source : str or path
        A video; an image; a folder of images, which are the frames of one clip; or a folder of such
        folders and videos, such as ``Train`` and ``Test`` of the UCSD data sets. Folders whose name
        ends in ``_gt`` hold masks and are left out.
    size : int or (height, width), optional
        Size that frames are scaled to cover, cropped at the center.

    Returns
    -------
    list of Clip

    Raises
    ------
    NearfarError
        If `source` does not exist or holds no frames.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     for number in range(3):
    ...         Image.new("L", (48, 32)).save(Path(folder) / f"{number}.png")
    ...     (clip,) = open_clips(folder)
    ...     [(frame.number, frame.pixels.shape) for frame in clip]
    [(0, (32, 48)), (1, (32, 48)), (2, (32, 48))]
    """
    path = Path(source)
    with suppress(RuntimeError):  # unknown user
        path = path.expanduser()
    path = Path(os.path.normpath(path.absolute()))  # "." and ".." get names, too
    if path.is_file():
        if path.suffix.lower() in image_endings():
            return [FolderClip(path, size)]
        if path.suffix.lower() not in _VIDEO_ENDINGS:
            raise NearfarError(
                f"{str(source)!r} has no file name ending of a video: expected "
                f"{', '.join(sorted(_VIDEO_ENDINGS))}, an image, or a folder"
            )
        return [VideoClip(path, size)]
    if not path.is_dir():
        raise NearfarError(f"{str(source)!r} does not exist: expected a video or a folder")
    if image_files(path):
        return [FolderClip(path, size)]
    clips: list[Clip] = []
    for inner in _visible(path):
        if inner.is_dir() and not inner.name.endswith(MASK_SUFFIX) and image_files(inner):
            clips.append(FolderClip(inner, size))
        elif inner.suffix.lower() in _VIDEO_ENDINGS:
            clips.append(VideoClip(inner, size))
    if not clips:
        raise NearfarError(
            f"{str(source)!r} holds no frames: expected images, folders of images, or videos"
        )
    return clips


def as_frames(stream: Iterable[npt.ArrayLike | None]) -> Iterator[Frame]:
    """Check the frames of a stream and convert them to gray.

    Parameters
    ----------
    stream : iterable of arrays
        uint8[h, w] or, in color, uint8[h, w, 3]; None for a lost frame.

    Yields
    ------
    Frame

    Raises
    ------
    NearfarError
        If a frame has another shape or type.

    Examples
    --------
    >>> camera = [np.zeros((32, 48, 3), np.uint8), None, np.zeros((32, 48), np.uint8)]
    >>> [(frame.number, frame.pixels.shape) for frame in as_frames(camera)]
    [(0, (32, 48)), (2, (32, 48))]
    """
    for number, image in enumerate(stream):
        if image is None:
            continue
        pixels = np.asarray(image)
        if pixels.dtype != np.uint8 or pixels.shape[2:] not in ((), (3,)) or pixels.ndim < 2:
            raise NearfarError(
                f"frame {number} is {pixels.dtype}{list(pixels.shape)}: expected uint8[h, w], or "
                "uint8[h, w, 3] in color"
            )
        if pixels.ndim == 3:
            pixels = np.rint(pixels @ np.array(_LUMINANCE)).astype(np.uint8)
        yield Frame(number, pixels)


def _scale(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Scale an image, uint8[h, w], to cover a size, cropped at the center."""
    from PIL import ImageOps

    fitted = ImageOps.fit(Image.fromarray(pixels), size[::-1], Image.Resampling.BILINEAR)
    return np.array(fitted)


def image_files(folder: Path) -> list[Path]:
    """Return files of a folder with endings of images, in natural order of their names."""
    return [path for path in _visible(folder) if path.suffix.lower() in image_endings()]


def _visible(folder: Path) -> list[Path]:
    """Return entries of a folder that are not hidden, in natural order of their names."""
    inside = (path for path in folder.iterdir() if not path.name.startswith("."))
    return sorted(inside, key=lambda path: _natural(path.name))


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts numbers inside names by value."""
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
