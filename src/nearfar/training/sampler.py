"""Order of the images in an epoch, in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor


class EpochSampler:
    """Batches of rows in a random order that depends on the seed and the epoch alone.

    The batches of an epoch have nearly the same size: every image is seen once, and there is no
    small, noisy last batch. Each process gets its part of every batch, so that batches do not
    depend on the number of processes.

    Parameters
    ----------
    n : int
        Number of images.
    batch_size : int
        The largest batch, over all processes together.
    seed : tuple of int
        Decides the order, with the epoch.
    rank, processes : int
        Number of this process, and of all.

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
        """Return the number of batches left in the epoch."""
        return self.steps - self.first_step

    def __iter__(self) -> Iterator[Tensor]:
        """Yield this process's rows of each batch, from `first_step` of `epoch` on."""
        order = np.random.default_rng((*self.seed, self.epoch)).permutation(self.n)
        for batch in np.array_split(order, self.steps)[self.first_step :]:
            yield torch.from_numpy(np.array_split(batch, self.processes)[self.rank])

    def batch_size(self, step: int) -> int:
        """Return the size of a batch over all processes."""
        return self.n // self.steps + (step < self.n % self.steps)


class PairSampler:
    """Batches of a sampler, with a partner for each row.

    Parameters
    ----------
    sampler : EpochSampler
        Its batches are int64[b]; these are int64[b, 2].
    partners : callable
        From the rows of a batch, int64[b], and its step to their partners, int64[b].
    """

    def __init__(self, sampler: EpochSampler, partners: Callable[[Tensor, int], Tensor]) -> None:
        self.sampler, self.partners = sampler, partners

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Tensor]:
        for step, rows in enumerate(self.sampler, start=self.sampler.first_step):
            yield torch.stack([rows, self.partners(rows, step)], 1)
