"""Splits of labeled images for training and testing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nearfar.data import Images
from nearfar.experiments.runner import fingerprint


@dataclass(frozen=True)
class Splits:
    """Training and test images for each seed.

    Parameters
    ----------
    settings : mapping
        Settings that identify the images, as JSON types.
    of : callable
        Function that takes a seed and returns the training images and the test images.
    fixed : bool
        Whether the split is the same for all seeds.
    options : mapping
        Options shared by all training runs on these images, see `nearfar.config.configure`.
    """

    settings: Mapping[str, Any]
    of: Callable[[int], tuple[Images, Images]]
    fixed: bool
    options: Mapping[str, Any] = field(default_factory=dict)


def fixed_split(train: Images, *, options: Mapping[str, Any], **tested: Images) -> Splits:
    """Return a split that is the same for all seeds.

    Parameters
    ----------
    train : Images
        Training images.
    options : mapping
        Options shared by all training runs, see `Splits`.
    **tested : Images
        Test images, as a single keyword argument. The name of the argument is used as the name of
        the test images in the settings.
    """
    ((name, test),) = tested.items()
    settings = {"train": fingerprint(train), name: fingerprint(test)}
    return Splits(settings, lambda seed: (train, test), True, options)
