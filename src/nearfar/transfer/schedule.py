"""One way of fine-tuning for every task and every kind of weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nearfar.errors import NearfarError
from nearfar.fields import check_fields
from nearfar.progress import Track, silent
from nearfar.training.rates import rate_at

LARGEST_GRADIENT = 10.0


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how fast a network learns a task.

    Parameters
    ----------
    steps : int
        How many batches.
    batch_size : int
        Images in each.
    lr : float
        AdamW's learning rate at its peak; it rises and falls in one cycle.
    weight_decay : float
        Of AdamW.
    seed : int
        Of the order of the images and every random draw.
    """

    steps: int = 2000
    batch_size: int = 32
    lr: float = 3e-4
    weight_decay: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self)
        for name, least in (("steps", 1), ("batch_size", 1), ("weight_decay", 0), ("seed", 0)):
            if not getattr(self, name) >= least:
                raise NearfarError(f"{name}={getattr(self, name)}: expected at least {least}")
        if not 0 < self.lr < math.inf:
            raise NearfarError(f"lr={self.lr}: expected a positive number")


def fit(
    network: nn.Module,
    loss: Callable[[list[int]], Tensor],
    count: int,
    schedule: Schedule,
    track: Track = silent,
) -> None:
    """Train what is not frozen of a network, in place.

    Parameters
    ----------
    network : nn.Module
        Left in evaluation mode.
    loss : callable
        From the numbers of the images in a batch to what is to become small.
    count : int
        How many images there are.

    Raises
    ------
    NearfarError
        If the loss is no longer finite.
    """
    parameters = [each for each in network.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=schedule.lr, weight_decay=schedule.weight_decay)
    network.train()
    with torch.random.fork_rng():
        torch.manual_seed(schedule.seed)
        for step, rows in enumerate(track(batches(count, schedule), "training", schedule.steps)):
            for group in optimizer.param_groups:
                group["lr"] = schedule.lr * rate_at("one-cycle", step / schedule.steps)
            value = loss(rows)
            if not value.isfinite():
                raise NearfarError(
                    f"the loss is {value.item()} after {step} steps: try a smaller learning rate "
                    f"than lr={schedule.lr}"
                )
            optimizer.zero_grad()
            value.backward()
            nn.utils.clip_grad_norm_(parameters, LARGEST_GRADIENT)
            optimizer.step()
    network.eval()


def batches(count: int, schedule: Schedule) -> Iterator[list[int]]:
    """Yield the numbers of the images in each batch: all of them in random order, again and again.

    A batch may begin in one round and end in the next.
    """
    generator, waiting = torch.Generator().manual_seed(schedule.seed), list[int]()
    for _ in range(schedule.steps):
        while len(waiting) < schedule.batch_size:
            waiting += torch.randperm(count, generator=generator).tolist()
        yield waiting[: schedule.batch_size]
        del waiting[: schedule.batch_size]
