"""What a training needs, before it begins."""

from __future__ import annotations

import torch
from torch import nn

from nearfar.data import Images, to_unit
from nearfar.models import Autoencoder
from nearfar.neighbors import disk_bytes
from nearfar.training.config import TrainConfig


def disk_needs(
    config: TrainConfig, images: Images, network: Autoencoder, reference: nn.Module | None = None
) -> dict[str, int]:
    """Return the most that a run folder takes while its training goes on, in bytes, by what it is.

    Parameters
    ----------
    network : Autoencoder
        What is trained.
    reference : nn.Module, optional
        The frozen encoder, if it is not the network's own.
    """
    n = len(images)
    weights = _bytes(network)
    # The network, the plain autoencoder, two moments of Adam for each weight, and the reference; a
    # checkpoint takes the place of another one only when it is complete.
    checkpoint = 4 * weights + _bytes(reference or network.encoder)
    needs = {
        "model": 2 * weights,
        "checkpoints": 2 * checkpoint,
        "codes": 4 * n * code_size(network.encoder, images),
    }
    if config.relation == "reconstructions" and config.epochs and config.bank == "disk":
        bank = disk_bytes(n, code_size(reference or network.encoder, images))
        needs["bank"] = bank
        if config.search == "epoch":
            needs["codes of reconstructions"] = 2 * bank
    return needs


@torch.no_grad()
def code_size(encoder: nn.Module, images: Images) -> int:
    """Return how long the codes are that an encoder, in evaluation mode, makes of images."""
    device = next((p.device for p in encoder.parameters()), torch.device("cpu"))
    return int(encoder(to_unit(images[0]).unsqueeze(0).to(device)).shape[1])


def _bytes(module: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in module.state_dict().values())
