"""Samplers for the batches of an epoch. For near and far samples, see `nearfar.neighbors`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor


class EpochSampler:
    """Sampler of batches in a random order that depends only on the seed and the epoch.

    An epoch contains every image once. All batches have nearly the same size, to avoid a small,
    noisy last batch. Each process receives a part of every batch, so the batches are the same for
    any number of processes.

    Set the attributes `epoch` and `first_step` before iterating; both are numbered from 0.

    Parameters
    ----------
    n : int
        Number of images.
    batch_size : int
        Maximum batch size, in total over all processes.
    seed : tuple of int
        Seed of the random order.
    rank, processes : int
        Rank of this process, and number of processes.

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
        """Return the number of batches from `first_step` to the end of the epoch."""
        return self.steps - self.first_step

    def __iter__(self) -> Iterator[Tensor]:
        """Yield the row numbers (int64[b]) of this process in each batch, from `first_step` on."""
        order = np.random.default_rng((*self.seed, self.epoch)).permutation(self.n)
        for batch in np.array_split(order, self.steps)[self.first_step :]:
            yield torch.from_numpy(np.array_split(batch, self.processes)[self.rank])

    def batch_size(self, step: int) -> int:
        """Return the batch size of a step, in total over all processes."""
        return self.n // self.steps + (step < self.n % self.steps)


class PairSampler:
    """Sampler of batches of pairs of rows (int64[b, 2]).

    Parameters
    ----------
    sampler : EpochSampler
        Sampler of the first rows.
    partners : callable
        Function that takes the first rows of a batch (int64[b]) and the step, and returns the
        second rows (int64[b]).
    """

    def __init__(self, sampler: EpochSampler, partners: Callable[[Tensor, int], Tensor]) -> None:
        self.sampler, self.partners = sampler, partners

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Tensor]:
        for step, rows in enumerate(self.sampler, start=self.sampler.first_step):
            yield torch.stack([rows, self.partners(rows, step)], 1)
