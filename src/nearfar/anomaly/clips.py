"""Frames in: from folders of images, video files and streams; one at a time, as gray pixels."""

from __future__ import annotations

import os
import re
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from nearfar.data.decoding import UnreadableError, image_endings, read_header, read_image
from nearfar.data.sizes import Size, check_size
from nearfar.errors import NearfarError, printable, reason, require

VIDEO_ENDINGS = frozenset({".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg"})
#: How the folder of the masks of a clip is called, after the folder of its frames.
MASKS = "_gt"
#: Brightness of red, green and blue (ITU-R BT.601), as PIL has it.
LUMINANCE = (0.299, 0.587, 0.114)

Pixels = npt.NDArray[np.uint8]


class Frame(NamedTuple):
    """One frame: its number in the clip, from 0, and its gray pixels, uint8[h, w].

    Damaged frames are left out, and leave a gap in the numbers.
    """

    number: int
    pixels: Pixels


class Clip(Iterable[Frame]):
    """Frames of one scene in their order, read anew, one at a time, with each iteration.

    Attributes
    ----------
    name : str
        What messages and results call it.
    total : int or None
        How many frames there are, damaged ones included, if that is known beforehand.
    declared : int
        As many as `total`, or as a video says that it has, which need not be true.
    rate : float or None
        Frames a second, if that is known.
    skipped : list of str
        One line for each frame that could not be read in the latest iteration, with the reason.
    """

    name: str
    total: int | None = None
    declared: int = 0
    rate: float | None = None

    def __init__(self, size: Size | None = None) -> None:
        self.size = check_size(size)
        self.skipped: list[str] = []

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames that can be read.

        Raises
        ------
        NearfarError
            None can, or they change their size.
        """

    def file(self, number: int) -> str:
        """Return the name of the file that a frame is alone in, or nothing."""
        return ""


class Span(Clip):
    """The frames of a clip from number `start` up to, not including, `stop`."""

    def __init__(self, clip: Clip, start: int, stop: int) -> None:
        super().__init__(clip.size)
        self.clip, self.start, self.stop = clip, start, stop
        self.name, self.total, self.rate = clip.name, stop - start, clip.rate
        self.declared = self.total

    def __iter__(self) -> Iterator[Frame]:
        """See `Clip`."""
        for frame in self.clip:
            if frame.number >= self.stop:
                return
            if frame.number >= self.start:
                yield frame


class StoredClip(Clip):
    """A clip on a disk, some of whose frames may be damaged."""

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
                    "to scale them to"
                )
            size, readable = (read.shape[0], read.shape[1]), True
            yield Frame(number, read)
        if count < self.declared:
            self.skipped.append(f"{self.name!r}: ends after {count} of {self.declared} frames")
        if not readable:
            why = f" ({self.skipped[0]})" if self.skipped else ""
            raise NearfarError(f"{self.name!r} has no frame that can be read{why}")

    @abstractmethod
    def _read(self) -> Iterator[Pixels | UnreadableError]:
        """Yield each frame, scaled to `size` if it is given, or why it cannot be read."""


class FolderClip(StoredClip):
    """Images of one folder as frames, in the natural order of their names: 2 before 10.

    Parameters
    ----------
    path : Path
        The folder, whose sub-folders are not entered; or a single image.
    size : int or (height, width), optional
        Scales the frames to cover it, cropped at the center.
    """

    def __init__(self, path: Path, size: Size | None = None) -> None:
        super().__init__(path, size)
        self.folder = path if path.is_dir() else None
        self.files = image_files(path) if self.folder else [path]
        self.total = self.declared = len(self.files)

    def file(self, number: int) -> str:
        """See `Clip`."""
        return printable(self.files[number].name)

    def _read(self) -> Iterator[Pixels | UnreadableError]:
        for number in range(len(self.files)):
            try:
                yield self.read(number)
            except UnreadableError as error:
                yield error

    def read(self, number: int) -> Pixels:
        """Read one frame alone.

        Raises
        ------
        UnreadableError
            It cannot be read.
        """
        file = self.files[number]
        try:
            size = self.size or read_header(file).size
            return read_image(file, (1, *size))[0].numpy()
        except UnreadableError as error:
            raise UnreadableError(f"{printable(file.name)}: {error}") from error


class VideoClip(StoredClip):
    """A video file; see `FolderClip` for the size.

    One that is empty, or no video, says so when its frames are asked for.
    """

    def __init__(self, path: Path, size: Size | None = None) -> None:
        super().__init__(path, size)
        self._av = require("av", extra="video")
        with suppress(NearfarError), self._open() as container:
            stream = container.streams.video[0]
            self.declared = stream.frames
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
        """Decode packet by packet, so that one which is damaged costs only itself."""
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
        return pixels if self.size is None else scale(pixels, self.size)


def open_clips(source: str | os.PathLike[str], *, size: Size | None = None) -> list[Clip]:
    """Clips of a video file, or of a folder.

    Parameters
    ----------
    source : str or path
        A video; an image; a folder of images, which are the frames of one clip; or a folder of such
        folders and of videos, such as ``Train`` and ``Test`` of the UCSD data sets. Folders whose
        name ends in ``_gt`` hold masks, and are left out.
    size : int or (height, width), optional
        Scales the frames to cover it, cropped at the center.

    Raises
    ------
    NearfarError
        There is nothing of the kind.
    """
    path = Path(source)
    with suppress(RuntimeError):  # of a user who is not known
        path = path.expanduser()
    path = Path(os.path.normpath(path.absolute()))  # also "." and ".." have names
    if path.is_file():
        if path.suffix.lower() in image_endings():
            return [FolderClip(path, size)]
        if path.suffix.lower() not in VIDEO_ENDINGS:
            raise NearfarError(
                f"{str(source)!r} is not named like a video: expected "
                f"{', '.join(sorted(VIDEO_ENDINGS))}, an image, or a folder"
            )
        return [VideoClip(path, size)]
    if not path.is_dir():
        raise NearfarError(f"{str(source)!r} does not exist: expected a video or a folder")
    if image_files(path):
        return [FolderClip(path, size)]
    clips: list[Clip] = []
    for inner in _visible(path):
        if inner.is_dir() and not inner.name.endswith(MASKS) and image_files(inner):
            clips.append(FolderClip(inner, size))
        elif inner.suffix.lower() in VIDEO_ENDINGS:
            clips.append(VideoClip(inner, size))
    if not clips:
        raise NearfarError(
            f"{str(source)!r} holds no frames: expected images, folders of images, or videos"
        )
    return clips


def as_frames(stream: Iterable[npt.ArrayLike | None]) -> Iterator[Frame]:
    """Check the frames of a stream, and make them gray.

    Parameters
    ----------
    stream : iterable of arrays
        uint8[h, w] or, in color, uint8[h, w, 3]; None for a frame that was lost.

    Raises
    ------
    NearfarError
        One is something else.
    """
    for number, given in enumerate(stream):
        if given is None:
            continue
        pixels = np.asarray(given)
        if pixels.dtype != np.uint8 or pixels.shape[2:] not in ((), (3,)) or pixels.ndim < 2:
            raise NearfarError(
                f"frame {number} is {pixels.dtype}{list(pixels.shape)}: expected uint8[h, w], or "
                "uint8[h, w, 3] in color"
            )
        if pixels.ndim == 3:
            pixels = np.rint(pixels @ np.array(LUMINANCE)).astype(np.uint8)
        yield Frame(number, pixels)


def scale(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Scale an image, uint8[h, w], to cover a size, cropped at the center."""
    from PIL import ImageOps

    fitted = ImageOps.fit(Image.fromarray(pixels), size[::-1], Image.Resampling.BILINEAR)
    return np.array(fitted)


def image_files(folder: Path) -> list[Path]:
    """Files of a folder that are named like images, in the natural order of their names."""
    return [path for path in _visible(folder) if path.suffix.lower() in image_endings()]


def _visible(folder: Path) -> list[Path]:
    """What a folder holds and does not hide, 2 before 10."""
    inside = (path for path in folder.iterdir() if not path.name.startswith("."))
    return sorted(inside, key=lambda path: _natural(path.name))


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts numbers inside of names by their value."""
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
