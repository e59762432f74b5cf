"""Clips: sequences of frames from image folders, arrays and streams, read one at a time."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from PIL import Image

from nearfar.data import (
    Size,
    UndefinedColorsError,
    UnreadableError,
    check_size,
    image_extensions,
    read_header,
    read_image,
)
from nearfar.errors import NearfarError, printable
from nearfar.files import natural_key

#: Suffix of the folder with a clip's masks, next to the folder with its frames.
MASK_SUFFIX = "_gt"
#: Weights of red, green and blue (ITU-R BT.601), as in PIL.
_LUMINANCE = (0.299, 0.587, 0.114)
#: Name that ends with a number, such as frame_0012.
_NUMBERED = re.compile(r"(|.*\D)(\d{1,9})")
#: Minimum number of frames to detect missing ones from their numbers.
_MIN_NUMBERED = 4
#: Gray level of a clip's brightest pixel below which a warning is issued, as in `nearfar.data`.
_DARK = 255 // 16

Pixels = npt.NDArray[np.uint8]


class Frame(NamedTuple):
    """Frame of a clip.

    Attributes
    ----------
    number : int
        Position in the clip, from 0. The numbers of damaged frames are left out.
    pixels : uint8[h, w], or uint8[h, w, 3] for photographs
        Grayscale or RGB values.
    time : float or None
        Seconds since the start of the clip. None if the clip has no timestamps.
    lost : int
        Number of frames that are missing directly before this one, according to timestamps or file
        names.

    Examples
    --------
    >>> Frame(0, np.zeros((240, 360), np.uint8)).pixels.shape
    (240, 360)
    """

    number: int
    pixels: Pixels
    time: float | None = None
    lost: int = 0

    def follows(self, other: Frame) -> bool:
        """Return whether this frame directly follows another, with no lost frame in between."""
        return self.number == other.number + 1 and not self.lost


class Clip(Iterable[Frame]):
    """Consecutive frames of one scene.

    Each iteration reads the frames again, one at a time.

    Parameters
    ----------
    size : int or (height, width), optional
        Size to which frames are resized, without cropping.

    Attributes
    ----------
    name : str
        Name of the clip in messages and results.
    total : int or None
        Number of frames, including damaged ones, if known before reading.
    nominal_total : int
        `total`, or the number of frames in a video's metadata, which may be wrong.
    rate : float or None
        Frames per second, if known.
    photographs : bool
        Whether frames are unrelated color images, which may differ in size. See `as_photographs`.
    skipped : list of str
        One line per unreadable frame of the latest iteration, with the reason.
    notes : list of str
        One line per other irregularity, such as lost frames.

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
    photographs: bool = False

    def __init__(self, size: Size | None = None) -> None:
        self.size = check_size(size)
        self.skipped: list[str] = []
        self.notes: list[str] = []

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]:
        """Yield the readable frames.

        Raises
        ------
        NearfarError
            If no frame is readable, or the frame size changes.
        """

    def file_name(self, number: int) -> str:
        """Return the name of a frame's file, or "" if the frame has no file of its own."""
        return ""

    def as_photographs(self) -> Self:
        """Return a clip with the same frames as color images of any size.

        Videos and animations remain grayscale. Both clips share `skipped` and `notes`.
        """
        other = copy(self)
        other.photographs = True
        return other


class Span(Clip):
    """Part of a clip, from frame `start` to frame `stop - 1`."""

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
        Grayscale frames (uint8[h, w]) of one size, or color frames (uint8[h, w, 3]). None stands
        for a damaged frame.
    name : str
        Name of the clip in messages and results.
    rate : float, optional
        Frames per second.

    Raises
    ------
    NearfarError
        If a frame has a different shape or type.

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
        self.frames = list(as_frames(frames, photographs=True))

    def __iter__(self) -> Iterator[Frame]:
        """See `Clip`."""
        return iter(self.frames) if self.photographs else map(as_gray, self.frames)


class StoredClip(Clip):
    """Base class of clips on disk, which may have damaged frames."""

    def __init__(self, path: Path, size: Size | None) -> None:
        super().__init__(size)
        self.path, self.name = path, printable(path.name)

    def __iter__(self) -> Iterator[Frame]:
        """See `Clip`."""
        self.skipped.clear()
        self.notes.clear()
        size, readable, count, brightest = self.size, False, 0, 0
        for number, read in enumerate(self._read()):
            count = number + 1
            if isinstance(read, UnreadableError):
                self.skipped.append(f"frame {number} of {self.name!r}: {read}")
                continue
            pixels = read.pixels
            if not self.photographs and size is not None and pixels.shape != size:
                raise NearfarError(
                    f"frame {number} of {self.name!r} is {pixels.shape[0]}x{pixels.shape[1]} "
                    f"pixels, those before it {size[0]}x{size[1]}: expected frames of one size, or "
                    "a size to scale to"
                )
            size, readable = (pixels.shape[0], pixels.shape[1]), True
            if brightest < _DARK:
                brightest = max(brightest, int(pixels.max()))
            yield read._replace(number=number)
        if count < self.nominal_total:
            self.skipped.append(f"{self.name!r}: ends after {count} of {self.nominal_total} frames")
        if not readable:
            why = f" ({self.skipped[0]})" if self.skipped else ""
            raise NearfarError(f"{self.name!r} has no readable frame{why}")
        if brightest < _DARK:
            self.notes.append(
                f"{self.name!r}: the brightest pixel is {brightest}, where white is 255: scale the "
                "images if they are not dark"
            )

    @abstractmethod
    def _read(self) -> Iterator[Frame | UnreadableError]:
        """Yield each frame, resized to `size` if given, or the reason why it is unreadable.

        The caller numbers the frames.
        """


class FolderClip(StoredClip):
    """Clip that consists of the images in a folder, in natural order of their names (2 before 10).

    Parameters
    ----------
    path : Path
        Folder of images, without its subfolders; or a single image.
    size : int or (height, width), optional
        Size to which frames are resized, without cropping.
    files : sequence of Path, optional
        Images of the folder to use. Default: all.
    """

    def __init__(
        self, path: Path, size: Size | None = None, files: Sequence[Path] | None = None
    ) -> None:
        super().__init__(path, size)
        self.folder = path if path.is_dir() else None
        default = image_files(path) if self.folder else [path]
        self.files = default if files is None else list(files)
        self.total = self.nominal_total = len(self.files)

    def file_name(self, number: int) -> str:
        """See `Clip`."""
        return printable(self.files[number].name)

    def _read(self) -> Iterator[Frame | UnreadableError]:
        lost = [0] * len(self.files) if self.photographs else _missing_before(self.files)
        if any(lost):
            first = next(number for number, missing in enumerate(lost) if missing)
            self.notes.append(
                f"{self.name!r}: {sum(lost)} frames are missing by their numbers, the first before "
                f"{self.file_name(first)!r}; motion is not followed across such gaps"
            )
        again = len(self.files) - len({file.stem for file in self.files})
        if again and not self.photographs:
            self.notes.append(
                f"{self.name!r}: {again} of {len(self.files)} frames have the name of another, but "
                "for the extension: expected one file per frame"
            )
        for number, missing in enumerate(lost):
            try:
                yield Frame(number, self.read(number), lost=missing)
            except UnreadableError as error:
                yield error

    def read(self, number: int) -> Pixels:
        """Read a single frame.

        Raises
        ------
        UnreadableError
            If the frame is damaged.
        """
        file = self.files[number]
        try:
            header = read_header(file)
            if header.animated:
                self._note("animations, of which the first picture is used")
            if header.hdr:
                self._note(f"HDR images ({header.hdr}), whose levels are used as coded")
            size = header.size
            wanted = self.size or size
            # read_image would crop an image with a different aspect ratio.
            same_aspect = size[0] * wanted[1] == size[1] * wanted[0]
            channels = 3 if self.photographs else 1
            image = read_image(file, (channels, *(wanted if same_aspect else size)))
            pixels = image.permute(1, 2, 0).numpy() if self.photographs else image[0].numpy()
            return scale(np.ascontiguousarray(pixels), wanted)
        except UndefinedColorsError as error:
            raise UnreadableError(
                f"{printable(file.name)}: {error.reason}: expected 8 or 16 bits, gray or RGB"
            ) from error
        except UnreadableError as error:
            raise UnreadableError(f"{printable(file.name)}: {error}") from error

    def _note(self, content: str) -> None:
        """Add a note about the content of the clip, once."""
        note = f"{self.name!r} holds {content}"
        if note not in self.notes:
            self.notes.append(note)


def as_frames(
    stream: Iterable[npt.ArrayLike | None], *, photographs: bool = False
) -> Iterator[Frame]:
    """Check the frames of a stream, convert them to grayscale, and yield them.

    Parameters
    ----------
    stream : iterable of arrays
        Grayscale frames (uint8[h, w]) or color frames (uint8[h, w, 3]). None stands for a lost
        frame.
    photographs : bool
        Whether to keep colors instead of converting them to grayscale.

    Yields
    ------
    Frame

    Raises
    ------
    NearfarError
        If a frame has a different shape or type.

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
        frame = Frame(number, pixels)
        yield frame if photographs else as_gray(frame)


def as_gray(frame: Frame) -> Frame:
    """Return a frame in grayscale."""
    if frame.pixels.ndim == 2:
        return frame
    return frame._replace(pixels=np.rint(frame.pixels @ np.array(_LUMINANCE)).astype(np.uint8))


def scale(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Resize an image (uint8[h, w] or uint8[h, w, 3]) without cropping."""
    if pixels.shape[:2] == size:
        return pixels
    return np.array(Image.fromarray(pixels).resize(size[::-1], Image.Resampling.BILINEAR))


def image_files(folder: Path) -> list[Path]:
    """Return the files with image extensions in a folder, in natural order of their names."""
    return [path for path in visible(folder) if path.suffix.lower() in image_extensions()]


def _missing_before(files: Sequence[Path]) -> list[int]:
    """Return the number of frames missing before each file, according to numbers in file names."""
    found = [_NUMBERED.fullmatch(file.stem) for file in files]
    matches = [match for match in found if match]
    named_alike = len({match[1] for match in matches}) == 1
    if len(matches) < max(len(files), _MIN_NUMBERED) or not named_alike:
        return [0] * len(files)
    steps = np.diff([int(match[2]) for match in matches])
    step = int(np.median(steps))
    regular = step > 0 and (steps % step == 0).all() and (steps > 0).all()
    return [0, *(steps // step - 1).tolist()] if regular else [0] * len(files)


def visible(folder: Path) -> list[Path]:
    """Return the visible entries of a folder, in natural order of their names."""
    inside = (path for path in folder.iterdir() if not path.name.startswith("."))
    return sorted(inside, key=lambda path: natural_key(path.name))
