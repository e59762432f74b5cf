"""Digits as image files, and a run on them."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from program import QUICK, run


@pytest.fixture(scope="module")
def folder(tmp_path_factory, digits, digit_labels) -> Path:
    """Digits as image files in a folder for each class."""
    root = tmp_path_factory.mktemp("data") / "digits"
    for row in range(250):
        path = root / f"digit {digit_labels[row]}" / f"{row:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits[row]).save(path)
    return root


@pytest.fixture(scope="module")
def trained(tmp_path_factory, folder) -> Path:
    """A run on these."""
    out = tmp_path_factory.mktemp("runs") / "run"
    assert run("train", folder, "--out", out, *QUICK) == 0
    return out
