"""Kinds of images whose extra is not installed: named with their number, never lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nearfar.data import open_images
from nearfar.errors import NearfarError
from readers.cells_dicom import RAMP, write_dicom

#: Reads a folder without pillow-heif.
WITHOUT_HEIC = """
import sys
sys.modules["pillow_heif"] = None
from nearfar.data import open_images
images = open_images(sys.argv[1])
print(len(images), *images.skipped, sep="\\n")
"""


def test_heic_is_counted_and_the_extra_named(tmp_path: Path) -> None:
    Image.new("L", (16, 16), "white").save(tmp_path / "a.png")
    for name in ("b.heic", "c.HEIC"):
        (tmp_path / name).write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_HEIC, tmp_path], capture_output=True, text=True, check=True
    )
    count, *skipped = done.stdout.splitlines()
    assert count == "1"
    assert skipped == [
        f"'{name}': a HEIC image, which requires pip install 'nearfar[heic]'"
        for name in ("b.heic", "c.HEIC")
    ]
    assert "2 files are not used, each a HEIC image: run pip install 'nearfar[heic]'" in done.stderr


@pytest.mark.parametrize(
    ("module", "extra", "kind"),
    [
        ("pydicom", "dicom", "a DICOM image"),
        ("tifffile", "tiff", "a TIFF file of deep colors or bands"),
        ("imagecodecs", "tiff", "a JPEG 2000 file of deep colors"),
    ],
)
def test_missing_extras_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, extra: str, kind: str
) -> None:
    pytest.importorskip(module)
    if extra == "dicom":
        write_dicom(tmp_path / "a.dcm", RAMP)
    elif module == "imagecodecs":
        import imagecodecs

        deep = imagecodecs.jpeg2k_encode(np.full((16, 16, 3), 65535, np.uint16), level=0)
        (tmp_path / "a.jp2").write_bytes(deep)
    else:
        import tifffile

        tifffile.imwrite(tmp_path / "a.tif", np.zeros((16, 16), np.float64))
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        NearfarError, match=rf"{kind}, which requires pip install 'nearfar\[{extra}\]"
    ):
        open_images(tmp_path)
    Image.new("L", (16, 16), "white").save(tmp_path / "b.png")
    with pytest.warns(UserWarning, match=rf"1 files are not used, each {kind}"):
        assert len(open_images(tmp_path)) == 1
