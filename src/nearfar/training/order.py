"""The order in which a training epoch sees the images."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor


class Order:
    """Batches of rows in a random order that depends on the seed and the epoch alone.

    All batches of an epoch are of nearly the same size, so every image is seen once and no
    small last batch is noisier than the others. Each process gets its part of every batch: the
    batches are the same whatever the number of processes.

    Parameters
    ----------
    n : int
        Number of images.
    batch_size : int
        The largest batch, over all processes together.
    seed : tuple of int
        Decides the order, with the epoch.
    rank, processes : int
        Which process this is, and of how many.
    """

    def __init__(
        self, n: int, batch_size: int, seed: tuple[int, ...], rank: int = 0, processes: int = 1
    ) -> None:
        self.n, self.seed, self.rank, self.processes = n, seed, rank, processes
        self.steps = -(-n // batch_size)
        self.epoch = 0
        self.first_step = 0

    def __len__(self) -> int:
        """Return the number of batches that are left in the epoch."""
        return self.steps - self.first_step

    def __iter__(self) -> Iterator[Tensor]:
        """Yield this process's rows of each batch, from `first_step` of `epoch` on."""
        order = np.random.default_rng((*self.seed, self.epoch)).permutation(self.n)
        for batch in np.array_split(order, self.steps)[self.first_step :]:
            yield torch.from_numpy(np.array_split(batch, self.processes)[self.rank])

    def batch_size(self, step: int) -> int:
        """Return the size of a batch over all processes."""
        return self.n // self.steps + (step < self.n % self.steps)


class Pairs:
    """The batches of an order, each row with one that it is seen beside.

    Parameters
    ----------
    order : Order
        Its batches are int64[b]; these are int64[b, 2].
    partners : callable
        From the rows of a batch, int64[b], and the step to their partners, int64[b].
    """

    def __init__(self, order: Order, partners: Callable[[Tensor, int], Tensor]) -> None:
        self.order, self.partners = order, partners

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[Tensor]:
        for step, rows in enumerate(self.order, start=self.order.first_step):
            yield torch.stack([rows, self.partners(rows, step)], 1)
