"""One image file to its size, to its pixels, or to a mask."""

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

#: Formats that PIL names but leaves to other programs (EPS would run Ghostscript).
NOT_DECODED_BY_PIL = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}

SIDES_SWAPPED = {5, 6, 7, 8}


class UnreadableError(Exception):
    """A file that is no usable image, with the reason."""


class Header(NamedTuple):
    """What an image file says of itself before its pixels are decoded."""

    size: tuple[int, int]  # height, width, as seen
    gray: bool


@functools.cache
def formats() -> tuple[str, ...]:
    """The formats that PIL decodes by itself."""
    Image.init()
    return tuple(name for name in Image.ID if name not in NOT_DECODED_BY_PIL)


@functools.cache
def image_endings() -> frozenset[str]:
    """The file name endings of these formats, lower case, with the dot."""
    registered = Image.registered_extensions()
    return frozenset(ending for ending, name in registered.items() if name in formats())


def read_header(path: Path) -> Header:
    """Size and kind of an image, without decoding it.

    Raises
    ------
    UnreadableError
        The file is empty, no image, or so large that it could be a decompression bomb.
    """
    with open_image_file(path) as image:
        width, height = image.size
        # PIL turns TIFF images itself, and gives the size that they have then.
        if image.format != "TIFF" and _orientation(image) in SIDES_SWAPPED:
            width, height = height, width
        return Header((height, width), Image.getmodebase(image.mode) == "L")


def read_image(path: Path, shape: Shape) -> Tensor:
    """Pixels of an image, uint8[c, h, w]: turned upright, scaled to cover, center cropped.

    Transparent pixels are shown on white, 16-bit ones by their high byte.

    Raises
    ------
    UnreadableError
        As `read_header`, or the pixels are damaged or incomplete.
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
    """Which pixels a mask marks, uint8[1, h, w] of 0 and 1, be it an image of any mode.

    Marked is what is at least half as bright as the brightest, whatever its color or depth, and
    not transparent. It is scaled and cropped as images are by `read_image`: a pixel is marked if
    a marked one has any part in it.

    Raises
    ------
    UnreadableError
        As `read_image`.
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
    """Open an image that is safe to decode; whatever goes wrong with it is `UnreadableError`."""
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
    """EXIF orientation, 1…8, as far as it is known without decoding."""
    try:
        # PngImageFile.getexif would decode the pixels in search of it.
        return Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
    except Exception:  # the pixels can be good where the EXIF block is not
        return 1


def _upright(image: Image.Image) -> Image.Image:
    """The image as its EXIF orientation wants it seen."""
    return image if _orientation(image) == 1 else ImageOps.exif_transpose(image)


def _brightness(image: Image.Image) -> npt.NDArray[Any]:
    """The largest value of any color, [h, w]; transparent pixels are black."""
    if image.mode == "F" or image.mode.startswith("I"):
        return np.asarray(image)
    *colors, opacity = np.moveaxis(np.asarray(image.convert("RGBA")), -1, 0)
    return np.minimum(np.maximum.reduce(colors), opacity)


def _as_mode(image: Image.Image, mode: str) -> Image.Image:
    """The image in this mode, or in RGBA if some of it is transparent."""
    if image.mode == "F":
        raise UnreadableError("float pixels, whose white is not known: expected 8 or 16 bits")
    if image.mode.startswith("I"):
        pixels = np.asarray(image)
        if pixels.min() < 0 or pixels.max() > 0xFFFF:
            raise UnreadableError("32-bit pixels: expected 8 or 16 bits")
        image = Image.fromarray((pixels >> 8).astype(np.uint8))
    return image.convert("RGBA" if image.has_transparency_data else mode)
