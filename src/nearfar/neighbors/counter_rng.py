"""Random numbers that depend on what they are for, not on when or where they are drawn."""

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
        What each row of draws is for: the same counter gets the same numbers, in any batch.
    totals : int64[b]
        The bound of each row, ≥ T.
    count : int
        T, how many numbers to draw for each counter.
    seed, draw : int
        Which of the endlessly many draws to give, ≥ 0.

    Returns
    -------
    int64[b, T]
        In ascending order.
    """
    steps = torch.arange(count + 1, device=totals.device)
    bounds = totals[:, None] * steps // count
    low, high = bounds[:, :-1], bounds[:, 1:]
    noise = _splitmix64(counters[:, None] * count + steps[:-1], _start(seed, draw))
    return low + noise % (high - low)


def _start(seed: int, draw: int) -> int:
    """Where in its sequence the generator starts, as a signed 64-bit integer."""
    return int(np.random.SeedSequence([seed, draw]).generate_state(1, np.uint64).view(np.int64)[0])


def _splitmix64(index: Tensor, start: int) -> Tensor:
    """The numbers of the SplitMix64 generator at some indices, without their sign bits.

    Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014; its
    unsigned constants are written as signed ones, since torch's 64-bit integers are signed.
    """
    x = index * -0x61C8864680B583EB + start
    x = (x ^ ((x >> 30) & (2**34 - 1))) * -0x40A7B892E31B1A47
    x = (x ^ ((x >> 27) & (2**37 - 1))) * -0x6B2FB644ECCEEE15
    return (x ^ ((x >> 31) & (2**33 - 1))) & (2**63 - 1)
