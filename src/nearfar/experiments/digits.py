"""The digits that tables are measured on, and how they are split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nearfar.data import Images, Subset, open_images, require_labels

#: The paper learns from 50,000 of the 60,000 training digits; the others choose hyperparameters.
TRAINED = 50_000
#: The paper's attacker has labels of so many digits, and attacks the other 9,850 for testing.
SUBSTITUTE = 150
#: Every so many of the quick digits, which are sorted by class, are for validation.
QUICK_VALIDATION_EVERY = 5
#: Few images take few steps an epoch: smaller batches take more.
QUICK_BATCH_SIZE = 128


def for_testing(data_root: Path | None, *, quick: bool) -> tuple[Images, Images]:
    """Return training digits and the official test digits; of the 5,000 digits if `quick`."""
    if quick:
        return open_images("mnist5k:train"), open_images("mnist5k:test")
    learned, _ = for_validation(data_root, quick=False)
    return learned, open_images("mnist:test", data_root=data_root)


def for_validation(data_root: Path | None, *, quick: bool) -> tuple[Images, Images]:
    """Return training digits and other training digits to validate on, never test digits."""
    if quick:
        images = open_images("mnist5k:train")
        validation = np.arange(len(images)) % QUICK_VALIDATION_EVERY == 0
    else:
        images = open_images("mnist:train", data_root=data_root)
        validation = np.arange(len(images)) >= TRAINED
    return (
        Subset(images, np.flatnonzero(~validation)),
        Subset(images, np.flatnonzero(validation)),
    )


def for_attacks(data_root: Path | None, *, quick: bool) -> tuple[Images, Images, Images, Images]:
    """Return digits to learn from, to validate on, for the substitute, and to attack (§4.4).

    The last two are of the official test digits, in a random order that is always the same.
    """
    learned, validation = for_validation(data_root, quick=quick)
    _, test = for_testing(data_root, quick=quick)
    order = np.random.default_rng(0).permutation(len(test))
    return (
        learned,
        validation,
        Subset(test, order[:SUBSTITUTE]),
        Subset(test, order[SUBSTITUTE:]),
    )


def one_of_each_class(images: Images) -> Images:
    """Return the first image of each class, to be shown."""
    _, firsts = np.unique(require_labels(images), return_index=True)
    return Subset(images, firsts)


def choices(*, quick: bool) -> dict[str, Any]:
    """Return what all trainings on these digits have in common, beyond the defaults."""
    return {"batch_size": QUICK_BATCH_SIZE} if quick else {}
