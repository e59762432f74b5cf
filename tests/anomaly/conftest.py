"""Fixtures of the anomaly tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clips import QUICK, SMALL, scene, write_clip
from nearfar.anomaly import fit_detector, open_clips


@pytest.fixture(scope="session")
def normal(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("normal")
    for number in range(4):
        write_clip(root / f"Train{number}", scene(1, seed=number))
    return root


@pytest.fixture(scope="session")
def abnormal(tmp_path_factory) -> Path:
    """A clip that is normal for 30 frames and then too fast, with its masks."""
    root = tmp_path_factory.mktemp("abnormal")
    clip = np.concatenate([scene(1, 30, seed=9), scene(3, 30, seed=9)])
    masks = np.zeros(clip.shape, np.uint8)
    masks[30:] = (clip[30:] == 220) * 255
    write_clip(root / "Test1", clip)
    write_clip(root / "Test1_gt", masks)
    return root


@pytest.fixture(scope="session")
def fitted(tmp_path_factory, normal) -> Path:
    folder = tmp_path_factory.mktemp("run") / "detector"
    fit_detector(open_clips(normal), folder, SMALL, QUICK)
    return folder
