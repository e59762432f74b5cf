"""TIFF files that Pillow cannot fully read: colors of more than 8 bits, floats, and many bands."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import islice
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import ExifTags, TiffImagePlugin

from nearfar.data.encoded import (
    UndefinedColorsError,
    UnreadableError,
    check_pixels,
    require_reader,
)
from nearfar.data.levels import Decoding, Depth, RawPixels

MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
#: Data types of samples, by the tag SampleFormat.
UNSIGNED, SIGNED, FLOAT = 1, 2, 3
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB = 0, 1, 2
#: Values of the tag ExtraSamples for alpha: premultiplied and straight.
MULTIPLIED, PLAIN = 1, 2
#: Subfile types of pages that are a smaller copy of another page, or its mask.
REDUCED_PAGE, MASK_PAGE = 1, 4
#: Value of the tag PlanarConfiguration for bands that are stored one after another.
_SEPARATE = 2
#: Maximum number of pages to read; in a damaged file, a page may name itself as the next one.
_MAX_PAGES = 100


class TiffTags(NamedTuple):
    """Pixel format of the image in a TIFF file, as stated by the tags."""

    size: tuple[int, int]
    bits: int
    samples: int
    kind: int
    photometric: int
    alpha: int
    orientation: int
    profile: bytes | None
    page: int = 0
    alpha_at: int = 0  # index among the samples
    separate: bool = False
    layout: tuple[Any, ...] = ()  # of a gray pixel, as Pillow names it

    @property
    def bands(self) -> int:
        """Number of samples per pixel, without alpha."""
        return self.samples - bool(self.alpha)

    @property
    def depth(self) -> Depth:
        """How pixel values map to black and white."""
        if self.kind == UNSIGNED and self.bits <= 16:
            return Depth.LEVELS if self.bits <= 8 else Depth.FULL
        return Depth.UNKNOWN

    @property
    def has_choice(self) -> bool:
        """Whether the file has bands that are not declared as colors."""
        return self.bands > 3 or (self.photometric == BLACK_IS_ZERO and self.bands > 1)

    def is_beyond_pillow(self, decoding: Decoding) -> bool:
        """Return whether Pillow cannot read all of the pixels."""
        if self.photometric == RGB:
            # Pillow reads separate 16-bit bands as bytes, and does not read most additional bands.
            deep = self.bits > 8 and (self.separate or decoding.window is not None)
            further = self.separate and self.samples > 3 + (self.alpha == PLAIN)
            chosen = self.has_choice and decoding.bands is not None
            odd = self.kind != UNSIGNED or self.bits not in (8, 16)
            return deep or further or chosen or odd
        if self.photometric > RGB:
            return self.is_garbled
        if self.samples == 1:
            deep = self.separate and self.bits > 8
            return deep or self.layout not in TiffImagePlugin.OPEN_INFO
        return self.bands > 1 or self.bits > 8 or self.separate

    @property
    def is_garbled(self) -> bool:
        """Whether Pillow would read wrong values, and no other reader knows the color space."""
        return self.photometric > RGB and self.separate and self.bits > 8


def is_part(tags: Any) -> bool:
    """Return whether tags mark a page as a smaller copy or a mask of another page."""
    return bool(tags.get(ExifTags.Base.NewSubfileType, 0) & (REDUCED_PAGE | MASK_PAGE))


def whole_pages(file: BinaryIO) -> list[int]:
    """Return the indices of the pages that are images.

    Smaller copies and masks of other pages do not count. Indices start at 0.

    Raises
    ------
    UnreadableError
        If there are several images.
    """
    parts = [is_part(tags) for tags in _directories(file)]
    whole = [page for page, part in enumerate(parts) if not part]
    _check_count(len(whole), len(parts))
    return whole


def _check_count(images: int, pages: int) -> None:
    if images > 1:
        more = " or more" * (pages == _MAX_PAGES)
        raise UnreadableError(f"{images}{more} images in one file: expected a file for each")


def _directories(file: BinaryIO) -> Iterator[Any]:
    """Yield the tags of each page of a TIFF file."""
    file.seek(0)
    head = file.read(8)
    if head[2:3] == b"+" or head[3:4] == b"+":
        head += file.read(8)
    seen: set[int] = set()
    start = TiffImagePlugin.ImageFileDirectory_v2(head).next
    while start and start not in seen and len(seen) < _MAX_PAGES:
        seen.add(start)
        tags: Any = TiffImagePlugin.ImageFileDirectory_v2(head)
        file.seek(start)
        tags.load(file)
        yield tags
        start = tags.next


def read_tiff_tags(file: BinaryIO) -> TiffTags:
    """Read the tags of the first page that is an image. Absent tags have their default values."""
    page, tags = 0, next(_directories(file))
    for number, each in enumerate(_directories(file) if is_part(tags) else ()):
        if not is_part(each):
            page, tags = number, each
            break

    def first(tag: ExifTags.Base, default: int) -> int:
        value = tags.get(tag, default)
        return int(value[0] if isinstance(value, tuple) else value)

    bits = first(ExifTags.Base.BitsPerSample, 1)
    kind = first(ExifTags.Base.SampleFormat, UNSIGNED)
    photometric = first(ExifTags.Base.PhotometricInterpretation, BLACK_IS_ZERO)
    samples = first(ExifTags.Base.SamplesPerPixel, 1)
    order = first(ExifTags.Base.FillOrder, 1)
    alpha = first(ExifTags.Base.ExtraSamples, 0)
    return TiffTags(
        (first(ExifTags.Base.ImageLength, 0), first(ExifTags.Base.ImageWidth, 0)),
        bits,
        samples,
        kind,
        photometric,
        alpha if alpha in (MULTIPLIED, PLAIN) else 0,
        first(ExifTags.Base.Orientation, 1),
        tags.get(ExifTags.Base.InterColorProfile),
        page,
        samples - np.size(tags.get(ExifTags.Base.ExtraSamples, ())),
        first(ExifTags.Base.PlanarConfiguration, 1) == _SEPARATE,
        (tags.prefix, photometric, (kind,), order, (bits,), ()),
    )


def choose_bands(tags: TiffTags, decoding: Decoding) -> list[int]:
    """Return the indices of the bands to use, from 0.

    Raises
    ------
    UnreadableError
        If it is unknown which bands are colors, a band does not exist, or the color space is not
        supported.
    """
    if tags.is_garbled:
        raise UnreadableError(
            f"separate bands of {tags.bits} bits in colors other than red, green and blue"
        )
    if not tags.has_choice or (tags.photometric == RGB and decoding.bands is None):
        return [0, 1, 2] if tags.photometric == RGB else [0]
    if decoding.bands is None:
        raise UndefinedColorsError(
            f"{tags.bands} bands, none of which is declared as a color",
            "name one or three, such as --bands 3 2 1",
        )
    if max(decoding.bands) > tags.bands:
        raise UnreadableError(f"{tags.bands} bands: there is no band {max(decoding.bands)}")
    hidden = tags.alpha_at if tags.alpha else tags.samples
    return [band - (band <= hidden) for band in decoding.bands]


def tiff_reader() -> Any:
    """Return tifffile; raise `MissingReaderError` if it is not installed."""
    tifffile = require_reader("tifffile", kind="a TIFF file of deep colors or bands", extra="tiff")
    if not (log := logging.getLogger("tifffile")).handlers:
        log.addHandler(logging.NullHandler())  # errors are raised, too
    return tifffile


def read_tiff(file: BinaryIO, tags: TiffTags, decoding: Decoding) -> RawPixels:
    """Read the selected bands at full bit depth.

    Raises
    ------
    UnreadableError
        See `choose_bands`. Also if the file holds several images.
    """
    bands = choose_bands(tags, decoding)
    check_pixels(*tags.size, tags.samples)
    tifffile = tiff_reader()
    with tifffile.TiffFile(file) as content:
        page = content.pages[tags.page]
        pages = list(islice(content.pages, _MAX_PAGES))
        whole = [each for each in pages if not each.is_reduced and not each.is_mask]
        _check_count(len(whole), len(pages))
        pixels = page.asarray()
        if page.axes.startswith("S"):
            pixels = np.moveaxis(pixels, 0, -1)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[:2] != tags.size:
        raise UnreadableError(f"pixels of shape {pixels.shape}: expected an image")
    values = pixels[..., bands]
    alpha = None
    if tags.alpha and tags.kind == UNSIGNED:
        coverage = pixels[..., tags.alpha_at]
        alpha = (coverage >> max(0, tags.bits - 8)).astype(np.uint8)
        if tags.alpha == MULTIPLIED:
            white = 2**tags.bits - 1
            values = values / (np.maximum(coverage, 1) / white)[..., None]
            values = np.minimum(values, white).astype(pixels.dtype)
    return RawPixels(
        np.ascontiguousarray(values.squeeze(-1) if len(bands) == 1 else values),
        None if tags.depth is Depth.UNKNOWN else (0, 2**tags.bits - 1),
        tags.photometric == WHITE_IS_ZERO,
        alpha,
    )
