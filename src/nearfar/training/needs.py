"""What a training needs, before it begins."""

from __future__ import annotations

from torch import nn

from nearfar.neighbors import disk_bytes
from nearfar.training.config import TrainConfig


def disk_needs(config: TrainConfig, n: int, code_size: int, network: nn.Module) -> dict[str, int]:
    """Return the most that a run folder takes while its training goes on, in bytes, by what it is.

    Parameters
    ----------
    n : int
        Number of images.
    code_size : int
        Length d of their codes.
    """
    weights = sum(tensor.nbytes for tensor in network.state_dict().values())
    # The network, the plain autoencoder, the reference, and two moments of Adam for each weight; a
    # checkpoint takes the place of another one only when it is complete.
    needs = {"model": 2 * weights, "checkpoints": 2 * 5 * weights, "codes": 4 * n * code_size}
    bank = disk_bytes(n, code_size)
    if config.relation == "reconstructions" and config.epochs and config.bank == "disk":
        needs["bank"] = bank
        if config.search == "epoch":
            needs["codes of reconstructions"] = 2 * bank
    return needs
