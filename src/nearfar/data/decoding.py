"""Image files: headers, pixels and masks.

PIL decodes most formats. Other formats, such as DICOM and TIFF with many bands, are decoded by
separate modules, which are named in `OTHER_EXTENSIONS`, `_other_kind`, `read_header` and
`_decoded`.
"""

from __future__ import annotations

import functools
import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from nearfar.data.color import to_srgb
from nearfar.data.deep import (
    add_pixel_format,
    is_truncated,
    jpeg2000_codec,
    pixel_format,
    png_codec,
    read_jpeg2000,
    read_png,
    read_ppm,
    unscaled,
    unshifted,
)
from nearfar.data.dicom import MAGIC, PREAMBLE, read_dicom, read_dicom_header
from nearfar.data.encoded import (
    Encoded,
    MissingReaderError,
    UnreadableError,
    check_pixels,
    open_bytes,
)
from nearfar.data.images import Shape
from nearfar.data.levels import AS_STATED, HDR_TRANSFERS, Decoding, Depth, RawPixels, Window
from nearfar.data.tiff import (
    MAGICS,
    TiffTags,
    choose_bands,
    read_tiff,
    read_tiff_tags,
    tiff_reader,
    whole_pages,
)
from nearfar.errors import MissingExtraError, require

#: Formats for which PIL runs other programs (EPS would run Ghostscript).
NOT_DECODED_BY_PIL = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
#: Formats for which PIL ignores the scale of pixel values.
MISREAD_BY_PIL = {"FITS"}

#: Formats without their own opener, whose files are read by another format's opener.
OPENED_AS_OTHERS = {"MPO"}

#: Extensions of images that extras read.
OTHER_EXTENSIONS = frozenset({".heic", ".heif", ".hif", ".dcm", ".dicom"})
HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"mif1", b"msf1")

#: EXIF orientations that swap height and width.
SIDES_SWAPPED = {5, 6, 7, 8}
#: Transform that turns an image upright, by EXIF orientation.
TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

#: Formats whose 16-bit values PIL scales to 0…65535, by PIL's mode. Other formats store counts.
SIXTEEN_BITS = {"I": {"PNG", "PPM"}, "I;16": {"JPEG2000", "PNG", "PPM", "TIFF"}}
#: Formats whose additional images belong to the first one, as other views or as layers.
ONE_PICTURE = {"MPO", "PSD"}
#: Animation formats, of which only the first image is used.
ANIMATIONS = {"AVIF", "FLI", "GIF", "PNG", "WEBP"}
#: Formats that may be HDR, and where they state it: the mark before, and the bytes in between.
HDR_FORMATS = {"AVIF", "HEIF", "PNG"}
HDR_MARKS = ((b"cICP", 1), (b"colrnclx", 3))
#: Bytes from the start of a file that are searched for these marks.
HDR_HEAD = 2**14
#: Factors by which PIL scales values to 8 bits, by PIL's raw mode.
SCALED_NUMBERS = {"L;2": 85, "L;4": 17, "RGB;16B": 1 / 256}
#: Readers of deep colors, by PIL's name of the format.
_CODECS = {"JPEG2000": jpeg2000_codec, "PNG": png_codec}
#: Sample format of TIFF for signed integers.
SIGNED = 2


class Header(NamedTuple):
    """Size and pixel format of an encoded image, from its header."""

    size: tuple[int, int]  # height, width, as seen
    gray: bool
    animated: bool = False  # only the first image is read
    orientation: int = 1  # of the stored pixels, by EXIF
    depth: Depth = Depth.LEVELS
    unused_bands: int = 0
    hdr: str | None = None  # transfer function


@functools.cache
def formats() -> tuple[str, ...]:
    """Return the formats that PIL decodes. HEIF is included if the plugin for it is installed."""
    Image.init()
    with suppress(MissingExtraError):
        require("pillow_heif", extra="heic").register_heif_opener(thumbnails=False)
    return tuple(name for name in Image.ID if name not in NOT_DECODED_BY_PIL | MISREAD_BY_PIL)


@functools.cache
def image_extensions() -> frozenset[str]:
    """Return the file extensions of images, in lower case with the dot.

    The extensions of HEIC and DICOM are included even if the extras that read them are not
    installed.

    Examples
    --------
    >>> ".png" in image_extensions()
    True
    """
    known = {*formats(), *OPENED_AS_OTHERS}
    registered = Image.registered_extensions()
    return OTHER_EXTENSIONS | {extension for extension, name in registered.items() if name in known}


def is_dicom(source: Encoded) -> bool:
    """Return whether an encoded image starts with the DICOM signature."""
    try:
        with open_bytes(source) as file:
            return file.read(PREAMBLE + len(MAGIC))[PREAMBLE:] == MAGIC
    except UnreadableError:
        return False


def read_header(source: Encoded, decoding: Decoding = AS_STATED) -> Header:
    """Read the size and pixel format of an image without decoding it.

    Parameters
    ----------
    source : path or bytes
        The encoded image.
    decoding : Decoding
        How pixel values are mapped to gray levels.

    Raises
    ------
    UnreadableError
        If the file is empty, is not an image, or may be a decompression bomb; or if the format
        requires an extra that is not installed.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".png") as file:
    ...     Image.new("L", (30, 20)).save(file.name)
    ...     read_header(file.name).size
    (20, 30)
    """
    other = _other_kind(source, decoding)
    if other is not None:
        with open_bytes(source) as file:
            if isinstance(other, TiffTags):
                tiff_reader()  # raises an error if the extra is missing
                check_pixels(*other.size, other.samples)
                bands = choose_bands(other, decoding)
                unused = 0 if decoding.bands or len(bands) == 1 else other.bands - len(bands)
                height, width = other.size
                if other.orientation in SIDES_SWAPPED:
                    height, width = width, height
                gray = len(bands) == 1
                return Header((height, width), gray, depth=other.depth, unused_bands=unused)
            dicom = read_dicom_header(file)
            return Header(dicom.size, dicom.gray, depth=dicom.depth)
    with open_image_file(source) as image:
        width, height = image.size
        # PIL rotates TIFF images itself, and returns the size after rotation.
        orientation = 1 if image.format == "TIFF" else _orientation(image, source)
        if orientation in SIDES_SWAPPED:
            width, height = height, width
        tags = _tags(image)
        if image.format in _CODECS and _is_beyond_pillow(image, decoding):
            _CODECS[image.format]()  # raises an error if the extra is missing
        return Header(
            (height, width),
            gray=Image.getmodebase(image.mode) == "L",
            animated=image.format in ANIMATIONS and bool(getattr(image, "is_animated", False)),
            orientation=orientation if orientation in TRANSPOSES else 1,
            depth=_depth(image),
            unused_bands=max(0, tags.get(ExifTags.Base.SamplesPerPixel, 0) - len(image.getbands())),
            hdr=_hdr_transfer(source) if image.format in HDR_FORMATS else None,
        )


def read_image(
    source: Encoded, shape: Shape, decoding: Decoding = AS_STATED, *, crop: bool = True
) -> Tensor:
    """Read an image, rotate it upright, scale it to cover `shape`, and center-crop it.

    Transparent pixels are composited over white. Colors are converted to sRGB if the file has a
    color profile or, for PNG, a gamma value. Values of more than 8 bits are mapped to 8 bits by the
    window, the pair of values that become black and white. In 16-bit images without a window, 0 is
    black and 65535 is white.

    Parameters
    ----------
    source : path or bytes
        The encoded image.
    shape : tuple of int
        Shape (channels, height, width) of the result.
    decoding : Decoding
        How pixel values are mapped to gray levels.
    crop : bool
        Whether to crop, so that the aspect ratio is kept. Otherwise, the whole image is stretched
        to `shape`.

    Returns
    -------
    Tensor
        Decoded image (uint8[c, h, w]).

    Raises
    ------
    UnreadableError
        See `read_header`. Also if pixels are damaged or incomplete, or if the values of black and
        white are unknown.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".png") as file:
    ...     Image.new("L", (30, 20), "white").save(file.name)
    ...     pixels = read_image(file.name, (3, 8, 8))
    >>> pixels.shape, pixels.min().item()
    (torch.Size([3, 8, 8]), 255)
    """
    channels, height, width = shape
    mode = "L" if channels == 1 else "RGB"
    with _decoded(source, decoding, mode, 2 * max(height, width)) as (file, pixels, orientation):
        image = pixels.image(decoding.window) if isinstance(pixels, RawPixels) else pixels
        image = _upright(image, orientation)
        image = to_srgb(image, file)
        resize = ImageOps.fit if crop else Image.Image.resize
        image = resize(_as_mode(image, mode), (width, height), Image.Resampling.BILINEAR)
        if image.mode == "RGBA":
            background = Image.new("RGB", image.size, "white")
            background.paste(image, mask=image)
            image = background.convert(mode)
        levels = torch.from_numpy(np.array(image).reshape(height, width, channels))
    return levels.permute(2, 0, 1).contiguous()


def read_range(source: Encoded, decoding: Decoding = AS_STATED) -> Window:
    """Return the smallest and largest values of an image before they are mapped to gray levels.

    Raises
    ------
    UnreadableError
        See `read_image`.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".tif") as file:
    ...     Image.fromarray(np.array([[0.5, 2.0]], np.float32)).save(file.name)
    ...     read_range(file.name)
    (0.5, 2.0)
    """
    # Without a window, images of unknown range would be rejected; raw values do not depend on it.
    any_window = replace(decoding, window=decoding.window or (0, 1))
    with _decoded(source, any_window, "RGB") as (_, pixels, _):
        return pixels.range() if isinstance(pixels, RawPixels) else (0.0, 255.0)


def read_binary_mask(source: Encoded, shape: Shape) -> Tensor:
    """Read a binary mask from an image of any mode.

    A pixel is marked (1) if it is opaque and at least half as bright as the brightest possible
    value, whatever the color or bit depth. The mask is scaled and cropped like an image in
    `read_image`. A pixel of the scaled mask is marked if it covers any part of a marked pixel.

    Parameters
    ----------
    source : path or bytes
        The encoded image.
    shape : tuple of int
        Shape (channels, height, width) of the images that the mask is for. The number of channels
        is not used.

    Returns
    -------
    Tensor
        uint8[1, h, w] with values 0 and 1.

    Raises
    ------
    UnreadableError
        See `read_image`.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".png") as file:
    ...     Image.new("RGB", (8, 8), "red").save(file.name)
    ...     read_binary_mask(file.name, (3, 8, 8)).sum().item()
    64
    """
    _, height, width = shape
    with open_image_file(source) as file:
        loaded = _loaded(file)
        values = _brightness(_upright(loaded, _orientation(file)))
        marked = (values > 0) & (values >= values.max() / 2)
        coverage = ImageOps.fit(
            Image.fromarray(marked.astype(np.float32)), (width, height), Image.Resampling.BILINEAR
        )
    return torch.from_numpy((np.asarray(coverage) > 0).astype(np.uint8)).unsqueeze(0)


@contextmanager
def open_image_file(source: Encoded) -> Iterator[Image.Image]:
    """Open an image with PIL, after checking that it is safe to decode.

    Parameters
    ----------
    source : path, bytes or PIL.Image.Image
        The encoded image. A PIL image is yielded unchanged.

    Yields
    ------
    PIL.Image.Image
        The image, not yet decoded.

    Raises
    ------
    UnreadableError
        See `read_header`. Any error in the ``with`` block is converted to this error, too.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".png") as file:
    ...     Image.new("L", (30, 20)).save(file.name)
    ...     with open_image_file(file.name) as image:
    ...         image.size
    (30, 20)
    """
    if isinstance(source, Image.Image):
        yield source
        return
    try:
        with open_bytes(source) as file, Image.open(file, formats=formats()) as image:
            _check_pages(image, file)
            add_pixel_format(image, file)
            check_pixels(image.height, image.width)
            yield image
    except UnreadableError as error:
        if isinstance(error.__cause__, UnidentifiedImageError):
            raise _unknown(source) from error
        raise


@contextmanager
def _decoded(
    source: Encoded, decoding: Decoding, mode: str, side: int | None = None
) -> Iterator[tuple[dict[Any, Any], Image.Image | RawPixels, int]]:
    """Yield the color metadata of an image, its pixels, and its EXIF orientation.

    If `side` is given, JPEG files may be decoded at a reduced size, with a height and a width of at
    least `side` pixels.
    """
    other = _other_kind(source, decoding)
    if other is not None:
        with open_bytes(source) as file:
            if isinstance(other, TiffTags):
                raw = read_tiff(file, other, decoding)
                yield {"icc_profile": other.profile}, raw, other.orientation
            else:
                yield {}, read_dicom(file, decoding.window), 1
        return
    with open_image_file(source) as image:
        if side is not None:
            profile = image.info.get("icc_profile")
            image.draft(image.mode if profile else mode, (side, side))
        if _is_beyond_pillow(image, decoding):
            with open_bytes(source) as file:
                yield image.info, _deep(file, image), _orientation(image)
        else:
            _scale_transparency(image)
            pixels = _raw_pixels(image, decoding)
            yield image.info, pixels, _orientation(image)


def _loaded(image: Image.Image) -> Image.Image:
    """Decode an image. If the file has an alpha channel, colors are not premultiplied by it."""
    if is_truncated(image):
        raise UnreadableError("a JPEG 2000 file of deep colors: expected another format")
    image.load()
    if image.mode == "La":
        return image.convert("LA")
    opaque = image.mode in ("LA", "RGBA") and not pixel_format(image).alpha
    return image.convert(image.mode.removesuffix("A")) if opaque else image


def _scale_transparency(image: Image.Image) -> None:
    """Scale the transparent color of a PNG file in the way that PIL scales pixel values."""
    key, tile = image.info.get("transparency"), getattr(image, "tile", None)
    factor = SCALED_NUMBERS.get(tile[0].args) if tile and isinstance(tile[0].args, str) else None
    if image.format == "PNG" and factor is not None and isinstance(key, int | tuple):
        scaled = tuple(int(value * factor) for value in np.atleast_1d(key).tolist())
        image.info["transparency"] = scaled if isinstance(key, tuple) else scaled[0]


def _hdr_transfer(source: Encoded) -> str | None:
    """Return the name of the HDR transfer function in a file's metadata, or None."""
    with open_bytes(source) as file:
        head = file.read(HDR_HEAD)
    for mark, between in HDR_MARKS:
        after = head.partition(mark)[2]
        if len(after) > between:
            return HDR_TRANSFERS.get(after[between])
    return None


def _other_kind(source: Encoded, decoding: Decoding) -> TiffTags | Literal["dicom"] | None:
    """Return the TIFF tags or "dicom" for a file that needs another reader than PIL.

    Such files are DICOM files, and TIFF files that PIL cannot read or cannot read at full bit
    depth. Return None for all other files.
    """
    if isinstance(source, Image.Image):
        return None
    with open_bytes(source) as file:
        head = file.read(PREAMBLE + len(MAGIC))
        if head[PREAMBLE:] == MAGIC:
            return "dicom"
        if head[:4] in MAGICS:
            with suppress(Exception):  # PIL reports what is wrong
                file.seek(0)
                tags = read_tiff_tags(file)
                return tags if tags.is_beyond_pillow(decoding) else None
    return None


def _check_pages(image: Image.Image, file: BinaryIO) -> None:
    """Check that a file holds only one image.

    Thumbnails, masks, layers and frames of animations are not counted. In a TIFF file, the page
    that holds the image is selected.
    """
    if image.format in ONE_PICTURE | ANIMATIONS or not getattr(image, "is_animated", False):
        return
    if image.format == "TIFF":
        image.seek(next(iter(whole_pages(file)), 0))
        if ExifTags.Base.InterColorProfile not in _tags(image):
            image.info.pop("icc_profile", None)  # of an earlier page
    elif (pages := getattr(image, "n_frames", 1)) > 1:
        raise UnreadableError(f"{pages} images in one file: expected a file for each")


def _tags(image: Image.Image) -> Any:
    """Return the tags of a TIFF file. For other formats, return an empty mapping."""
    return getattr(image, "tag_v2", {})


def _unknown(source: Encoded) -> UnreadableError:
    """Return an error that describes a file that PIL does not recognize."""
    with open_bytes(source) as file:
        head = file.read(12)
    if head[4:8] == b"ftyp" and head[8:12] in HEIC_BRANDS:
        if "HEIF" not in formats():
            return MissingReaderError("a HEIC image", "heic")
        return UnreadableError("a damaged HEIC image")
    return UnreadableError("not an image")


def _orientation(image: Image.Image, source: Encoded | None = None) -> int:
    """Return the EXIF orientation (1 to 8), or 1 if it cannot be read without decoding pixels."""
    try:
        # PngImageFile.getexif would decode the pixels.
        exif = Image.Image.getexif(image)
        if source is not None and image.format == "PNG" and not exif:
            exif = _late_exif(source)
        return int(exif.get(ExifTags.Base.Orientation, 1))
    except Exception:  # pixels may be intact although the EXIF block is damaged
        return 1


def _late_exif(source: Encoded) -> Image.Exif:
    """Read an EXIF block that follows the pixels in a PNG file."""
    exif = Image.Exif()
    with open_bytes(source) as file:
        file.seek(8)  # signature
        while len(head := file.read(8)) == 8:
            length, name = struct.unpack(">I4s", head)
            if name == b"eXIf":
                exif.load(b"Exif\0\0" + file.read(length))
                break
            file.seek(length + 4, io.SEEK_CUR)
    return exif


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    """Rotate or flip an image upright, according to its EXIF orientation."""
    transpose = TRANSPOSES.get(orientation)
    return image if transpose is None else image.transpose(transpose)


def _depth(image: Image.Image) -> Depth:
    """Return how the pixel values of an image opened by PIL map to black and white."""
    if image.mode == "F" or _is_signed(image) or pixel_format(image).bits > 16:
        return Depth.UNKNOWN
    if image.mode.startswith("I"):
        known = image.format in SIXTEEN_BITS[image.mode.rstrip("BLN")]
        return Depth.FULL if known else Depth.UNKNOWN
    return Depth.FULL if _is_deep_color(image) else Depth.LEVELS


def _is_signed(image: Image.Image) -> bool:
    tags = _tags(image)
    return pixel_format(image).signed or SIGNED in np.atleast_1d(
        tags.get(ExifTags.Base.SampleFormat, 1)
    )


def _is_beyond_pillow(image: Image.Image, decoding: Decoding) -> bool:
    """Return whether PIL cannot read an image at the bit depth that is required.

    A window requires the full bit depth.
    """
    return is_truncated(image) or (decoding.window is not None and _is_deep_color(image))


def _deep(file: BinaryIO, image: Image.Image) -> RawPixels:
    """Read the pixel values of an image that PIL cannot read at full bit depth."""
    if image.format == "PNG":
        return read_png(file)
    return read_ppm(file, image) if image.format == "PPM" else read_jpeg2000(file, image)


def _is_deep_color(image: Image.Image) -> bool:
    """Return whether PIL does not keep all bits of colors that have more than 8 bits."""
    if image.format == "PPM":
        return image.mode == "RGB" and pixel_format(image).white > 255
    if image.format == "JPEG2000":
        return is_truncated(image)
    if image.format == "PNG":
        tile = next(iter(getattr(image, "tile", ())), None)
        return tile is not None and ";16" in str(tile[3]) and not image.mode.startswith("I")
    bits = _tags(image).get(ExifTags.Base.BitsPerSample, 8)
    return image.format == "TIFF" and image.mode == "RGB" and bool(np.max(bits) > 8)


def _raw_pixels(image: Image.Image, decoding: Decoding) -> Image.Image | RawPixels:
    """Decode an image. Return its pixel values unscaled if they have more than 8 bits."""
    loaded = _loaded(image)
    depth = _depth(image)
    if depth is Depth.LEVELS or not image.mode.startswith(("F", "I", "L")):
        return loaded
    values = np.asarray(image)
    tags = _tags(image)
    inverted = tags.get(ExifTags.Base.PhotometricInterpretation, 1) == 0
    file_format = pixel_format(image)
    if image.format == "JPEG2000" and (depth is Depth.UNKNOWN or decoding.window is not None):
        stated = None if depth is Depth.UNKNOWN else (0, file_format.white)
        return RawPixels(unshifted(values, file_format), stated)
    if image.format == "PPM" and depth is Depth.FULL and decoding.window is not None:
        return RawPixels(unscaled(values, file_format.white), (0, file_format.white))
    if depth is Depth.UNKNOWN:
        if image.mode == "L":
            values = values.view(np.int8)
        elif image.mode == "I" and not _is_signed(image):
            values = values.view(np.uint32)
        return RawPixels(values, None, inverted)
    values = values.astype(np.uint16)
    transparent = image.info.get("transparency")
    alpha = (values != transparent) * np.uint8(255) if isinstance(transparent, int) else None
    if 12 in np.atleast_1d(tags.get(ExifTags.Base.BitsPerSample, 16)) and decoding.window is None:
        values = np.left_shift(values, 4, dtype=np.uint16)
    return RawPixels(values, (0, 65535), inverted, alpha)


def _brightness(image: Image.Image) -> npt.NDArray[Any]:
    """Return the largest color value of each pixel ([h, w]). Transparent pixels count as black."""
    if image.mode == "F" or image.mode.startswith("I"):
        return np.asarray(image)
    *colors, alpha = np.moveaxis(np.asarray(image.convert("RGBA")), -1, 0)
    return np.minimum(np.maximum.reduce(colors), alpha)


def _as_mode(image: Image.Image, mode: str) -> Image.Image:
    """Convert an image to `mode`, or to RGBA if some pixels may be transparent."""
    return image.convert("RGBA" if image.has_transparency_data else mode)
