"""Trainings of equal length: so many epochs in all, with or without neighborhood relations."""

from __future__ import annotations

from typing import Any

from nearfar.errors import NearfarError
from nearfar.training.config import TrainConfig
from nearfar.training.recipes import recipe

OURS = recipe("nearfar")
#: What other rows share with our recipe: the network, and how it is trained.
SHARED = {
    name: OURS[name]
    for name in ("network", "embedding_size", "batch_size", "lr", "weight_decay", "lr_schedule")
}


def plain(epochs: int, **choices: Any) -> TrainConfig:
    """Reconstruct for all epochs."""
    return TrainConfig(**{**choices, "pretrain_epochs": epochs, "epochs": 0})


def plain_like_ours(epochs: int, **choices: Any) -> TrainConfig:
    """Reconstruct for all epochs, with the network of our recipe, trained as that is."""
    return plain(epochs, pretrain_lr=SHARED["lr"], **{**SHARED, **choices})


def plain_half(epochs: int) -> int:
    """Return after how many of so many epochs the relations begin."""
    return epochs - epochs // 2


def relational(epochs: int, **choices: Any) -> TrainConfig:
    """Reconstruct for the first half of the epochs, and relate neighbors in the second.

    Raises
    ------
    NearfarError
        If there is no second half.
    """
    if epochs < 2:
        raise NearfarError(f"epochs={epochs}: expected at least 2, half of them for the relations")
    half = plain_half(epochs)
    return TrainConfig(**{**choices, "pretrain_epochs": half, "epochs": epochs - half})


def ours(epochs: int, **choices: Any) -> TrainConfig:
    """Train by the recipe `nearfar`, which has no first half."""
    return TrainConfig(**{**OURS, **choices, "epochs": epochs})
