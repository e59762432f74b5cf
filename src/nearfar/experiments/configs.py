"""Configurations that rows of several tables share."""

from __future__ import annotations

from nearfar.config import recipe

#: The paper's training, half of it without and half of it with relations.
PAPER = recipe("paper")
#: The same network, without relations.
AUTOENCODER = recipe("paper", epochs=0)
#: Our training.
NEARFAR = recipe("nearfar")
#: The network of our recipe, trained as that is, without its objective.
NEARFAR_AUTOENCODER = recipe(
    "nearfar",
    objective="relational",
    pretrain_epochs=NEARFAR.optim.epochs,
    epochs=0,
    pretrain_lr=NEARFAR.optim.lr,
)
