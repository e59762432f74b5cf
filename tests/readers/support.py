"""What cases share: the command line with its output, and the one line of a rejection."""

from __future__ import annotations

import contextlib
import io
import struct
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import ExifTags
from torch import Tensor

from nearfar.cli import main
from nearfar.cli.main import ending_in_one_line
from nearfar.errors import NearfarError


class Said(NamedTuple):
    """Exit code and output of a command."""

    code: int
    out: str
    err: str


def command(*arguments: object) -> Said:
    """Run a command line in this process."""
    return _said(lambda: main([str(argument) for argument in arguments]))


def call(function: Callable[..., None], *arguments: object, **options: object) -> Said:
    """Run the function of a command without its command line, which takes most of the time."""

    def run() -> None:
        with ending_in_one_line():
            function(*arguments, **options)

    return _said(run)


def _said(run: Callable[[], None]) -> Said:
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            run()
        except SystemExit as stop:
            code = int(stop.code or 0)
    return Said(code, out.getvalue(), err.getvalue())


def rejected(said: Said, *words: str) -> None:
    """Check that a command ended with one line, exit code 2 and these words."""
    assert said.code == 2, said
    lines = [line for line in said.err.splitlines() if line.startswith("nearfar: ")]
    assert len(lines) == 1, said.err
    assert said.err.splitlines()[-1] == lines[0], said.err
    for word in words:
        assert word in lines[0], lines[0]


@contextlib.contextmanager
def rejection(*words: str) -> Iterator[None]:
    """Check that the context raises a one-line error with these words."""
    with pytest.raises(NearfarError) as caught:
        yield
    text = str(caught.value)
    assert "\n" not in text
    for word in words:
        assert word in text, text


def listing(folder: Path) -> dict[str, bytes]:
    """Return the content of all files below a folder, to check that nothing changes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def pattern(height: int = 24, width: int = 16, channels: int = 3) -> np.ndarray:
    """Return an image whose top left quarter is white: uint8[h, w, 3], or [h, w] if gray."""
    pixels = np.zeros((height, width, channels), np.uint8)
    pixels[: height // 2, : width // 2] = 255
    return pixels[..., 0] if channels == 1 else pixels


def noise(count: int = 6, side: int = 12) -> np.ndarray:
    """Return random color images, uint8[n, side, side, 3]."""
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def bright_corner(image: Tensor) -> tuple[str, str]:
    """Return where an image, [c, h, w], is brightest: ("top" or "bottom", "left" or "right")."""
    gray = image.float().mean(0)
    down, right = (gray.mean(1 - axis) for axis in (0, 1))
    top = down[: len(down) // 2].sum() > down[len(down) // 2 :].sum()
    left = right[: len(right) // 2].sum() > right[len(right) // 2 :].sum()
    return "top" if top else "bottom", "left" if left else "right"


@contextlib.contextmanager
def warned(*words: str) -> Iterator[None]:
    """Check that the context warns with these words."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    texts = [str(each.message) for each in caught]
    assert any(all(word in text for word in words) for text in texts), texts


def write_tiff(path: Path, pixels: np.ndarray, **tags: int) -> None:
    """Write an uncompressed gray TIFF file with tags of our choice.

    Parameters
    ----------
    pixels : ndarray
        [h, w] of any number type.
    **tags : int
        Values by name of the tag, in place of the usual ones.
    """
    kind = {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    values = {
        "ImageWidth": pixels.shape[1],
        "ImageLength": pixels.shape[0],
        "BitsPerSample": 8 * pixels.itemsize,
        "Compression": 1,
        "PhotometricInterpretation": 1,
        "StripOffsets": 0,
        "SamplesPerPixel": 1,
        "RowsPerStrip": pixels.shape[0],
        "StripByteCounts": pixels.nbytes,
        "SampleFormat": kind,
    } | tags
    numbers = {name: getattr(ExifTags.Base, name).value for name in values}
    values["StripOffsets"] = 8 + 2 + 12 * len(values) + 4
    entries = b"".join(
        struct.pack("<HHII", numbers[name], 4, 1, values[name])
        for name in sorted(values, key=numbers.__getitem__)
    )
    head = struct.pack("<2sHIH", b"II", 42, 8, len(values)) + entries + bytes(4)
    data = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<")).tobytes()
    path.write_bytes(head + data)
