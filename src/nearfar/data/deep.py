"""Pixel values of more than 8 bits that Pillow scales or truncates (PNG, JPEG 2000, PPM)."""

from __future__ import annotations

import io
import struct
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, PpmImagePlugin

from nearfar.data.encoded import UnreadableError, check_pixels, require_reader
from nearfar.data.levels import RawPixels

#: Start of the pixels of a JPEG 2000 file.
_CODESTREAM = b"\xff\x4f\xff\x51"
#: Key under which this module adds the pixel format to `Image.info`.
_KEY = "nearfar stored"


class PixelFormat(NamedTuple):
    """Pixel format of a file before Pillow scales values.

    `alpha` states whether the last band is an alpha channel.
    """

    white: int = 255
    bits: int = 8
    signed: bool = False
    same_bits: bool = True  # all bands have the same number of bits
    alpha: bool = True


def add_pixel_format(image: Image.Image, file: BinaryIO) -> None:
    """Add the pixel format of a file to an image that PIL has opened, but not decoded."""
    if image.format == "PPM":
        decoder, _, _, form = _tile(image)
        if decoder == "raw":
            white = 65535 if "I;16B" in form else 255
        else:
            white = form[1] if isinstance(form, tuple) else 255
        image.info[_KEY] = PixelFormat(white)
    elif image.format == "TGA":
        file.seek(17)
        image.info[_KEY] = PixelFormat(alpha=bool(file.read(1)[0] & 15))
    elif image.format == "JPEG2000":
        image.info[_KEY] = _read_components(file)


def pixel_format(image: Image.Image) -> PixelFormat:
    """Return the pixel format that `add_pixel_format` added to an image.

    The default is 8 bits.
    """
    file_format = image.info.get(_KEY, PixelFormat())
    return file_format if isinstance(file_format, PixelFormat) else PixelFormat()


def is_truncated(image: Image.Image) -> bool:
    """Return whether Pillow drops the high bits of a JPEG 2000 file."""
    if image.format != "JPEG2000":
        return False
    bits, signed = pixel_format(image).bits, pixel_format(image).signed
    if image.mode == "I;16":
        return bits > 16
    return bits > 8 or (signed and image.mode != "L")


def png_codec() -> Any:
    """Return imagecodecs; raise `MissingReaderError` if it is not installed."""
    return require_reader("imagecodecs", kind="a PNG file of 16-bit colors", extra="tiff")


def jpeg2000_codec() -> Any:
    """Return imagecodecs; raise `MissingReaderError` if it is not installed."""
    return require_reader("imagecodecs", kind="a JPEG 2000 file of deep colors", extra="tiff")


def read_png(file: BinaryIO) -> RawPixels:
    """Read the 16-bit colors of a PNG file; Pillow would drop the low bytes."""
    values = png_codec().png_decode(file.read())
    return _with_alpha(values, (0, 65535), 8)


def read_jpeg2000(file: BinaryIO, image: Image.Image) -> RawPixels:
    """Read the pixel values of a JPEG 2000 file that Pillow would truncate.

    Raises
    ------
    UnreadableError
        If the colors are CMYK, bands differ in bit depth, or the size differs from the header.
    """
    if image.mode == "CMYK":
        raise UnreadableError("a JPEG 2000 file of deep CMYK colors")
    values = np.atleast_3d(jpeg2000_codec().jpeg2k_decode(file.read()))
    file_format = pixel_format(image)
    if not file_format.same_bits:
        raise UnreadableError("a JPEG 2000 file whose bands differ in bit depth")
    if values.shape[:2] != (image.height, image.width):
        raise UnreadableError(f"pixels of shape {values.shape}: expected those of the header")
    known = file_format.bits <= 16 and not file_format.signed
    return _with_alpha(
        values, (0, file_format.white) if known else None, max(0, file_format.bits - 8)
    )


def read_ppm(file: BinaryIO, image: Image.Image) -> RawPixels:
    """Read the colors of a PPM file with values above 255, which Pillow would reduce to 8 bits."""
    decoder, _, start, _ = _tile(image)
    kind = b"P2" if decoder == "ppm_plain" else b"P5"
    white = pixel_format(image).white
    file.seek(start)
    # Pillow keeps all bits of gray images: as gray, the same file is three times as wide.
    head = b"%s %d %d %d\n" % (kind, 3 * image.width, image.height, white)
    with PpmImagePlugin.PpmImageFile(io.BytesIO(head + file.read())) as gray:
        values = unscaled(np.asarray(gray), white)
    return RawPixels(values.reshape(image.height, image.width, 3), (0, white))


def unscaled(values: npt.NDArray[Any], white: int) -> npt.NDArray[np.uint16]:
    """Scale values from 0…65535 back to 0…`white`.

    Examples
    --------
    >>> unscaled(np.array([0, 32776, 65535]), 4095).tolist()
    [0, 2048, 4095]
    """
    return np.rint(values * (white / 65535)).astype(np.uint16)


def unshifted(values: npt.NDArray[Any], pixel_format: PixelFormat) -> npt.NDArray[Any]:
    """Return the gray values of a JPEG 2000 file as stored, undoing the shift by Pillow."""
    low = values >> (8 * values.itemsize - pixel_format.bits)
    return low.astype(np.int32) - 2 ** (pixel_format.bits - 1) if pixel_format.signed else low


def _with_alpha(
    values: npt.NDArray[Any], stated: tuple[float, float] | None, shift: int
) -> RawPixels:
    colors = values.shape[-1] - (values.shape[-1] in (2, 4))
    opaque = colors == values.shape[-1] or values.dtype.kind == "i"
    alpha = None if opaque else (values[..., -1] >> shift).astype(np.uint8)
    values = np.ascontiguousarray(values[..., 0] if colors == 1 else values[..., :colors])
    return RawPixels(values, stated, alpha=alpha)


def _read_components(file: BinaryIO) -> PixelFormat:
    """Read the pixel format of a JPEG 2000 file."""
    file.seek(0)
    if file.read(4) != _CODESTREAM:
        _seek_codestream(file)
    # Length, capabilities, eight sizes and offsets, and then the components.
    right, bottom, left, top, count = struct.unpack(">4x4I16xH", file.read(38))
    check_pixels(bottom - top, right - left)  # PIL has read the size in another box
    depths = file.read(3 * count)[::3]
    bits = [(depth & 0x7F) + 1 for depth in depths]
    return PixelFormat(2 ** max(bits) - 1, max(bits), depths[0] >= 0x80, len(set(bits)) == 1)


def _tile(image: Image.Image) -> Any:
    """Return PIL's decoding instructions for an image: decoder, region, file offset and format."""
    tiles: list[Any] = getattr(image, "tile", [])
    return tiles[0]


def _seek_codestream(file: BinaryIO) -> None:
    """Seek to the first byte after the start marker of the pixel data in a JP2 file."""
    file.seek(0)
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        start = 8
        if length == 1:
            (length,), start = struct.unpack(">Q", file.read(8)), 16
        if kind == b"jp2c":
            file.seek(len(_CODESTREAM), io.SEEK_CUR)
            return
        if length < start:
            break
        file.seek(length - start, io.SEEK_CUR)
    raise UnreadableError("a JPEG 2000 file without pixels")
