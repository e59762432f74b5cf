"""DICOM images, rescaled and windowed as specified in their headers."""

from __future__ import annotations

from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from nearfar.data.encoded import UnreadableError, check_pixels, require_reader
from nearfar.data.levels import Depth, RawPixels, Window

#: Bytes after the preamble of 128 bytes.
MAGIC = b"DICM"
PREAMBLE = 128
#: Transfer syntax of the only compression that preserves the positions of all bits.
_RLE = "1.2.840.10008.1.2.5"
#: Tags of the linear map from stored values to rescaled values; the default is the identity.
_RESCALE = {"RescaleSlope": 1, "RescaleIntercept": 0}


class DicomHeader(NamedTuple):
    """Size, color and depth of the image in a DICOM file."""

    size: tuple[int, int]
    gray: bool
    depth: Depth


def read_dicom_header(file: BinaryIO) -> DicomHeader:
    """Read the header of a DICOM file.

    Raises
    ------
    UnreadableError
        If the file holds no image, several images, or more pixels than PIL allows.
    """
    return _check(_pydicom().dcmread(file, stop_before_pixels=True))


def read_dicom(file: BinaryIO, window: Window | None = None) -> RawPixels:
    """Return the pixel values of an image after rescaling, and its window.

    Parameters
    ----------
    file : binary file
        DICOM file.
    window : (low, high), optional
        Values of black and white after rescaling, in place of those in the file.

    Raises
    ------
    UnreadableError
        See `read_dicom_header`.
    """
    data = _pydicom().dcmread(file)
    header = _check(data)
    for name, default in _RESCALE.items():
        if data.get(name) in (None, ""):  # an empty value counts as absent
            setattr(data, name, default)
    pixels = require_reader("pydicom.pixels", kind="a DICOM image", extra="dicom")
    stored = _stored(data)
    if not header.gray:
        if data.PhotometricInterpretation == "PALETTE COLOR":
            stored = pixels.apply_color_lut(stored, data)
            return RawPixels(stored, (0, np.iinfo(stored.dtype).max))
        return RawPixels(stored, (0, 2 ** int(data.BitsStored) - 1))
    values = pixels.apply_modality_lut(stored, data).astype(np.float32)
    stated = _range(data, pixels)
    if window is None and _is_curved(data):
        with np.errstate(over="ignore"):
            values = pixels.apply_voi_lut(values.astype(np.int64), data).astype(np.float32)
        stated = _range_of_curve(data, pixels)
    elif (center := _first(data, "WindowCenter")) is not None:
        width = _first(data, "WindowWidth") or 0.0
        # PS3.3 C.11.2.1.2: from the center of the lowest value to that of the highest.
        exact = data.get("VOILUTFunction", "LINEAR") == "LINEAR_EXACT"
        center, width = (center, width) if exact else (center - 0.5, width - 1)
        if width <= 0:
            raise UnreadableError(f"a window of width {width:g}: expected a positive width")
        stated = (center - width / 2, center + width / 2)
    return RawPixels(values, stated, inverted=data.PhotometricInterpretation == "MONOCHROME1")


def _stored(data: Any) -> npt.NDArray[Any]:
    """Return the stored pixel values, from the bits that the header specifies.

    Raises
    ------
    UnreadableError
        If the header specifies bits that do not exist; or, in color or compressed files, bits other
        than the lowest.
    """
    allocated, bits, high = int(data.BitsAllocated), int(data.BitsStored), data.get("HighBit")
    end = bits if high is None or high == "" else int(high) + 1
    if not 0 < bits <= end <= allocated:
        raise UnreadableError(f"{bits} bits up to bit {end - 1}, of {allocated}")
    if end == bits:
        return np.asarray(data.pixel_array)
    syntax = data.file_meta.TransferSyntaxUID
    if data.SamplesPerPixel != 1 or (syntax.is_compressed and syntax != _RLE):
        raise UnreadableError(f"{bits} bits up to bit {end - 1}: expected the lowest bits")
    data.BitsStored = allocated  # otherwise pydicom clears bits above the lowest
    stored: npt.NDArray[Any] = data.pixel_array
    data.BitsStored = bits
    # Shift to the top and back down: other bits vanish, and the sign is extended.
    return (stored << (allocated - end)) >> (allocated - bits)


def _pydicom() -> Any:
    pydicom = require_reader("pydicom", kind="a DICOM image", extra="dicom")
    # Most files violate rules for text values, which do not affect pixels.
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    return pydicom


def _check(data: Any) -> DicomHeader:
    """Check that a data set holds one image, and return its header."""
    height, width = int(data.get("Rows") or 0), int(data.get("Columns") or 0)
    if not height or not width:
        raise UnreadableError("a DICOM file without an image")
    frames = int(data.get("NumberOfFrames") or 1)
    if frames > 1:
        raise UnreadableError(f"a DICOM file of {frames} frames: expected a file for each")
    check_pixels(height, width)
    if not str(data.PhotometricInterpretation).startswith("MONOCHROME"):
        return DicomHeader((height, width), False, Depth.LEVELS)
    stated = _is_curved(data) or _first(data, "WindowCenter") is not None
    return DicomHeader((height, width), True, Depth.STATED if stated else Depth.FULL)


def _first(data: Any, name: str) -> float | None:
    """Return the first value of a DICOM element, or None if the element is absent."""
    value = data.get(name)
    if value is None or value == "":
        return None
    return float(value[0] if isinstance(value, list | tuple) or hasattr(value, "insert") else value)


def _is_curved(data: Any) -> bool:
    """Return whether a table or a sigmoid, instead of a window, defines the gray levels."""
    return bool(data.get("VOILUTSequence")) or data.get("VOILUTFunction") == "SIGMOID"


def _range(data: Any, pixels: Any) -> Window:
    """Return the smallest and largest possible pixel values after rescaling."""
    bits, signed = int(data.BitsStored), bool(data.PixelRepresentation)
    ends = np.array([-(2 ** (bits - 1)), 2 ** (bits - 1) - 1] if signed else [0, 2**bits - 1])
    low, high = sorted(map(float, pixels.apply_modality_lut(ends, data)))
    if low == high:
        raise UnreadableError("a rescale slope of 0")
    return low, high


def _range_of_curve(data: Any, pixels: Any) -> Window:
    """Return the values of black and white in the output of a table or a sigmoid."""
    if data.get("VOILUTSequence"):
        return 0.0, float(2 ** int(data.VOILUTSequence[0].LUTDescriptor[2]) - 1)
    with np.errstate(over="ignore"):
        low, high = pixels.apply_voi_lut(np.array([-1e9, 1e9]), data)
    return float(low), float(high)
