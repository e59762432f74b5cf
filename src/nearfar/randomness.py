"""Sections of code with random numbers of their own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

#: Held by the thread that draws: torch has one generator per device for all threads.
_LOCK = threading.RLock()


@contextmanager
def own_random_numbers(seed: int | None = None) -> Iterator[None]:
    """Keep torch's global random numbers to one thread, and restore their state afterwards.

    Threads take turns, so that each gets the numbers of its seed.

    Parameters
    ----------
    seed : int, optional
        Seed to start from. Default: the present state.

    Examples
    --------
    >>> with own_random_numbers(0):
    ...     first = torch.rand(2)
    >>> with own_random_numbers(0):
    ...     bool((torch.rand(2) == first).all())
    True
    """
    with _LOCK, torch.random.fork_rng():
        if seed is not None:
            torch.manual_seed(seed)
        yield
