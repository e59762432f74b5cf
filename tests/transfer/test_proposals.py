"""Region proposals."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from nearfar.errors import NearfarError
from nearfar.transfer import (
    propose,
    read_objects,
)
from selective_search import needs_selective_search


def test_propose_covers_objects_and_caches(devkit, tmp_path):
    needs_selective_search()
    from torchvision.ops import box_iou

    names = devkit.split("Main", "val")
    boxes = propose(devkit, names, tmp_path / "kept")
    best = []
    for name, each in zip(names, boxes, strict=True):
        objects = read_objects(devkit, name)
        assert each.min() >= 0
        assert (each[:, 2] <= 128).all()
        overlaps = box_iou(torch.from_numpy(objects.boxes), torch.from_numpy(each))
        best += overlaps.max(1).values.tolist()
    assert np.mean(np.array(best) > 0.5) > 0.9
    kept = tmp_path / "kept" / f"{names[0]}.npy"
    np.save(kept, np.array([[1, 2, 3, 4]], np.float32))
    assert propose(devkit, names[:1], tmp_path / "kept")[0].tolist() == [[1, 2, 3, 4]]
    for damage in (b"", b"nothing"):
        kept.write_bytes(damage)
        with pytest.raises(NearfarError, match=f"{names[0]}.npy"):
            propose(devkit, names[:1], tmp_path / "kept")
    np.save(kept, np.zeros(3))
    with pytest.raises(NearfarError, match="no boxes"):
        propose(devkit, names[:1], tmp_path / "kept")


def test_propose_is_deterministic(devkit, tmp_path):
    needs_selective_search()
    names = devkit.split("Main", "val")[:1]
    first, again = (propose(devkit, names, tmp_path / part) for part in "ab")
    assert np.array_equal(first[0], again[0])


def test_propose_raises_without_selective_search(devkit, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2.ximgproc", None)
    with pytest.raises(NearfarError, match=r"^cv2.ximgproc is not installed: .*detection"):
        propose(devkit, devkit.split("Main", "val")[:1], tmp_path)
