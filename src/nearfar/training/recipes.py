"""Named choices of training options."""

from __future__ import annotations

from typing import Any, Literal

RecipeName = Literal["paper", "nearfar"]

RECIPES: dict[str, dict[str, Any]] = {
    "paper": {},
    "nearfar": {
        "network": "deep",
        "relation": "embeddings",
        "embedding_size": 256,
        "pretrain_epochs": 0,
        "epochs": 60,
        "batch_size": 512,
        "lr": 2e-3,
        "lr_schedule": "one-cycle",
        "weight_decay": 0.01,
        "pixel_weight": 60.0,
        "unchanged_share": 0.3,
        "neighbors": 5,
        "clusters": 64,
        "far_share": 0.8,
        "refresh": 5,
    },
}


def recipe(name: RecipeName) -> dict[str, Any]:
    """Return the options that a recipe sets, for `NRE` or `TrainConfig`; others keep their default.

    Parameters
    ----------
    name : {"paper", "nearfar"}
        The paper's training, which is the default; or ours, which learns better embeddings: the
        embeddings themselves are related, through random views, by an encoder with batch
        normalization.

    Examples
    --------
    >>> from nearfar import NRE, recipe
    >>> model = NRE(**recipe("nearfar") | {"epochs": 30})
    """
    return dict(RECIPES[name])
