"""Cells of DICOM images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nearfar.data import open_images
from readers.support import noise, rejection, warned
from readers.table import cell

RAMP = np.arange(256, dtype=np.uint16).reshape(16, 16)


def write_dicom(path: Path, pixels: np.ndarray, **tags: object) -> Path:
    """Write an uncompressed file of unsigned 12-bit numbers, with tags in place of the usual."""
    pydicom = pytest.importorskip("pydicom", reason="the extra dicom is not installed")
    content = pydicom.Dataset()
    content.file_meta = pydicom.dataset.FileMetaDataset()
    content.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    content.file_meta.MediaStorageSOPClassUID = content.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    content.file_meta.MediaStorageSOPInstanceUID = content.SOPInstanceUID = "1.2.3"
    content.Rows, content.Columns = pixels.shape[-2:] if pixels.ndim == 2 else pixels.shape[:2]
    content.SamplesPerPixel, content.PhotometricInterpretation = 1, "MONOCHROME2"
    content.BitsAllocated, content.BitsStored, content.HighBit = 16, 12, 11
    content.PixelRepresentation = 0
    content.PixelData = pixels.tobytes()
    for name, value in tags.items():
        setattr(content, name, value)
    content.save_as(path, enforce_file_format=True)
    return path


def levels(path: Path, **options: object) -> np.ndarray:
    """Return the gray levels of the only image."""
    return open_images(path, **options)[0][0].numpy()


def color(path: Path, pixels: np.ndarray, **tags: object) -> Path:
    """Write an RGB image."""
    usual = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    bits = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}
    return write_dicom(path, pixels, **usual, **bits, **tags)


@cell("dicom", "orientation", "ignored: the patient's; row 0 is the top")
def orientation(folder: Path) -> None:
    path = write_dicom(
        folder / "a.dcm", RAMP * 16, PatientOrientation=["P", "H"], ImageOrientationPatient=[0] * 6
    )
    assert levels(path)[0, 0] < levels(path)[-1, -1]


@cell("dicom", "size", "obeyed: rows and columns; bombs are skipped")
def size(folder: Path) -> None:
    path = write_dicom(folder / "a.dcm", np.tile(RAMP, (2, 1)))
    assert open_images(path).shape == (1, 32, 16)
    write_dicom(folder / "b.dcm", RAMP, Rows=40_000, Columns=40_000)
    with rejection("b.dcm", "decompression bomb"):
        open_images(folder / "b.dcm")


@cell("dicom", "range", "obeyed: rescale slope and intercept, then the window")
def value_range(folder: Path) -> None:
    path = write_dicom(
        folder / "a.dcm",
        RAMP,
        RescaleSlope=2,
        RescaleIntercept=-100,
        WindowCenter=100.5,
        WindowWidth=201,
    )
    expected = np.clip(np.rint((RAMP * 2.0 - 100) * 255 / 200), 0, 255)
    assert np.abs(levels(path) - expected).max() <= 1
    assert np.abs(levels(path, window=(-100, 410)) - RAMP).max() == 0
    empty = {"RescaleSlope": None, "RescaleIntercept": None}
    path = write_dicom(folder / "d.dcm", RAMP * 16, **empty)
    assert (levels(path, window=(0, 4080)) == RAMP).all()
    exact = write_dicom(
        folder / "b.dcm", RAMP, VOILUTFunction="LINEAR_EXACT", WindowCenter=100, WindowWidth=200
    )
    assert levels(exact)[RAMP >= 200].min() == 255
    curve = write_dicom(
        folder / "c.dcm", RAMP, VOILUTFunction="SIGMOID", WindowCenter=128, WindowWidth=64
    )
    assert abs(int(levels(curve).flat[128]) - 127) <= 1
    assert levels(curve).flat[0] < 5


@cell("dicom", "depth", "obeyed: 8 to 16 bits, signed or not")
def depth(folder: Path) -> None:
    signed = (RAMP.astype(np.int16) - 128) * 16
    path = write_dicom(folder / "a.dcm", signed, PixelRepresentation=1)
    assert np.abs(levels(path).astype(int) - RAMP).max() <= 1
    eight = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}
    path = write_dicom(folder / "b.dcm", RAMP.astype(np.uint8), **eight)
    assert (levels(path) == RAMP).all()
    for high in (11, 13, 15):  # bits outside of the number are those of overlays
        for kind, numbers in ((np.uint16, RAMP * 16), (np.int16, signed)):
            other = 0xFFFF & ~(0xFFF << (high - 11))
            bits = (numbers.astype(np.int64) << (high - 11) & 0xFFFF & ~other) | other
            tags = {"HighBit": high, "PixelRepresentation": int(kind is np.int16)}
            path = write_dicom(folder / "c.dcm", bits.astype(np.uint16), **tags)
            assert np.abs(levels(path).astype(int) - RAMP).max() <= 1, tags
            window = (int(numbers.min()), int(numbers.max()))
            assert np.abs(levels(path, window=window).astype(int) - RAMP).max() == 0, tags
    for tags, why in (({"HighBit": 9}, "12 bits up to bit 9"), ({"BitsStored": 0}, "0 bits")):
        with rejection("c.dcm", why):
            open_images(write_dicom(folder / "c.dcm", RAMP, **tags))


@cell("dicom", "white point", "obeyed: MONOCHROME1, where zero is white; warned: little range")
def white_point(folder: Path) -> None:
    path = write_dicom(folder / "a.dcm", RAMP * 16, PhotometricInterpretation="MONOCHROME1")
    assert levels(path)[0, 0] == 255
    path = write_dicom(folder / "b.dcm", RAMP // 2)
    with warned("b.dcm", "0…127", "--window 0 127"):
        open_images(path)


@cell("dicom", "channels", "obeyed: gray, RGB, palettes")
def channels(folder: Path) -> None:
    pixels = noise(1, 16)[0]
    images = open_images(color(folder / "a.dcm", pixels))
    assert (images[0].permute(1, 2, 0).numpy() == pixels).all()


@cell("dicom", "transparency", "none")
def transparency(folder: Path) -> None:
    assert open_images(write_dicom(folder / "a.dcm", RAMP * 16)).shape[0] == 1


@cell("dicom", "profile", "ignored")
def profile(folder: Path) -> None:
    pixels = noise(1, 16)[0]
    path = color(folder / "a.dcm", pixels, ICCProfile=b"profile ")
    assert (open_images(path)[0].permute(1, 2, 0).numpy() == pixels).all()


@cell("dicom", "count", "skipped: files of several frames")
def count(folder: Path) -> None:
    path = write_dicom(folder / "a.dcm", np.concatenate([RAMP, RAMP]), Rows=16, NumberOfFrames=2)
    with rejection("a.dcm", "2 frames"):
        open_images(path)


@cell("dicom", "time", "ignored: dates")
def time(folder: Path) -> None:
    path = write_dicom(folder / "a.dcm", RAMP * 16, StudyDate="20240101")
    assert len(open_images(path)) == 1


@cell("dicom", "rate", "ignored: a file holds one image")
def rate(folder: Path) -> None:
    path = write_dicom(folder / "a.dcm", RAMP * 16, CineRate="30")
    assert len(open_images(path)) == 1


@cell("dicom", "order", "obeyed: sorted by path, not by instance number")
def order(folder: Path) -> None:
    for number, name in enumerate(("b.dcm", "a.dcm")):
        write_dicom(folder / name, RAMP * 16, InstanceNumber=number)
    assert open_images(folder).names() == ["a.dcm", "b.dcm"]


@cell("dicom", "pairing", "none: classes by sub-folder")
def pairing(folder: Path) -> None:
    for name in ("ill", "well"):
        (folder / name).mkdir()
        write_dicom(folder / name / "IM000001", RAMP * 16)
    assert open_images(folder).classes == ["ill", "well"]


@cell("dicom", "names", "obeyed: also without extension")
def names(folder: Path) -> None:
    write_dicom(folder / "IM000001", RAMP * 16)
    (folder / "LICENSE").write_text("text " * 100)
    with warned("1 file is not named like images: no extension (1)"):
        assert open_images(folder).names() == ["IM000001"]


@cell("dicom", "encoding", "ignored: text about patients")
def encoding(folder: Path) -> None:
    path = write_dicom(
        folder / "a.dcm", RAMP * 16, PatientName="J\u00fcrgen", SpecificCharacterSet="ISO_IR 100"
    )
    assert len(open_images(path)) == 1


@cell("dicom", "root", "skipped: files without an image")
def root(folder: Path) -> None:
    write_dicom(folder / "a.dcm", RAMP, Rows=None, Columns=None)
    with rejection("a.dcm", "without an image"):
        open_images(folder / "a.dcm")


@cell("dicom", "length", "skipped: truncated files")
def length(folder: Path) -> None:
    path = write_dicom(folder / "a.dcm", RAMP * 16)
    write_dicom(folder / "b.dcm", RAMP * 16)
    path.write_bytes(path.read_bytes()[:-100])
    images = open_images(folder)
    assert images.names() == ["b.dcm"]
    assert "'a.dcm'" in images.skipped[0]


@cell("dicom", "nan", "skipped: a window without width, a slope of 0")
def nan(folder: Path) -> None:
    for tags in (
        {"WindowCenter": 10, "WindowWidth": 0},
        {"RescaleSlope": 0, "RescaleIntercept": 0},
    ):
        with rejection("a.dcm"):
            open_images(write_dicom(folder / "a.dcm", RAMP, **tags))


@cell("dicom", "unused", "ignored: overlays, presentations")
def unused(folder: Path) -> None:
    path = write_dicom(folder / "a.dcm", RAMP * 16, ImageComments="comment")
    assert len(open_images(path)) == 1
