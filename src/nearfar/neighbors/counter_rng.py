"""Counter-based random numbers: they depend on a counter, not on time or place of the draw."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def stratified_draws(
    counters: Tensor, totals: Tensor, count: int, *, seed: int, draw: int
) -> Tensor:
    """Draw distinct whole numbers below a total: the t-th from [t·total/T, (t + 1)·total/T).

    Parameters
    ----------
    counters : int64[b]
        Counter of each row of draws; equal counters get equal numbers, in any batch.
    totals : int64[b]
        Bound of each row, ≥ T.
    count : int
        T, numbers per row.
    seed, draw : int
        Seed, and number of the draw, ≥ 0.

    Returns
    -------
    int64[b, T]
        Numbers in ascending order.
    """
    steps = torch.arange(count + 1, device=totals.device)
    bounds = totals[:, None] * steps // count
    low, high = bounds[:, :-1], bounds[:, 1:]
    noise = _splitmix64(counters[:, None] * count + steps[:-1], _start(seed, draw))
    return low + noise % (high - low)


def _start(seed: int, draw: int) -> int:
    """Return the start of the generator in its sequence, as a signed 64-bit integer."""
    return int(np.random.SeedSequence([seed, draw]).generate_state(1, np.uint64).view(np.int64)[0])


def _splitmix64(index: Tensor, start: int) -> Tensor:
    """Return numbers of the SplitMix64 generator at some indices, without their sign bits.

    Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014; its
    unsigned constants are written as signed ones, like torch's 64-bit integers.
    """
    x = index * -0x61C8864680B583EB + start
    x = (x ^ ((x >> 30) & (2**34 - 1))) * -0x40A7B892E31B1A47
    x = (x ^ ((x >> 27) & (2**37 - 1))) * -0x6B2FB644ECCEEE15
    return (x ^ ((x >> 31) & (2**33 - 1))) & (2**63 - 1)
