"""Labeled images, split for training and testing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nearfar.data import Images
from nearfar.experiments.runner import fingerprint


@dataclass(frozen=True)
class Splits:
    """Images to learn from and to be tested on.

    Parameters
    ----------
    settings : mapping
        What identifies them; JSON only.
    of : callable
        From a seed to images to learn from, and images to be tested on.
    fixed : bool
        Whether the split is the same for all seeds.
    options : mapping
        Options that all trainings on them have in common, see `nearfar.config.configure`.
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
        Images to learn from.
    **tested : Images
        Images to be tested on, by the name that settings have for them: one.
    """
    ((name, test),) = tested.items()
    settings = {"train": fingerprint(train), name: fingerprint(test)}
    return Splits(settings, lambda seed: (train, test), True, options)
