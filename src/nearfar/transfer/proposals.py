"""Boxes that may hold objects, by selective search [1]_, found once and kept.

References
----------
.. [1] J. Uijlings et al., "Selective search for object recognition", IJCV 2013.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nearfar.errors import NearfarError, require
from nearfar.files import atomic_path
from nearfar.progress import Track, silent
from nearfar.transfer.devkit import Devkit
from nearfar.transfer.scenes import read_scaled, true_size

#: Images whose shorter side is longer are searched at this size: larger ones take seconds each.
SIDE = 320
#: Boxes with a shorter side, in the pixels searched in, are left out.
SMALLEST = 8
MOST = 2000

Boxes = npt.NDArray[np.float32]


def propose(
    devkit: Devkit, names: Sequence[str], folder: Path, track: Track = silent
) -> list[Boxes]:
    """Return boxes for each image, float32[m, 4] as `Objects` has them, at most 2,000.

    Those that are in the folder are read, the others are searched for and kept there.

    Raises
    ------
    NearfarError
        If OpenCV is not installed, or an image or a file of the folder cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return [_of(devkit, name, folder) for name in track(names, "proposing", len(names))]


def _of(devkit: Devkit, name: str, folder: Path) -> Boxes:
    path = folder / f"{name}.npy"
    if not path.is_file():
        boxes = _search(devkit, name)
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.save(file, boxes, allow_pickle=False)
        return boxes
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise NearfarError(f"{str(path)!r} is damaged: remove it") from error
    if found.ndim != 2 or found.shape[1] != 4 or found.dtype != np.float32:
        raise NearfarError(f"{str(path)!r} holds no boxes: remove it")
    return found


def _search(devkit: Devkit, name: str) -> Boxes:
    # A part of OpenCV that its packages without "contrib" lack.
    ximgproc = require("cv2.ximgproc", extra="detection")
    height, width = true_size(devkit, name)
    image, scale = read_scaled(devkit, name, min(SIDE, height, width))
    pixels = (image.flip(0).permute(1, 2, 0) * 255).byte().contiguous().numpy()
    search = ximgproc.segmentation.createSelectiveSearchSegmentation()
    search.setBaseImage(pixels)
    search.switchToSelectiveSearchFast()
    found = search.process().astype(np.float32)
    # Left, top, width, height. OpenCV ranks them by chance: the order is ours.
    found = np.unique(found[found[:, 2:].min(1) >= SMALLEST], axis=0)
    if len(found) > MOST:
        found = found[np.sort(np.random.default_rng(0).permutation(len(found))[:MOST])]
    found[:, 2:] += found[:, :2]
    corner = np.array([width, height, width, height])
    return np.clip(found / scale, 0, corner).astype(np.float32)
