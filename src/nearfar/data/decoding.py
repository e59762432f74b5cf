"""Image files: headers, pixels and masks."""

from __future__ import annotations

import functools
import io
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError, features
from torch import Tensor

from nearfar.data.images import Shape
from nearfar.errors import reason

#: Formats that PIL passes to other programs (EPS would run Ghostscript).
NOT_DECODED_BY_PIL = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}

#: Formats without an opener of their own, whose files the opener of another format reads.
OPENED_AS_OTHERS = {"MPO"}

#: EXIF orientations that swap height and width.
SIDES_SWAPPED = {5, 6, 7, 8}
#: What turns an image of each EXIF orientation upright.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

#: Formats that PIL reads with 16-bit numbers scaled to 0…65535, by PIL's mode. Others store counts.
SIXTEEN_BITS = {"I": {"PNG", "PPM"}, "I;16": {"JPEG2000", "PNG", "PPM", "TIFF"}}
#: Formats whose further images belong to the first: other views of it, or its layers.
ONE_PICTURE = {"MPO", "PSD"}
#: Formats of animations, whose first image stands for all.
ANIMATIONS = {"AVIF", "FLI", "GIF", "PNG", "WEBP"}
#: Subfile types of TIFF that are a smaller copy of another page, or its mask.
REDUCED_PAGE, MASK_PAGE = 1, 4
SIGNED = 2

#: Exponent of sRGB's encoding of light, as PNG files state it.
SRGB_GAMMA = 1 / 2.2
#: Largest change of a color, of 255, by a profile that counts as sRGB.
PROFILE_TOLERANCE = 3


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
    animated: bool = False  # only the first image is read
    orientation: int = 1  # of the stored pixels, by EXIF


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
    known = {*formats(), *OPENED_AS_OTHERS}
    return frozenset(ending for ending, name in registered.items() if name in known)


def read_header(path: str | os.PathLike[str]) -> Header:
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
    Header(size=(20, 30), gray=True, animated=False, orientation=1)
    """
    path = Path(path)
    with open_image_file(path) as image:
        width, height = image.size
        # PIL turns TIFF images itself, and returns the size after that.
        orientation = 1 if image.format == "TIFF" else _orientation(image, path)
        if orientation in SIDES_SWAPPED:
            width, height = height, width
        animated = image.format in ANIMATIONS and getattr(image, "is_animated", False)
        gray = Image.getmodebase(image.mode) == "L"
        return Header(
            (height, width), gray, bool(animated), orientation if orientation in TURNS else 1
        )


def read_image(path: str | os.PathLike[str], shape: Shape) -> Tensor:
    """Read the pixels of an image: turned upright, scaled to cover `shape`, center cropped.

    Transparent pixels are put on white; 16-bit pixels are reduced to their high byte; colors of an
    embedded profile, or of a PNG file that states its gamma, are converted to sRGB.

    Parameters
    ----------
    path : str or path
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
    path = Path(path)
    channels, height, width = shape
    mode = "L" if channels == 1 else "RGB"
    with open_image_file(path) as file:
        profile = file.info.get("icc_profile")
        # A JPEG decodes fastest at a fraction of its size; twice the target keeps it sharp.
        file.draft(file.mode if profile else mode, (2 * max(height, width),) * 2)
        file.load()
        image = _upright(_to_eight_bits(file), _orientation(file))
        image = _as_mode(_with_gamma(_in_srgb(image, profile), file.info), mode)
        image = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
        if image.mode == "RGBA":
            background = Image.new("RGB", image.size, "white")
            background.paste(image, mask=image)
            image = background.convert(mode)
        pixels = torch.from_numpy(np.array(image).reshape(height, width, channels))
    return pixels.permute(2, 0, 1).contiguous()


def read_binary_mask(path: str | os.PathLike[str], shape: Shape) -> Tensor:
    """Read a mask of marked pixels from an image of any mode.

    A pixel is marked if it is opaque and at least half as bright as the brightest, whatever its
    color or depth. The mask is scaled and cropped like images by `read_image`; a scaled pixel is
    marked if it covers any part of a marked one.

    Parameters
    ----------
    path : str or path
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
    path = Path(path)
    _, height, width = shape
    with open_image_file(path) as file:
        file.load()
        values = _brightness(_upright(file, _orientation(file)))
        marked = (values > 0) & (values >= values.max() / 2)
        shares = ImageOps.fit(
            Image.fromarray(marked.astype(np.float32)), (width, height), Image.Resampling.BILINEAR
        )
    return torch.from_numpy((np.asarray(shares) > 0).astype(np.uint8)).unsqueeze(0)


@contextmanager
def open_image_file(path: str | os.PathLike[str]) -> Iterator[Image.Image]:
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
    path = Path(path)
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
            _check_pages(image)
            yield image
    except UnreadableError:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableError(_kind_of(path)) from error
    except Exception as error:  # a damaged file makes PIL raise nearly anything
        raise UnreadableError(reason(error)) from error


def _check_pages(image: Image.Image) -> None:
    """Check that a file holds one image, apart from thumbnails, masks, layers and animations."""
    if image.format in ONE_PICTURE | ANIMATIONS or not getattr(image, "is_animated", False):
        return
    pages = total = getattr(image, "n_frames", 1)
    if image.format == "TIFF":
        pages = 0
        for page in range(total):
            image.seek(page)
            tags = getattr(image, "tag_v2", {})
            pages += not tags.get(ExifTags.Base.NewSubfileType, 0) & (REDUCED_PAGE | MASK_PAGE)
        image.seek(0)
    if pages > 1:
        raise UnreadableError(f"{pages} images in one file: expected a file for each")


def _kind_of(path: Path) -> str:
    """Say what a file is that is no known image."""
    with path.open("rb") as file:
        head = file.read(12)
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"hevc", b"heim", b"mif1"):
        return "a HEIC image, which Pillow does not read: convert it to JPEG"
    return "not an image"


def _orientation(image: Image.Image, path: Path | None = None) -> int:
    """Return the EXIF orientation, 1…8, as known without decoding."""
    try:
        # PngImageFile.getexif would decode the pixels.
        exif = Image.Image.getexif(image)
        if path is not None and image.format == "PNG" and not exif:
            exif = _late_exif(path)
        return int(exif.get(ExifTags.Base.Orientation, 1))
    except Exception:  # pixels may be fine where the EXIF block is damaged
        return 1


def _late_exif(path: Path) -> Image.Exif:
    """Read the EXIF block of a PNG file that follows its pixels."""
    exif = Image.Exif()
    with path.open("rb") as file:
        file.seek(8)  # signature
        while len(head := file.read(8)) == 8:
            length, name = struct.unpack(">I4s", head)
            if name == b"eXIf":
                exif.load(b"Exif\0\0" + file.read(length))
                break
            file.seek(length + 4, io.SEEK_CUR)
    return exif


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    """Turn an image by its EXIF orientation."""
    turn = TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Reduce 16-bit pixels to their high byte; reject pixels whose black or white is unknown."""
    if image.mode == "F":
        raise UnreadableError("float pixels, whose white is unknown: expected 8 or 16 bits")
    integers = image.mode.startswith("I")
    if integers and image.format not in SIXTEEN_BITS[image.mode.rstrip("BLN")]:
        bits = "32-bit" if image.mode == "I" else f"16-bit {image.format}"
        raise UnreadableError(f"{bits} pixels, whose white is unknown: expected 8 or 16 bits")
    tags = getattr(image, "tag_v2", {})
    if SIGNED in np.atleast_1d(tags.get(ExifTags.Base.SampleFormat, 1)):
        raise UnreadableError("signed pixels, whose black is unknown: expected unsigned ones")
    if not integers:
        return image
    pixels = np.asarray(image).astype(np.uint16)
    transparent = image.info.get("transparency")
    opacity = (pixels != transparent) * np.uint8(255) if isinstance(transparent, int) else None
    if 12 in np.atleast_1d(tags.get(ExifTags.Base.BitsPerSample, 16)):
        pixels = np.left_shift(pixels, 4, dtype=np.uint16)
    if tags.get(ExifTags.Base.PhotometricInterpretation, 1) == 0:  # white is zero
        pixels = ~pixels
    reduced = Image.fromarray((pixels >> 8).astype(np.uint8))
    if opacity is not None:
        reduced.putalpha(Image.fromarray(opacity))
    return reduced


def _brightness(image: Image.Image) -> npt.NDArray[Any]:
    """Return the largest color value per pixel, [h, w], where transparent pixels are black."""
    if image.mode == "F" or image.mode.startswith("I"):
        return np.asarray(image)
    *colors, opacity = np.moveaxis(np.asarray(image.convert("RGBA")), -1, 0)
    return np.minimum(np.maximum.reduce(colors), opacity)


def _as_mode(image: Image.Image, mode: str) -> Image.Image:
    """Convert an image to a mode, or to RGBA if it is partly transparent."""
    return image.convert("RGBA" if image.has_transparency_data else mode)


def _in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert the colors of an embedded profile to sRGB; damaged profiles are ignored."""
    if not profile or not features.check("littlecms2"):
        return image
    if image.mode not in ("L", "RGB", "RGBA", "CMYK"):  # palettes, gray with opacity, one bit
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    transform = _transform(profile, image.mode)
    if transform is None:
        return image
    if isinstance(transform, list):
        return image.point(transform)
    from PIL import ImageCms

    return ImageCms.applyTransform(image, transform) or image


def _with_gamma(image: Image.Image, info: dict[Any, Any]) -> Image.Image:
    """Convert the levels of a PNG file that states its gamma, and no other profile, to sRGB's."""
    gamma = info.get("gamma", SRGB_GAMMA)
    if "srgb" in info or info.get("icc_profile") or not 0.1 < gamma / SRGB_GAMMA < 10:
        return image
    table = 255 * (np.arange(256) / 255) ** (SRGB_GAMMA / gamma)
    levels = np.rint(table).astype(int).tolist()
    if np.abs(table - np.arange(256)).max() <= PROFILE_TOLERANCE:
        return image
    image = image.convert("RGBA" if image.has_transparency_data else image.mode.replace("P", "RGB"))
    alpha = image.mode in ("LA", "RGBA")
    return image.point(levels * (len(image.getbands()) - alpha) + list(range(256)) * alpha)


@functools.lru_cache(64)
def _transform(profile: bytes, mode: str) -> Any:
    """Return the conversion from a profile to sRGB; None if there is none, or it changes nothing.

    Of gray images, it is a table of 256 values.
    """
    from PIL import ImageCms

    try:
        given = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = {"GRAY": "L", "RGB ": "RGB", "CMYK": "CMYK"}.get(given.profile.xcolor_space)
        if space != mode.removesuffix("A"):
            return None
        target = "RGBA" if mode == "RGBA" else "RGB"
        srgb = ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(given, srgb, mode, target)
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return None
    if mode == "CMYK":
        return transform
    steps = np.arange(256) if mode == "L" else np.linspace(0, 255, 6)
    colors = np.stack(np.meshgrid(*[steps.astype(np.uint8)] * len(space)), -1)
    palette = Image.fromarray(colors.reshape(1, -1, len(space)).squeeze(-1 if mode == "L" else ()))
    palette = palette.convert(mode)
    made = ImageCms.applyTransform(palette, transform) or palette
    changes = np.abs(
        np.asarray(made.convert("RGB")).astype(int) - np.asarray(palette.convert("RGB"))
    )
    if changes.max() <= PROFILE_TOLERANCE:
        return None
    return list(made.getchannel(0).tobytes()) if mode == "L" else transform
