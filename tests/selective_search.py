"""OpenCV's selective search, for tests that need it."""

from __future__ import annotations

import pytest


def needs_selective_search() -> None:
    """Skip a test where OpenCV lacks selective search."""
    module = pytest.importorskip("cv2.ximgproc")
    if not hasattr(module, "segmentation"):
        pytest.skip("another OpenCV package has overwritten opencv-contrib-python-headless")
