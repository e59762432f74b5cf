"""Labeled images to learn from, and others with the same classes to test on."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nearfar.data.images import Images
from nearfar.data.open import require_labels
from nearfar.errors import NearfarError

#: The share of images of each class that is held out, if no test images are given.
HOLDOUT = 0.2

Rows = npt.NDArray[np.int64]


def hold_out(images: Images, seed: int) -> tuple[Rows, Rows]:
    """Split the rows of labeled images: all but a fifth of each class, and that fifth.

    Raises
    ------
    NearfarError
        If there are too few, or no labels.
    """
    from sklearn.model_selection import train_test_split

    labels = require_labels(images)
    try:
        train, test = train_test_split(
            np.arange(len(labels)), test_size=HOLDOUT, stratify=labels, random_state=seed
        )
    except ValueError as error:
        raise NearfarError(
            f"{images.name!r} is too small to hold out a fifth of each class: give test images"
        ) from error
    return train, test


def labels_like(images: Images, like: Images) -> Rows:
    """Return labels numbered as those of `like`, whose classes may be others or in other places.

    Raises
    ------
    NearfarError
        If there are no labels, a class that `like` has not, or names of classes in one of the two
        that do not say which numbers they are in the other.
    """
    labels = require_labels(images)
    if images.classes == like.classes:
        return labels
    if images.classes is None or like.classes is None:
        named, numbered = (images, like) if like.classes is None else (like, images)
        _check_numbers(named, numbered)
        return labels
    numbers = {name: number for number, name in enumerate(like.classes)}
    unknown = [name for name in images.classes if name not in numbers]
    if unknown:
        raise NearfarError(
            f"{images.name!r} has the class {unknown[0]!r}, which {like.name!r} has not: "
            "expected the same classes"
        )
    return np.array([numbers[name] for name in images.classes])[labels]


def _check_numbers(named: Images, numbered: Images) -> None:
    """Refuse names of classes that are not their numbers."""
    for number, name in enumerate(named.classes or ()):
        if name != str(number):
            raise NearfarError(
                f"{named.name!r} has the class {name!r} as its number {number}, and "
                f"{numbered.name!r} has only numbers: expected names in both, or in neither"
            )
