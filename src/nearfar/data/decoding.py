"""Image files: headers, pixels and masks."""

from __future__ import annotations

import functools
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from nearfar.data.images import Shape
from nearfar.errors import reason

#: Formats that PIL passes to other programs (EPS would run Ghostscript).
NOT_DECODED_BY_PIL = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}

#: EXIF orientations that swap height and width.
SIDES_SWAPPED = {5, 6, 7, 8}


class UnreadableError(Exception):
    """Reason why a file is no usable image.

    Examples
    --------
    >>> raise UnreadableError("empty file, 0 bytes")
    Traceback (most recent call last):
    nearfar.data.decoding.UnreadableError: empty file, 0 bytes
    """


class Header(NamedTuple):
    """Size and kind of an image file, from its header."""

    size: tuple[int, int]  # height, width, as seen
    gray: bool


@functools.cache
def formats() -> tuple[str, ...]:
    """Return the formats that PIL decodes itself."""
    Image.init()
    return tuple(name for name in Image.ID if name not in NOT_DECODED_BY_PIL)


@functools.cache
def image_endings() -> frozenset[str]:
    """Return the file name endings of readable images, in lower case with the dot.

    Examples
    --------
    >>> ".png" in image_endings()
    True
    """
    registered = Image.registered_extensions()
    return frozenset(ending for ending, name in registered.items() if name in formats())


def read_header(path: Path) -> Header:
    """Read the size and kind of an image without decoding it.

    Raises
    ------
    UnreadableError
        If the file is empty, no image, or large enough for a decompression bomb.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".png") as file:
    ...     Image.new("L", (30, 20)).save(file.name)
    ...     read_header(Path(file.name))
    Header(size=(20, 30), gray=True)
    """
    with open_image_file(path) as image:
        width, height = image.size
        # PIL turns TIFF images itself, and returns the size after that.
        if image.format != "TIFF" and _orientation(image) in SIDES_SWAPPED:
            width, height = height, width
        return Header((height, width), Image.getmodebase(image.mode) == "L")


def read_image(path: Path, shape: Shape) -> Tensor:
    """Read the pixels of an image: turned upright, scaled to cover `shape`, center cropped.

    Transparent pixels are put on white; 16-bit pixels are reduced to their high byte.

    Parameters
    ----------
    path : Path
        Path of the file.
    shape : tuple of int
        Channels, height, width of the result.

    Returns
    -------
    Tensor
        uint8[c, h, w].

    Raises
    ------
    UnreadableError
        See `read_header`; or if pixels are damaged or incomplete.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".png") as file:
    ...     Image.new("L", (30, 20), "white").save(file.name)
    ...     pixels = read_image(Path(file.name), (3, 8, 8))
    >>> pixels.shape, pixels.min().item()
    (torch.Size([3, 8, 8]), 255)
    """
    channels, height, width = shape
    mode = "L" if channels == 1 else "RGB"
    with open_image_file(path) as file:
        # A JPEG decodes fastest at a fraction of its size; twice the target keeps it sharp.
        file.draft(mode, (2 * max(height, width),) * 2)
        file.load()
        image = _as_mode(_upright(file), mode)
        image = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
        if image.mode == "RGBA":
            background = Image.new("RGB", image.size, "white")
            background.paste(image, mask=image)
            image = background.convert(mode)
        pixels = torch.from_numpy(np.array(image).reshape(height, width, channels))
    return pixels.permute(2, 0, 1).contiguous()


def read_binary_mask(path: Path, shape: Shape) -> Tensor:
    """Read a mask of marked pixels from an image of any mode.

    A pixel is marked if it is opaque and at least half as bright as the brightest, whatever its
    color or depth. The mask is scaled and cropped like images by `read_image`; a scaled pixel is
    marked if it covers any part of a marked one.

    Parameters
    ----------
    path : Path
        Path of the file.
    shape : tuple of int
        Channels (unused), height, width of the result.

    Returns
    -------
    Tensor
        uint8[1, h, w] of 0 and 1.

    Raises
    ------
    UnreadableError
        See `read_image`.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".png") as file:
    ...     Image.new("RGB", (8, 8), "red").save(file.name)
    ...     read_binary_mask(Path(file.name), (3, 8, 8)).sum().item()
    64
    """
    _, height, width = shape
    with open_image_file(path) as file:
        values = _brightness(_upright(file))
        marked = (values > 0) & (values >= values.max() / 2)
        shares = ImageOps.fit(
            Image.fromarray(marked.astype(np.float32)), (width, height), Image.Resampling.BILINEAR
        )
    return torch.from_numpy((np.asarray(shares) > 0).astype(np.uint8)).unsqueeze(0)


@contextmanager
def open_image_file(path: Path) -> Iterator[Image.Image]:
    """Open an image with PIL if it is safe to decode.

    Yields
    ------
    PIL.Image.Image
        The image, not yet decoded.

    Raises
    ------
    UnreadableError
        See `read_header`; or for any error within the context.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".png") as file:
    ...     Image.new("L", (30, 20)).save(file.name)
    ...     with open_image_file(Path(file.name)) as image:
    ...         image.size
    (30, 20)
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableError("not a regular file")
        if status.st_size == 0:
            raise UnreadableError("empty file, 0 bytes")
        with Image.open(path, formats=formats()) as image:
            width, height = image.size
            if Image.MAX_IMAGE_PIXELS and width * height > Image.MAX_IMAGE_PIXELS:
                raise UnreadableError(
                    f"{width}x{height} pixels could be a decompression bomb: "
                    f"PIL.Image.MAX_IMAGE_PIXELS is {Image.MAX_IMAGE_PIXELS}"
                )
            yield image
    except UnreadableError:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableError("not an image") from error
    except Exception as error:  # a damaged file makes PIL raise nearly anything
        raise UnreadableError(reason(error)) from error


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1…8, as known without decoding."""
    try:
        # PngImageFile.getexif would decode the pixels.
        return Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
    except Exception:  # pixels may be fine where the EXIF block is damaged
        return 1


def _upright(image: Image.Image) -> Image.Image:
    """Turn an image by its EXIF orientation."""
    return image if _orientation(image) == 1 else ImageOps.exif_transpose(image)


def _brightness(image: Image.Image) -> npt.NDArray[Any]:
    """Return the largest color value per pixel, [h, w], where transparent pixels are black."""
    if image.mode == "F" or image.mode.startswith("I"):
        return np.asarray(image)
    *colors, opacity = np.moveaxis(np.asarray(image.convert("RGBA")), -1, 0)
    return np.minimum(np.maximum.reduce(colors), opacity)


def _as_mode(image: Image.Image, mode: str) -> Image.Image:
    """Convert an image to a mode, or to RGBA if it is partly transparent."""
    if image.mode == "F":
        raise UnreadableError("float pixels, whose white is unknown: expected 8 or 16 bits")
    if image.mode.startswith("I"):
        pixels = np.asarray(image)
        if pixels.min() < 0 or pixels.max() > 0xFFFF:
            raise UnreadableError("32-bit pixels: expected 8 or 16 bits")
        image = Image.fromarray((pixels >> 8).astype(np.uint8))
    return image.convert("RGBA" if image.has_transparency_data else mode)
