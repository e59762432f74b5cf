"""Photographs from Caltech-101, and splits of these photographs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nearfar.data import (
    Channels,
    Images,
    Subset,
    default_data_root,
    open_images,
    require_labels,
    stratified_split,
)
from nearfar.experiments.runner import Runner, fingerprint
from nearfar.experiments.splits import Splits
from nearfar.progress import Track, silent

FOLDER = Path("caltech101", "101_ObjectCategories")
CLASSES = (
    *("Faces_easy", "Leopards", "Motorbikes", "airplanes", "bonsai"),
    *("car_side", "chandelier", "ketch", "watch"),
)
SIZE, QUICK_SIZE = 64, 32
#: Step between the images used in the quick form.
QUICK_EVERY = 4


def of_classes(
    classes: Sequence[str],
    data_root: Path | None,
    *,
    quick: bool,
    size: int = SIZE,
    channels: Channels = 3,
    track: Track = silent,
) -> Images:
    """Return the images of the given classes. If `quick`, fewer and smaller images."""
    images = open_images(
        (data_root or default_data_root()) / FOLDER,
        size=QUICK_SIZE if quick else size,
        channels=channels,
        strict=True,
        progress=track,
    )
    names = np.array(images.classes)[require_labels(images)]
    rows = np.flatnonzero(np.isin(names, classes))[:: QUICK_EVERY if quick else 1]
    chosen = Subset(images, rows)
    chosen.name = str(FOLDER)
    found, chosen.labels = np.unique(names[rows], return_inverse=True)
    chosen.classes = found.tolist()
    return chosen


def split(images: Images, seed: int) -> tuple[Images, Images]:
    """Return training images and test images. A fifth of each class is held out for testing."""
    train, test = stratified_split(images, seed)
    return Subset(images, train), Subset(images, test)


def splits(runner: Runner, classes: Sequence[str] = CLASSES) -> Splits:
    """Return splits of the given classes. Each seed holds out a different random fifth."""
    images = of_classes(classes, runner.data_root, quick=runner.quick, track=runner.track)
    settings = {"classes": list(classes), "images": fingerprint(images)}
    return Splits(settings, lambda seed: split(images, seed), fixed=False)
