"""Context manager for code with a random seed of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

#: Lock on torch's generators, which all threads share.
_LOCK = threading.RLock()


@contextmanager
def own_random_numbers(seed: int | None = None) -> Iterator[None]:
    """Reserve torch's global random generators for the current thread, and restore them afterward.

    Other threads wait, so that the random numbers of each thread depend only on its seed.

    Parameters
    ----------
    seed : int, optional
        Seed of the generators. Default: keep the current state.

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
