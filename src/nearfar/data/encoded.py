"""Encoded images, which are files, parts of larger files, or already decoded by a library."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import BinaryIO

from PIL import Image

from nearfar.errors import MissingExtraError, reason, require

#: A path, the content of a file, or a frame of a video.
Encoded = str | os.PathLike[str] | bytes | Image.Image


class UnreadableError(Exception):
    """Raised if a file is not a usable image. The message states the reason.

    Examples
    --------
    >>> raise UnreadableError("empty file, 0 bytes")
    Traceback (most recent call last):
    nearfar.data.encoded.UnreadableError: empty file, 0 bytes
    """


class MissingReaderError(UnreadableError):
    """Raised if a file requires an extra that is not installed.

    Attributes
    ----------
    kind, extra : str
        Kind of the file, and the nearfar extra that reads it.

    Examples
    --------
    >>> str(MissingReaderError("a HEIC image", "heic"))
    "a HEIC image, which requires pip install 'nearfar[heic]'"
    """

    def __init__(self, kind: str, extra: str) -> None:
        super().__init__(f"{kind}, which requires pip install 'nearfar[{extra}]'")
        self.kind, self.extra = kind, extra


class UndefinedColorsError(UnreadableError):
    """Raised if an image does not define its colors or gray levels, so that an option is needed.

    Attributes
    ----------
    reason : str
        Reason why the colors or gray levels are undefined.

    Examples
    --------
    >>> str(UndefinedColorsError("5 bands", "name one, such as --bands 3"))
    '5 bands: name one, such as --bands 3'
    """

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason}: {remedy}")
        self.reason = reason


def require_reader(module: str, *, kind: str, extra: str) -> ModuleType:
    """Import and return a module that reads a kind of file.

    Raises
    ------
    MissingReaderError
        If the module is not installed.

    Examples
    --------
    >>> require_reader("json", kind="a JSON file", extra="demo").loads("[1]")
    [1]
    """
    try:
        return require(module, extra=extra)
    except MissingExtraError as error:
        raise MissingReaderError(kind, extra) from error


@contextmanager
def open_bytes(source: Encoded) -> Iterator[BinaryIO]:
    """Open an encoded image as a binary file.

    Raises
    ------
    UnreadableError
        If the file is empty, is not a regular file, or cannot be opened. Any error in the ``with``
        block is converted to this error, too.

    Examples
    --------
    >>> with open_bytes(b"P5 1 1 255") as file:
    ...     file.read(2)
    b'P5'
    """
    if isinstance(source, Image.Image):
        raise UnreadableError("a decoded image, which has no bytes of its own")
    try:
        if isinstance(source, bytes):
            size = len(source)
        else:
            status = Path(source).stat()
            size = status.st_size
            if not stat.S_ISREG(status.st_mode):
                raise UnreadableError("not a regular file")
        if not size:
            raise UnreadableError("empty file, 0 bytes")
        with io.BytesIO(source) if isinstance(source, bytes) else Path(source).open("rb") as file:
            yield file
    except UnreadableError:
        raise
    except Exception as error:  # libraries may raise almost any error for a damaged file
        raise UnreadableError(reason(error)) from error


def check_pixels(height: int, width: int, samples: int = 4) -> None:
    """Check that an image is not a decompression bomb, before decoding it.

    Raises
    ------
    UnreadableError
        If the image has more pixels than PIL allows, or more samples than four times that number.

    Examples
    --------
    >>> check_pixels(1080, 1920)
    """
    most = Image.MAX_IMAGE_PIXELS
    if most and height * width * max(1, samples / 4) > most:
        raise UnreadableError(
            f"{width}x{height} pixels could be a decompression bomb: PIL.Image.MAX_IMAGE_PIXELS "
            f"is {most}"
        )
