"""Labeled images for classification, with one or several classes per image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nearfar.data import FolderImages, Images, Subset, labels_like, require_labels, stratified_split
from nearfar.errors import NearfarError
from nearfar.progress import Track, silent
from nearfar.transfer.annotations import read_presence
from nearfar.transfer.devkit import IMAGE_FOLDER, Devkit
from nearfar.transfer.pictures import read_each

_Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ClassificationSet:
    """Images for classification, with the classes that are present in each image.

    Parameters
    ----------
    images : Images
        The n images.
    presence : int8[n, k]
        Presence of each class in each image: 1 if present, −1 if absent, 0 if ignored.
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
        """Class number of each image (int64[n]), if each image has exactly one class."""
        return self.presence.argmax(1)


def single_label_set(images: Images, labels: _Rows, rows: _Rows) -> ClassificationSet:
    """Return a classification set of some of the images, each of which has exactly one class.

    Parameters
    ----------
    images : Images
        Images from which to choose.
    labels : int64[n]
        Class number of each image.
    rows : int64[m]
        Row numbers of the images to include.

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
    """Return a training set and a test set of images, each of which has exactly one class.

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
        rows, held_out = stratified_split(images, seed)
        test_set = single_label_set(images, labels, held_out)
    else:
        test, rows = _with_class_names(test), np.arange(len(images))
        test.labels, test.classes = labels_like(test, images), images.classes
        test_set = single_label_set(test, test.labels, np.arange(len(test)))
    if labels_per_class is not None:
        rows = subsample_per_class(labels, rows, labels_per_class, seed)
    return single_label_set(images, labels, rows), test_set


def subsample_per_class(labels: _Rows, rows: _Rows, count: int, seed: int) -> _Rows:
    """Return `count` random rows of each class, in ascending order.

    Of a class with fewer rows, all rows are returned.

    Parameters
    ----------
    labels : int64[n]
        Class number of each image.
    rows : int64[m]
        Row numbers from which to choose.
    count : int
        Maximum number of rows per class.
    seed : int
        Seed of the random choice.

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
    """Return the images in a split of a devkit, with the classes that are present in each image.

    Parameters
    ----------
    devkit : Devkit
        Devkit that contains the images.
    split : str
        Name of the split.
    size : int
        Side in pixels. Images are resized to squares with this side.
    track : Track
        Progress display, see `nearfar.progress.Track`.

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
    """Return the named images of a devkit, resized to squares (uint8[3, size, size])."""
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
    """Return the images with class names; if there are none, class numbers become the names."""
    named = Subset(images, np.arange(len(images)))
    if named.classes is None:
        numbers, named.labels = np.unique(require_labels(named), return_inverse=True)
        named.classes = [str(number) for number in numbers]
    return named
