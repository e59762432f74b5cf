"""Checkpoints of networks trained by a method, one after each epoch."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from nearfar import runs
from nearfar.training import load_optimizer, optimizer_tensors


def write_checkpoint(
    folder: Path, network: nn.Module, optimizer: torch.optim.Optimizer, epoch: int
) -> None:
    """Write the state after a number of epochs."""
    tensors = {
        **runs.add_prefix("network.", network.state_dict()),
        **runs.add_prefix("adam.", optimizer_tensors(optimizer)),
    }
    folder.mkdir(exist_ok=True)
    runs.write_state(folder / runs.CHECKPOINT, tensors, {"epoch": epoch})


def read_checkpoint(folder: Path, network: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Read the checkpoint, if there is one, and return its number of epochs."""
    if not (folder / runs.CHECKPOINT).is_file():
        return 0
    tensors, position = runs.read_state(folder / runs.CHECKPOINT)
    runs.load_weights(network, runs.strip_prefix("network.", tensors), folder)
    load_optimizer(optimizer, runs.strip_prefix("adam.", tensors))
    return int(position["epoch"])
