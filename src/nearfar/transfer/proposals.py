"""Region proposals from selective search [1]_, computed once per image.

References
----------
.. [1] J. Uijlings et al., "Selective search for object recognition", IJCV 2013.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nearfar.errors import NearfarError, require
from nearfar.files import atomic_path, remove_abandoned
from nearfar.progress import Track, silent
from nearfar.transfer.devkit import Devkit
from nearfar.transfer.pictures import Picture, picture_size, read_scaled
from nearfar.transfer.storage import make_folder

#: Maximum shorter side of an image. Larger images are scaled down, since they take seconds each.
_MAX_SHORTER_SIDE = 320
#: Minimum side of a box, in pixels of the searched image.
_MIN_BOX_SIDE = 8
_MAX_BOXES = 2000

Boxes = npt.NDArray[np.float32]


def propose(
    devkit: Devkit,
    names: Sequence[str],
    folder: str | os.PathLike[str] | None = None,
    track: Track = silent,
) -> list[Boxes]:
    """Return region proposals from selective search for images of a devkit.

    Parameters
    ----------
    devkit : Devkit
        Devkit that contains the images.
    names : sequence of str
        Names of the images.
    folder : Path, optional
        Cache folder, with one file per image. Default: no cache.
    track : Track
        Progress display, see `nearfar.progress.Track`.

    Returns
    -------
    list of float32[m, 4]
        At most 2,000 boxes for each image: left, top, right and bottom edge in pixels, as in
        `Objects`.

    Raises
    ------
    NearfarError
        If OpenCV is not installed, or an image or a file in the cache folder cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> from nearfar.transfer import write_scenes
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     devkit = Devkit.open(write_scenes(Path(folder, "VOC"), 4))
    ...     (boxes,) = propose(devkit, ["scene_0000"])
    >>> boxes.dtype, boxes.shape[1]
    (dtype('float32'), 4)
    """
    folder = None if folder is None else Path(folder)
    if folder is not None:
        make_folder(folder)
    return [_cached(devkit, name, folder) for name in track(names, "proposing", len(names))]


def selective_search(picture: Picture) -> Boxes:
    """Return region proposals from selective search for an image (float32[m, 4]).

    Selective search needs OpenCV.

    Parameters
    ----------
    picture : path or uint8[h, w, 3]
        Image file or pixels.

    Raises
    ------
    NearfarError
        If OpenCV is not installed, or the image cannot be read.

    Examples
    --------
    >>> picture = np.zeros((60, 80, 3), np.uint8)
    >>> picture[20:40, 30:50] = 255
    >>> boxes = selective_search(picture)
    >>> boxes.shape[1]
    4
    """
    # Only OpenCV's contrib packages contain selective search.
    ximgproc = require("cv2.ximgproc", extra="detection")
    if not hasattr(ximgproc, "segmentation"):
        raise NearfarError(
            "cv2.ximgproc has no selective search, since another OpenCV package has overwritten "
            "it: "
            "remove that, and reinstall opencv-contrib-python-headless"
        )
    height, width = picture_size(picture)
    image, scale = read_scaled(picture, min(_MAX_SHORTER_SIDE, height, width))
    pixels = (image.flip(0).permute(1, 2, 0) * 255).byte().contiguous().numpy()
    search = ximgproc.segmentation.createSelectiveSearchSegmentation()
    search.setBaseImage(pixels)
    search.switchToSelectiveSearchFast()
    boxes = search.process().astype(np.float32).reshape(-1, 4)
    # Left, top, width, height, in OpenCV's random order.
    boxes = np.unique(boxes[boxes[:, 2:].min(1) >= _MIN_BOX_SIDE], axis=0)
    if len(boxes) > _MAX_BOXES:
        boxes = boxes[np.sort(np.random.default_rng(0).permutation(len(boxes))[:_MAX_BOXES])]
    boxes[:, 2:] += boxes[:, :2]
    corner = np.array([width, height, width, height])
    return np.clip(boxes / scale, 0, corner).astype(np.float32)


def _cached(devkit: Devkit, name: str, folder: Path | None) -> Boxes:
    if folder is None:
        return selective_search(devkit.image(name))
    path = folder / f"{name}.npy"
    if not path.is_file():
        remove_abandoned(path)
        boxes = selective_search(devkit.image(name))
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.save(file, boxes, allow_pickle=False)
        return boxes
    try:
        boxes = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise NearfarError(f"{str(path)!r} is damaged: remove it") from error
    if boxes.ndim != 2 or boxes.shape[1] != 4 or boxes.dtype != np.float32:
        raise NearfarError(f"{str(path)!r} holds no boxes: remove it")
    return boxes
