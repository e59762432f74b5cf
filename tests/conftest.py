"""What tests share."""

from __future__ import annotations

import os

# Two test processes with two threads each would wait for each other on two cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave modules without tests to the tests that import them; doctest would import a copy."""
    helper = collection_path.suffix == ".py" and not collection_path.stem.startswith("test_")
    return True if helper else None


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data sets, or a skip that says where it was looked for."""
    root = Path(os.environ.get("NEARFAR_DATA", SHARED_DATA))
    if not root.is_dir():
        pytest.skip(f"no real data: set NEARFAR_DATA, or put the data sets in {root}")
    return root


@pytest.fixture(scope="session")
def digits() -> np.ndarray:
    """1,797 real digits of 8×8 pixels, uint8[n, 8, 8], that ship with scikit-learn."""
    return (load_digits().images * 15.9).astype(np.uint8)


@pytest.fixture(scope="session")
def digit_labels() -> np.ndarray:
    """Their labels, int64[n]."""
    return load_digits().target


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A browser, or a skip."""
    if CHROMIUM is None:
        pytest.skip("no Chromium: install Debian's package chromium")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as tool:
        running = tool.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()
