"""Labels of image sets, and splits into training and test images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from nearfar.data.images import Images
from nearfar.errors import NearfarError
from nearfar.files import normal_form

#: Fraction of each class that is held out for testing.
HOLDOUT = 0.2

Rows = npt.NDArray[np.int64]


def require_labels(images: Images) -> npt.NDArray[np.int64]:
    """Return the labels of images (int64[n]).

    Raises
    ------
    NearfarError
        If the images have no labels.

    Examples
    --------
    >>> from nearfar.data import images_from_array
    >>> require_labels(images_from_array(np.zeros((2, 8, 8)), labels=["dog", "cat"]))
    array([1, 0])
    """
    if images.labels is None:
        raise NearfarError(
            f"{images.name!r} has no labels: expected a folder with one subfolder per class, "
            "or an .npz file with an array named labels"
        )
    return images.labels


def stratified_split(images: Images, seed: int) -> tuple[Rows, Rows]:
    """Split labeled images at random: 80 % of each class for training, 20 % for testing.

    Parameters
    ----------
    images : Images
        Labeled images.
    seed : int
        Random seed for the split, ≥ 0.

    Returns
    -------
    train, test : int64[m] and int64[k]
        Indices of the training and test images.

    Raises
    ------
    NearfarError
        If there are too few images, or they have no labels.

    Examples
    --------
    >>> from nearfar.data import images_from_array
    >>> images = images_from_array(np.zeros((10, 8, 8)), labels=[0, 1] * 5)
    >>> [len(rows) for rows in stratified_split(images, seed=0)]
    [8, 2]
    """
    from sklearn.model_selection import train_test_split

    labels = require_labels(images)
    try:
        train, test = train_test_split(
            np.arange(len(labels)), test_size=HOLDOUT, stratify=labels, random_state=seed
        )
    except ValueError as error:
        raise NearfarError(
            f"{images.name!r} is too small to hold out a fifth of each class: pass test images"
        ) from error
    return train, test


def labels_like(images: Images, like: Images) -> Rows:
    """Return the labels of images, renumbered to match the classes of other images.

    Parameters
    ----------
    images : Images
        Labeled images.
    like : Images
        Labeled images that define the class numbers.

    Returns
    -------
    int64[n]
        Labels of `images`, numbered as in `like`.

    Raises
    ------
    NearfarError
        If labels are missing or if `like` lacks a class. Also if only one of the two has class
        names, unless each name is the class number.

    Examples
    --------
    >>> from nearfar.data import images_from_array
    >>> pixels = np.zeros((2, 8, 8))
    >>> train = images_from_array(pixels, labels=["bird", "cat"])
    >>> labels_like(images_from_array(pixels, labels=["cat", "cat"]), train)
    array([1, 1])
    """
    labels = require_labels(images)
    if images.classes == like.classes:
        return labels
    if images.classes is None or like.classes is None:
        named, numbered = (images, like) if like.classes is None else (like, images)
        _check_numbers(named, numbered)
        return labels
    numbers = {normal_form(name): number for number, name in enumerate(like.classes)}
    unknown = [name for name in images.classes if normal_form(name) not in numbers]
    if unknown:
        raise NearfarError(
            f"{images.name!r} has the class {unknown[0]!r}, which {like.name!r} does not have: "
            "expected the same classes"
        )
    return np.array([numbers[normal_form(name)] for name in images.classes])[labels]


def class_name(number: int, classes: Sequence[str] | None) -> str:
    """Return the name of a class in quotes, or its number if classes have no names.

    Examples
    --------
    >>> class_name(1, ["bird", "cat"]), class_name(1, None)
    ("'cat'", '1')
    """
    return str(number) if classes is None else repr(classes[number])


def _check_numbers(named: Images, numbered: Images) -> None:
    """Check that each class name of `named` is a class number of `numbered`."""
    for number, name in enumerate(named.classes or ()):
        if name != str(number):
            raise NearfarError(
                f"{named.name!r} has the class {name!r} as its number {number}, and "
                f"{numbered.name!r} has only numbers: expected names in both, or in neither"
            )
