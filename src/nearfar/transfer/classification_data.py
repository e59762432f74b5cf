"""Images and the presence of classes in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nearfar.data import FolderImages, Images, Subset, hold_out, labels_like, require_labels
from nearfar.errors import NearfarError
from nearfar.progress import Track, silent
from nearfar.transfer.annotations import read_presence
from nearfar.transfer.devkit import IMAGE_FOLDER, Devkit
from nearfar.transfer.pictures import read_each

_Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ClassificationSet:
    """Images and the presence of classes in them.

    Parameters
    ----------
    images : Images
        n images.
    presence : int8[n, k]
        Presence of each class in each image: 1 if present, −1 if absent, 0 to ignore.
    classes : sequence of str
        Names of the k classes.
    single_label : bool
        Whether exactly one class is present in each image.

    Examples
    --------
    >>> from nearfar.data import ArrayImages
    >>> images = ArrayImages(np.zeros((2, 3, 64, 64), np.uint8))
    >>> presence = np.array([[1, -1], [-1, 1]], np.int8)
    >>> ClassificationSet(images, presence, ["cat", "dog"], single_label=True).labels
    array([0, 1])
    """

    images: Images
    presence: npt.NDArray[np.int8]
    classes: Sequence[str]
    single_label: bool

    @property
    def labels(self) -> _Rows:
        """Class of each image, int64[n], if there is exactly one per image."""
        return self.presence.argmax(1)


def single_label_set(images: Images, labels: _Rows, rows: _Rows) -> ClassificationSet:
    """Return the given rows of images with a single label per image.

    Parameters
    ----------
    labels : int64[n]
        Class numbers of all images.
    rows : int64[m]
        Rows to include.

    Examples
    --------
    >>> from nearfar.data import ArrayImages
    >>> labels = np.array([0, 1, 1])
    >>> images = ArrayImages(np.zeros((3, 3, 64, 64), np.uint8), labels)
    >>> single_label_set(images, labels, np.array([2])).presence
    array([[-1,  1]], dtype=int8)
    """
    classes = images.classes or [str(label) for label in range(int(labels.max()) + 1)]
    present = labels[rows, None] == np.arange(len(classes))
    presence = np.where(present, np.int8(1), np.int8(-1))
    return ClassificationSet(Subset(images, rows), presence, classes, single_label=True)


def split_labeled_images(
    images: Images,
    test: Images | None = None,
    *,
    labels_per_class: int | None = None,
    seed: int = 0,
) -> tuple[ClassificationSet, ClassificationSet]:
    """Return training and test sets of images with a single label per image.

    Parameters
    ----------
    images : Images
        Training images. If `test` is not given, a fifth of each class is held out as test images.
    test : Images, optional
        Test images.
    labels_per_class : int, optional
        Number of training images per class. Default: all.
    seed : int
        Seed of the random choice of images.

    Raises
    ------
    NearfarError
        If there are no labels, or the classes of training and test images differ.

    Examples
    --------
    >>> from nearfar.data import ArrayImages
    >>> images = ArrayImages(np.zeros((20, 3, 64, 64), np.uint8), np.arange(20) % 2)
    >>> train, test = split_labeled_images(images)
    >>> len(train.images), len(test.images)
    (16, 4)
    """
    images = _with_class_names(images)
    labels = require_labels(images)
    if len(np.unique(labels)) < 2:
        raise NearfarError(f"all images of {images.name!r} are of one class: expected several")
    if test is None:
        rows, held_out = hold_out(images, seed)
        test_set = single_label_set(images, labels, held_out)
    else:
        test, rows = _with_class_names(test), np.arange(len(images))
        test.labels, test.classes = labels_like(test, images), images.classes
        test_set = single_label_set(test, test.labels, np.arange(len(test)))
    if labels_per_class is not None:
        rows = subsample_per_class(labels, rows, labels_per_class, seed)
    return single_label_set(images, labels, rows), test_set


def subsample_per_class(labels: _Rows, rows: _Rows, count: int, seed: int) -> _Rows:
    """Return `count` random rows per class, or all rows of smaller classes, in ascending order.

    Raises
    ------
    NearfarError
        If `count` is less than 1.

    Examples
    --------
    >>> labels = np.array([0, 0, 0, 1])
    >>> rows = subsample_per_class(labels, np.arange(4), 1, seed=0)
    >>> labels[rows]
    array([0, 1])
    """
    if count < 1:
        raise NearfarError(f"labels_per_class={count}: expected at least 1")
    shuffled = np.random.default_rng(seed).permutation(rows)
    chosen = [shuffled[labels[shuffled] == label][:count] for label in np.unique(labels)]
    return np.sort(np.concatenate(chosen))


def open_classification_set(
    devkit: Devkit, split: str, size: int, track: Track = silent
) -> ClassificationSet:
    """Open the images of a devkit split, and read which classes are present in them.

    Parameters
    ----------
    split : str
        Name of the split.
    size : int
        Side length to which images are scaled, as squares, in pixels.

    Raises
    ------
    NearfarError
        If a file of the devkit cannot be used, or no class is present.

    Examples
    --------
    >>> from pathlib import Path
    >>> import tempfile
    >>> from nearfar.transfer import write_scenes
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     devkit = Devkit.open(write_scenes(Path(folder, "VOC"), 4))
    ...     open_classification_set(devkit, "train", 64).presence.shape
    (2, 3)
    """
    names = devkit.split("Main", split)
    presence = read_presence(devkit, split, names)
    if not (presence == 1).any():
        raise NearfarError(
            f"no class is present in the split {split!r} of {str(devkit.root)!r}: expected some"
        )
    images = open_devkit_images(devkit, names, size, track)
    if not images.in_memory:
        for _ in read_each(devkit, names, Devkit.image, track):
            pass
    return ClassificationSet(images, presence, devkit.classes, single_label=False)


def open_devkit_images(
    devkit: Devkit, names: Sequence[str], size: int, track: Track = silent
) -> FolderImages:
    """Open images of a devkit, scaled to squares, uint8[3, size, size]."""
    files = [devkit.image(name).name for name in names]
    return FolderImages(
        devkit.root / IMAGE_FOLDER,
        files,
        name=str(devkit.root),
        size=size,
        channels=3,
        strict=True,
        progress=track,
    )


def _with_class_names(images: Images) -> Images:
    """Return the images with class names, which are the class numbers by default."""
    named = Subset(images, np.arange(len(images)))
    if named.classes is None:
        numbers, named.labels = np.unique(require_labels(named), return_inverse=True)
        named.classes = [str(number) for number in numbers]
    return named
