"""TIFF files that Pillow cannot fully read: deep colors, floats, many bands."""

from __future__ import annotations

import logging
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
from nearfar.data.levels import Decoding, Depth, Numbers

MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
#: Kinds of numbers, by the tag SampleFormat.
UNSIGNED, SIGNED, FLOAT = 1, 2, 3
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB = 0, 1, 2
#: Values of the tag ExtraSamples that mean opacity; of the first, colors are multiplied by it.
MULTIPLIED, PLAIN = 1, 2
#: Most pages that are looked at: in a damaged file, each may name itself as the next.
_MAX_PAGES = 100


class TiffTags(NamedTuple):
    """Pixel description on the first page of a TIFF file."""

    size: tuple[int, int]
    bits: int
    samples: int
    kind: int
    photometric: int
    alpha: int
    orientation: int
    profile: bytes | None

    @property
    def bands(self) -> int:
        """Number of samples per pixel, without opacity."""
        return self.samples - bool(self.alpha)

    @property
    def depth(self) -> Depth:
        """Whether the values need a window."""
        if self.kind == UNSIGNED and self.bits <= 16:
            return Depth.LEVELS if self.bits <= 8 else Depth.FULL
        return Depth.UNKNOWN

    @property
    def has_choice(self) -> bool:
        """Whether the file has bands that are not declared as colors."""
        return self.bands > 3 or (self.photometric == BLACK_IS_ZERO and self.bands > 1)

    def is_beyond_pillow(self, decoding: Decoding) -> bool:
        """Whether Pillow cannot read all of the pixels."""
        if self.photometric == RGB:
            deep = self.bits > 8 and decoding.window is not None
            return deep or self.kind != UNSIGNED or (self.has_choice and decoding.bands is not None)
        wide = self.bits > 32 or (self.kind == FLOAT and self.bits != 32)
        several = self.bands > 1 or (self.samples > 1 and self.bits > 8)
        return self.photometric <= BLACK_IS_ZERO and (several or wide)


def read_tiff_tags(file: BinaryIO) -> TiffTags:
    """Read the description on the first page; tags with default values may be absent."""
    head = file.read(8)
    if head[2:3] == b"+" or head[3:4] == b"+":
        head += file.read(8)
    tags: Any = TiffImagePlugin.ImageFileDirectory_v2(head)
    file.seek(tags.next)
    tags.load(file)

    def first(tag: ExifTags.Base, usual: int) -> int:
        value = tags.get(tag, usual)
        return int(value[0] if isinstance(value, tuple) else value)

    return TiffTags(
        (first(ExifTags.Base.ImageLength, 0), first(ExifTags.Base.ImageWidth, 0)),
        first(ExifTags.Base.BitsPerSample, 1),
        first(ExifTags.Base.SamplesPerPixel, 1),
        first(ExifTags.Base.SampleFormat, UNSIGNED),
        first(ExifTags.Base.PhotometricInterpretation, BLACK_IS_ZERO),
        kind if (kind := first(ExifTags.Base.ExtraSamples, 0)) in (MULTIPLIED, PLAIN) else 0,
        first(ExifTags.Base.Orientation, 1),
        tags.get(ExifTags.Base.InterColorProfile),
    )


def choose_bands(tags: TiffTags, decoding: Decoding) -> list[int]:
    """Return the indices of the bands to use, from 0.

    Raises
    ------
    UnreadableError
        If it is not known which bands are colors, or a band does not exist.
    """
    if not tags.has_choice or (tags.photometric == RGB and decoding.bands is None):
        return [0, 1, 2] if tags.photometric == RGB else [0]
    if decoding.bands is None:
        raise UndefinedColorsError(
            f"{tags.bands} bands, of which none is said to be a color",
            "name one or three, such as --bands 3 2 1",
        )
    if max(decoding.bands) > tags.bands:
        raise UnreadableError(f"{tags.bands} bands: there is no band {max(decoding.bands)}")
    return [band - 1 for band in decoding.bands]


def tiff_reader() -> Any:
    """Return tifffile; raise `MissingReaderError` if it is not installed."""
    tifffile = require_reader("tifffile", kind="a TIFF file of deep colors or bands", extra="tiff")
    if not (log := logging.getLogger("tifffile")).handlers:
        log.addHandler(logging.NullHandler())  # errors are raised, too
    return tifffile


def read_tiff(file: BinaryIO, tags: TiffTags, decoding: Decoding) -> Numbers:
    """Read some bands at full depth.

    Raises
    ------
    UnreadableError
        See `choose_bands`; or if the file holds several images.
    """
    bands = choose_bands(tags, decoding)
    check_pixels(*tags.size, tags.samples)
    tifffile = tiff_reader()
    with tifffile.TiffFile(file) as content:
        page = content.pages[0]
        pages = list(islice(content.pages, _MAX_PAGES))
        whole = [each for each in pages if not each.is_reduced and not each.is_mask]
        if len(whole) > 1:
            more = " or more" * (len(pages) == _MAX_PAGES)
            raise UnreadableError(
                f"{len(whole)}{more} images in one file: expected a file for each"
            )
        pixels = page.asarray()
        if page.axes.startswith("S"):
            pixels = np.moveaxis(pixels, 0, -1)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[:2] != tags.size:
        raise UnreadableError(f"pixels of shape {pixels.shape}: expected an image")
    values = pixels[..., bands]
    opacity = None
    if tags.alpha and tags.kind == UNSIGNED:
        opacity = (pixels[..., tags.bands] >> max(0, tags.bits - 8)).astype(np.uint8)
    if opacity is not None and tags.alpha == MULTIPLIED:
        white = 2**tags.bits - 1
        shares = np.maximum(pixels[..., tags.bands :][..., :1], 1) / white
        values = np.minimum(values / shares, white).astype(values.dtype)
    return Numbers(
        np.ascontiguousarray(values.squeeze(-1) if len(bands) == 1 else values),
        None if tags.depth is Depth.UNKNOWN else (0, 2**tags.bits - 1),
        tags.photometric == WHITE_IS_ZERO,
        opacity,
    )
