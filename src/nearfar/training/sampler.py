"""Samplers of the batches of an epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor


class EpochSampler:
    """Sampler of batches in a random order that depends only on the seed and the epoch.

    An epoch contains every image once. Batches have nearly the same size, so that there is no
    small, noisy last batch. Each process gets its part of every batch, so that batches do not
    depend on the number of processes.

    Set the attributes `epoch` and `first_step`, both from 0, before iterating.

    Parameters
    ----------
    n : int
        Number of images.
    batch_size : int
        Largest batch size, over all processes together.
    seed : tuple of int
        Seed of the order.
    rank, processes : int
        Rank of this process and number of processes.

    Examples
    --------
    >>> sampler = EpochSampler(10, 4, seed=(0,))
    >>> [len(rows) for rows in sampler]
    [4, 3, 3]
    """

    def __init__(
        self, n: int, batch_size: int, seed: tuple[int, ...], rank: int = 0, processes: int = 1
    ) -> None:
        self.n, self.seed, self.rank, self.processes = n, seed, rank, processes
        self.steps = -(-n // batch_size)
        self.epoch = 0
        self.first_step = 0

    def __len__(self) -> int:
        """Return the number of batches from `first_step` on."""
        return self.steps - self.first_step

    def __iter__(self) -> Iterator[Tensor]:
        """Yield this process's row numbers of each batch, int64[b], from `first_step` on."""
        order = np.random.default_rng((*self.seed, self.epoch)).permutation(self.n)
        for batch in np.array_split(order, self.steps)[self.first_step :]:
            yield torch.from_numpy(np.array_split(batch, self.processes)[self.rank])

    def batch_size(self, step: int) -> int:
        """Return the batch size of a step, over all processes."""
        return self.n // self.steps + (step < self.n % self.steps)


class PairSampler:
    """Sampler of batches of pairs, int64[b, 2]: each row with a partner.

    Parameters
    ----------
    sampler : EpochSampler
        Sampler of the first rows, int64[b].
    partners : callable
        Function from the first rows, int64[b], and the step to their partners, int64[b].
    """

    def __init__(self, sampler: EpochSampler, partners: Callable[[Tensor, int], Tensor]) -> None:
        self.sampler, self.partners = sampler, partners

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Tensor]:
        for step, rows in enumerate(self.sampler, start=self.sampler.first_step):
            yield torch.stack([rows, self.partners(rows, step)], 1)
