"""Recipes: named sets of options."""

from __future__ import annotations

from typing import Any, Literal

from nearfar.config.network import DEFAULT_ENCODER

RecipeName = Literal["paper", "nearfar", "continue"]

#: Options of each recipe that differ from the defaults of their sections.
RECIPES: dict[str, dict[str, Any]] = {
    "paper": {},
    "nearfar": {
        "objective": "contrastive",
        "batch_norm": True,
        "hidden": 512,
        "embedding_size": 256,
        "pretrain_epochs": 0,
        "epochs": 60,
        "batch_size": 512,
        "lr": 2e-3,
        "lr_schedule": "one-cycle",
        "weight_decay": 0.01,
    },
    "continue": {
        "network": "backbone",
        "backbone": DEFAULT_ENCODER,
        "weights": "pretrained",
        "freeze_batch_norm": True,
        "objective": "contrastive",
        "identity_prob": 0.0,
        "clusters": None,
        "far_share": 1.0,
        "refresh_neighbors_every": 1,
        "pixel_weight": 0.0,
        "distill_weight": 1.0,
        "pretrain_epochs": 0,
        "epochs": 6,
        "batch_size": 128,
        "lr": 1e-4,
        "head_lr_scale": 10.0,
        "lr_schedule": "one-cycle",
        "weight_decay": 0.01,
    },
}

#: Options of "nearfar" that differ for photographs. The image nearest to a photograph often shows
#: something else, and a hidden layer or a weighty decoder costs accuracy.
PHOTOGRAPH_OPTIONS: dict[str, Any] = {
    "hidden": 0,
    "neighbor_prob": 0.2,
    "refresh_neighbors_every": 20,
    "clusters": 1,
    "far_share": 1.0,
    "identity_prob": 0.0,
    "pixel_weight": 5.0,
}
