"""Supervised training loop for heads, classifiers and detectors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

from nearfar.config import LRSchedule
from nearfar.errors import NearfarError
from nearfar.progress import Track, silent
from nearfar.training.lr_schedule import lr_factor


def fit_supervised(
    network: nn.Module,
    loss: Callable[[Tensor], Tensor],
    batches: Iterable[Tensor],
    *,
    optimizer: torch.optim.Optimizer,
    steps: int,
    first_step: int = 0,
    lr_schedule: LRSchedule = "constant",
    max_grad_norm: float | None = None,
    track: Track = silent,
    description: str = "training",
) -> None:
    """Train a network in place, with one step per batch.

    Parameters
    ----------
    network : nn.Module
        Network to train. It is in training mode during training and in evaluation mode afterward.
    loss : callable
        Function that takes the row numbers of a batch (int64[b]) and returns a scalar loss.
    batches : iterable of int64[b]
        Row numbers of each batch, see `shuffled_batches`.
    optimizer : torch.optim.Optimizer
        Optimizer. The learning rates of the parameter groups are the peaks of the schedule.
    steps : int
        Total number of training steps, for the schedule.
    first_step : int
        Number of steps that are already completed, for the schedule.
    lr_schedule : {"constant", "one-cycle"}
        Learning rate schedule, see `nearfar.config.Optim`.
    max_grad_norm : float, optional
        Maximum gradient norm. Default: no clipping.
    track, description
        Progress display and the description to show, see `nearfar.progress.Track`.

    Raises
    ------
    NearfarError
        If the loss becomes NaN or infinite.

    Examples
    --------
    >>> x, y = torch.randn(64, 2), torch.randn(64, 1)
    >>> model = nn.Linear(2, 1)
    >>> fit_supervised(
    ...     model,
    ...     lambda rows: (model(x[rows]) - y[rows]).square().mean(),
    ...     shuffled_batches(64, 16, steps=8),
    ...     optimizer=torch.optim.Adam(model.parameters()),
    ...     steps=8,
    ... )
    """
    peaks = [group["lr"] for group in optimizer.param_groups]
    parameters = [each for group in optimizer.param_groups for each in group["params"]]
    network.train()
    for step, rows in enumerate(track(batches, description, steps - first_step), first_step):
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * lr_factor(lr_schedule, step / steps)
        value = loss(rows)
        if not value.isfinite():
            raise NearfarError(
                f"the loss is {value.item()} after {step} steps: try a smaller learning rate than "
                f"lr={peaks[0]:g}"
            )
        optimizer.zero_grad()
        value.backward()
        if max_grad_norm is not None:
            nn.utils.clip_grad_norm_(parameters, max_grad_norm)
        optimizer.step()
    for group, peak in zip(optimizer.param_groups, peaks, strict=True):
        group["lr"] = peak
    network.eval()


def shuffled_batches(
    n: int, batch_size: int, *, steps: int, generator: torch.Generator | None = None
) -> Iterator[Tensor]:
    """Yield the row numbers of `steps` batches, taken from random permutations of all rows.

    Parameters
    ----------
    n : int
        Number of rows.
    batch_size : int
        Number of rows per batch. A batch may span two permutations.
    steps : int
        Number of batches.
    generator : torch.Generator, optional
        Random generator. Default: the global generator of torch.

    Examples
    --------
    >>> [len(rows) for rows in shuffled_batches(10, 4, steps=3)]
    [4, 4, 4]
    """
    waiting = torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        while len(waiting) < batch_size:
            waiting = torch.cat([waiting, torch.randperm(n, generator=generator)])
        yield waiting[:batch_size]
        waiting = waiting[batch_size:]
