"""Resumable training of the network of a method, with a checkpoint per epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from nearfar import runs
from nearfar.progress import Track
from nearfar.training import fit_supervised, load_optimizer, optimizer_tensors


def fit_resumable(
    network: nn.Module,
    loss: Callable[[Tensor], Tensor],
    batches: Callable[[int], Iterable[Tensor]],
    *,
    epochs: int,
    steps: int,
    lr: float,
    weight_decay: float,
    folder: Path | None,
    track: Track,
    description: str,
) -> None:
    """Train a network in place with AdamW and a one-cycle schedule.

    Parameters
    ----------
    network : nn.Module
        Network to train. It is in evaluation mode afterward.
    loss : callable
        Function that takes the row numbers of a batch (int64[b]) and returns a scalar loss.
    batches : callable
        Function that takes the number of an epoch, from 0, and returns the row numbers of its
        batches. The function must seed all random generators that the epoch uses, so that epochs
        are independent.
    epochs : int
        Number of epochs.
    steps : int
        Number of batches per epoch.
    lr : float
        Peak learning rate.
    weight_decay : float
        Weight decay.
    folder : Path, optional
        Folder for a checkpoint after each epoch. It is created if missing. Training continues from
        an existing checkpoint. The result is bit-identical to that of uninterrupted training.
    track, description
        Progress display and its description. See `nearfar.progress.Track`.

    Raises
    ------
    NearfarError
        If the loss becomes NaN or infinite, or the checkpoint is damaged.
    """
    optimizer = torch.optim.AdamW(network.parameters(), lr, weight_decay=weight_decay)
    first = 0 if folder is None else _read_checkpoint(folder, network, optimizer)

    def remaining() -> Iterator[Tensor]:
        for epoch in range(first, epochs):
            yield from batches(epoch)
            if folder is not None:
                _write_checkpoint(folder, network, optimizer, epoch + 1)

    fit_supervised(
        network,
        loss,
        remaining(),
        optimizer=optimizer,
        steps=epochs * steps,
        first_step=first * steps,
        lr_schedule="one-cycle",
        track=track,
        description=description,
    )


def _write_checkpoint(
    folder: Path, network: nn.Module, optimizer: torch.optim.Optimizer, epoch: int
) -> None:
    """Write a checkpoint after a number of completed epochs."""
    tensors = {
        **runs.add_prefix("network.", network.state_dict()),
        **runs.add_prefix("adam.", optimizer_tensors(optimizer)),
    }
    folder.mkdir(exist_ok=True)
    runs.write_state(folder / runs.CHECKPOINT, tensors, {"epoch": epoch})


def _read_checkpoint(folder: Path, network: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Read the checkpoint, if there is one, and return the number of completed epochs."""
    if not (folder / runs.CHECKPOINT).is_file():
        return 0
    tensors, position = runs.read_state(folder / runs.CHECKPOINT)
    runs.load_weights(network, runs.strip_prefix("network.", tensors), folder)
    load_optimizer(optimizer, runs.strip_prefix("adam.", tensors))
    return int(position["epoch"])
