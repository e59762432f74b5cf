"""MNIST digits, and splits of the digits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nearfar.data import Images, Subset, open_images, require_labels
from nearfar.experiments.runner import Runner
from nearfar.experiments.splits import Splits, fixed_split

#: The paper trains on 50,000 of the 60,000 training digits; the others validate hyperparameters.
TRAINED = 50_000
#: The paper's attacker queries labels for 150 test digits, and attacks the other 9,850.
SUBSTITUTE = 150
#: Every fifth digit is for validation in the quick form, where digits are sorted by class.
QUICK_VALIDATION_EVERY = 5
#: Few images mean few steps per epoch; smaller batches give more steps.
QUICK_BATCH_SIZE = 128


def for_testing(data_root: Path | None, *, quick: bool) -> tuple[Images, Images]:
    """Return training digits and the official test digits. If `quick`, fewer digits."""
    if quick:
        return open_images("mnist5k:train"), open_images("mnist5k:test")
    learned, _ = for_validation(data_root, quick=False)
    return learned, open_images("mnist:test", data_root=data_root)


def for_validation(data_root: Path | None, *, quick: bool) -> tuple[Images, Images]:
    """Return training and validation digits, both taken from the official training digits."""
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
    """Return digits for training, for validation, for the attacker's substitute, and to attack.

    The split is described in §4.4 of the paper. The last two sets are disjoint random subsets of
    the official test digits, and the same in every call.
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


def testing(runner: Runner) -> Splits:
    """Return the split of the paper: 50,000 training digits and the official test digits."""
    train, test = for_testing(runner.data_root, quick=runner.quick)
    return fixed_split(train, test=test, options=options(quick=runner.quick))


def validating(runner: Runner) -> Splits:
    """Return a split of the official training digits into training and validation digits."""
    train, validation = for_validation(runner.data_root, quick=runner.quick)
    return fixed_split(train, validation=validation, options=options(quick=runner.quick))


def official(runner: Runner) -> Splits:
    """Return the official split into training and test digits."""
    source = "mnist5k" if runner.quick else "mnist"
    train, test = (
        open_images(f"{source}:{part}", data_root=runner.data_root) for part in ("train", "test")
    )
    return fixed_split(train, test=test, options=options(quick=runner.quick))


def one_of_each_class(images: Images) -> Images:
    """Return the first image of each class."""
    _, firsts = np.unique(require_labels(images), return_index=True)
    return Subset(images, firsts)


def options(*, quick: bool) -> dict[str, Any]:
    """Return the training options shared by all runs on digits."""
    return {"batch_size": QUICK_BATCH_SIZE} if quick else {}
