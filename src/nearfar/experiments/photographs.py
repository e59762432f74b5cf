"""Data sets of photographs, and splits of these data sets."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from nearfar.data import Images, Subset, default_data_root, open_images, require_labels
from nearfar.experiments import caltech101
from nearfar.experiments.runner import Runner, fingerprint
from nearfar.experiments.splits import Splits, fixed_split

QUICK_SIZE = 32
#: Step between the images used in the quick form.
QUICK_EVERY = 4


@dataclass(frozen=True)
class Photographs:
    """Labeled photographs in a folder of the data root.

    Parameters
    ----------
    train : str
        Folder of the training images, or of all images, with one subfolder per class.
    test : str, optional
        Folder of the test images. Default: each seed holds out a different random fifth of each
        class.
    every : int
        Only every n-th class is used, with n = `every`.
    """

    train: str
    test: str | None = None
    every: int = 1

    def splits(self, runner: Runner, *, size: int, batch_size: int) -> Splits:
        """Return splits of the images, resized to `size` × `size` pixels."""
        options = {"batch_size": batch_size}
        images = self._open(runner, self.train, size)
        if self.test is not None:
            return fixed_split(images, options=options, test=self._open(runner, self.test, size))
        settings = {"classes": images.classes, "images": fingerprint(images)}
        return Splits(settings, lambda seed: caltech101.split(images, seed), False, options)

    def _open(self, runner: Runner, folder: str, size: int) -> Images:
        images = open_images(
            (runner.data_root or default_data_root()) / Path(folder),
            size=QUICK_SIZE if runner.quick else size,
            channels=3,
            strict=True,
            progress=runner.track,
        )
        labels = require_labels(images)
        rows = np.flatnonzero(labels % self.every == 0)[:: QUICK_EVERY if runner.quick else 1]
        chosen = Subset(images, rows)
        chosen.name, chosen.labels = folder, labels[rows] // self.every
        chosen.classes = list(images.classes or ())[:: self.every]
        return chosen


PHOTOGRAPHS = {
    "caltech": Photographs(str(caltech101.FOLDER)),
    "elpv": Photographs("elpv/test"),
    "flowers": Photographs("flowers"),
    "imagenette": Photographs("imagenette/train", "imagenette/val"),
    # A quarter of the classes, so that a row takes minutes.
    "tiny-imagenet": Photographs("tiny-imagenet-200/train", every=4),
}


def opener(name: str, *, size: int, batch_size: int) -> partial[Splits]:
    """Return a function that opens the named data set, for use as `TrainedTable.splits`."""
    return partial(PHOTOGRAPHS[name].splits, size=size, batch_size=batch_size)
