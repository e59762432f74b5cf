"""Times taken side by side, so that a machine that is slower for a while is so for all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median


def seconds(call: Callable[..., object], *arguments: object) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - start


def in_turns(
    measures: Mapping[str, Callable[[], float]], rounds: int, unmeasured: int = 0
) -> dict[str, list[float]]:
    """What each measures in each round, after some that do not count."""
    found: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(unmeasured + rounds):
        for name, measure in measures.items():
            found[name].append(measure())
    return {name: each[unmeasured:] for name, each in found.items()}


def ratio(above: list[float], below: list[float]) -> float:
    """The median ratio of what was measured in the same round."""
    return median(a / b for a, b in zip(above, below, strict=True))
