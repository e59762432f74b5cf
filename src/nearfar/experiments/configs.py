"""Training configurations that several tables use."""

from __future__ import annotations

from nearfar.config import PHOTOGRAPH_OPTIONS, recipe

#: Training as in the paper: half of the epochs as an autoencoder, half with the relational loss.
PAPER = recipe("paper")
#: The same network as a plain autoencoder.
AUTOENCODER = recipe("paper", epochs=0)
#: Training with our recipe.
NEARFAR = recipe("nearfar")
#: The same, with the options for photographs.
NEARFAR_PHOTOGRAPHS = recipe("nearfar", **PHOTOGRAPH_OPTIONS)
#: Network and optimizer of our recipe, as a plain autoencoder.
NEARFAR_AUTOENCODER = recipe(
    "nearfar",
    objective="relational",
    pretrain_epochs=NEARFAR.optim.epochs,
    epochs=0,
    pretrain_lr=NEARFAR.optim.lr,
)
