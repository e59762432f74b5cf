"""Images with the classes that they show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nearfar.data import Images, Subset, require_labels
from nearfar.data.folders import FolderImages
from nearfar.data.labels import hold_out, labels_like
from nearfar.errors import NearfarError
from nearfar.progress import Track, silent
from nearfar.transfer.annotations import presence
from nearfar.transfer.devkit import IMAGES, Devkit
from nearfar.transfer.scenes import checked

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Labeled:
    """Images with what they show.

    Parameters
    ----------
    images : Images
        n of them.
    seen : int8[n, k]
        1 if a class is seen, −1 if not, 0 if that is not to be judged.
    classes : sequence of str
        Their names.
    single : bool
        Whether each image shows exactly one of them.
    """

    images: Images
    seen: npt.NDArray[np.int8]
    classes: Sequence[str]
    single: bool


def single(images: Images, labels: Numbers, rows: Numbers) -> Labeled:
    """Say what some rows of images show that have one label each."""
    classes = images.classes or [str(label) for label in range(int(labels.max()) + 1)]
    shown = labels[rows, None] == np.arange(len(classes))
    seen = np.where(shown, np.int8(1), np.int8(-1))
    return Labeled(Subset(images, rows), seen, classes, single=True)


def _with_classes(images: Images) -> Images:
    """The images, whose classes are called by their numbers if that is all there is."""
    named = Subset(images, np.arange(len(images)))
    if named.classes is None:
        numbers, named.labels = np.unique(require_labels(named), return_inverse=True)
        named.classes = [str(number) for number in numbers]
    return named


def split_single(
    images: Images,
    test: Images | None = None,
    *,
    labels_per_class: int | None = None,
    seed: int = 0,
) -> tuple[Labeled, Labeled]:
    """Split images with one label each into those to learn from and those to test on.

    Parameters
    ----------
    images : Images
        To learn from; a fifth of each class is held out if there are no others to test on.
    test : Images, optional
        To test on.
    labels_per_class : int, optional
        Learn from so many images of each class only.
    seed : int
        Of what is held out and chosen.

    Raises
    ------
    NearfarError
        If there are no labels, or the classes of both do not fit together.
    """
    images = _with_classes(images)
    labels = require_labels(images)
    if len(np.unique(labels)) < 2:
        raise NearfarError(f"all images of {images.name!r} are of one class: expected several")
    if test is None:
        rows, others = hold_out(images, seed)
        tested = single(images, labels, others)
    else:
        test, rows = _with_classes(test), np.arange(len(images))
        test.labels, test.classes = labels_like(test, images), images.classes
        tested = single(test, test.labels, np.arange(len(test)))
    if labels_per_class is not None:
        rows = few(labels, rows, labels_per_class, seed)
    return single(images, labels, rows), tested


def few(labels: Numbers, rows: Numbers, count: int, seed: int) -> Numbers:
    """Choose so many of the rows of each class by chance, or all where there are fewer.

    Raises
    ------
    NearfarError
        If `count` is less than 1.
    """
    if count < 1:
        raise NearfarError(f"labels_per_class={count}: expected at least 1")
    shuffled = np.random.default_rng(seed).permutation(rows)
    chosen = [shuffled[labels[shuffled] == label][:count] for label in np.unique(labels)]
    return np.sort(np.concatenate(chosen))


def open_multiple(devkit: Devkit, split: str, size: int, track: Track = silent) -> Labeled:
    """Open the images of a split of a devkit, with all classes that they show.

    Raises
    ------
    NearfarError
        If something in the devkit cannot be used, or no class is seen.
    """
    names = devkit.split("Main", split)
    seen = presence(devkit, split, names)
    if not (seen == 1).any():
        raise NearfarError(
            f"no class is seen in the split {split!r} of {str(devkit.root)!r}: expected some"
        )
    images = devkit_images(devkit, names, size, track)
    if not images.in_memory:
        for _ in checked(devkit, names, Devkit.image, track):
            pass
    return Labeled(images, seen, devkit.classes, single=False)


def devkit_images(
    devkit: Devkit, names: Sequence[str], size: int, track: Track = silent
) -> FolderImages:
    """Open images of a devkit as squares."""
    files = [devkit.image(name).name for name in names]
    return FolderImages(
        devkit.root / IMAGES,
        files,
        name=str(devkit.root),
        size=size,
        channels=3,
        strict=True,
        progress=track,
    )
