"""Named sets of options."""

from __future__ import annotations

from typing import Any, Literal

RecipeName = Literal["paper", "nearfar"]

#: By recipe, the options that differ from the defaults of their sections.
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
}
