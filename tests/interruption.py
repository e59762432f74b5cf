"""Interruption of training at a given step, with and without a warning."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from typing import Any

PHASES = ("pretrain", "train")


class StopAt:
    """A `Track` that interrupts the process at one of the training steps, as Ctrl-C would.

    Parameters
    ----------
    step : int
        Number of the step, from 1, over all counted phases.
    number : signal
        Signal to raise.
    phases : collection of str
        Phases whose steps count.
    """

    def __init__(
        self,
        step: int,
        number: signal.Signals = signal.SIGINT,
        *,
        phases: Iterable[str] = PHASES,
    ) -> None:
        self.left, self.number, self.phases = step, number, set(phases)

    def __call__(self, items: Iterable[Any], description: str, total: int) -> Iterator[Any]:
        for item in items:
            if description in self.phases:
                self.left -= 1
                if self.left == 0:
                    os.kill(os.getpid(), self.number)
            yield item


def crash_at(step: int, phase: str = "train") -> Any:
    """Return a `Track` that raises at one of the steps of a phase, without a checkpoint."""

    def track(items, description, total):
        for number, item in enumerate(items):
            if description == phase and number == step:
                raise RuntimeError("crash")
            yield item

    return track
