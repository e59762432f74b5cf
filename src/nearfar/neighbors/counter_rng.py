"""Counter-based random numbers, which do not depend on the order in which they are drawn."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def stratified_draws(
    counters: Tensor, totals: Tensor, count: int, *, seed: int, draw: int
) -> Tensor:
    """Return T distinct random integers below an upper bound for each row.

    The t-th integer (t = 0…T − 1) is drawn from the interval [t·bound/T, (t + 1)·bound/T).

    Parameters
    ----------
    counters : int64[b]
        Counter of each row. Rows with the same counter and the same bound get the same integers.
    totals : int64[b]
        Upper bound of each row (exclusive), ≥ T.
    count : int
        Number T of integers per row.
    seed, draw : int
        Seed and number of the draw, ≥ 0. Each pair yields different integers.

    Returns
    -------
    int64[b, T]
        Integers in ascending order along each row.
    """
    steps = torch.arange(count + 1, device=totals.device)
    bounds = totals[:, None] * steps // count
    low, high = bounds[:, :-1], bounds[:, 1:]
    noise = _splitmix64(counters[:, None] * count + steps[:-1], _start(seed, draw))
    return low + noise % (high - low)


def _start(seed: int, draw: int) -> int:
    """Return the initial state of the generator, a signed 64-bit integer."""
    return int(np.random.SeedSequence([seed, draw]).generate_state(1, np.uint64).view(np.int64)[0])


def _splitmix64(index: Tensor, start: int) -> Tensor:
    """Return the SplitMix64 random numbers at the given indices, without sign bits (≥ 0).

    See Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014. The
    unsigned constants of the paper are written as signed integers, because the 64-bit integers of
    torch are signed.
    """
    x = index * -0x61C8864680B583EB + start
    x = (x ^ ((x >> 30) & (2**34 - 1))) * -0x40A7B892E31B1A47
    x = (x ^ ((x >> 27) & (2**37 - 1))) * -0x6B2FB644ECCEEE15
    return (x ^ ((x >> 31) & (2**33 - 1))) & (2**63 - 1)
