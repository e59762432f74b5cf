"""Stop signals and checkpoint timing, synchronized across processes."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, NamedTuple

import torch

from nearfar.data import is_waiting_for_images
from nearfar.training.distributed import all_sum

if TYPE_CHECKING:
    from lightning_fabric import Fabric

#: Seconds between checkpoints within an epoch.
CHECKPOINT_SECONDS = 600.0
#: Steps between checks. If these would take longer than MAX_SECONDS, every step is checked, because
#: torchrun kills processes 30 seconds after SIGTERM.
CHECK_EVERY = 50
MAX_SECONDS = 5.0


class WaitInterrupted(KeyboardInterrupt):
    """Exception for a stop request while training waits for images.

    Training cannot simply finish the step, because the images may never arrive.
    """


class Decision(NamedTuple):
    """Decision whether to stop and whether to write a checkpoint."""

    stop: bool
    due: bool


class StopSignal:
    """Stop signals and checkpoint timing. A signal to one process stops all processes."""

    def __init__(self, fabric: Fabric) -> None:
        self.fabric = fabric
        self.alone = fabric.world_size == 1
        self.asked = False
        self.saved_at = self.checked_at = time.perf_counter()
        self.steps = 0
        self.every = 1

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Context manager that treats the first interrupt or termination signal as a stop request.

        With a single process, the first signal interrupts a wait for images immediately, and a
        second signal interrupts any computation. These exceptions are raised inside the context.

        Raises
        ------
        WaitInterrupted
            If a signal arrives while training waits for images.
        KeyboardInterrupt
            If a second signal arrives.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def ask(number: int, frame: FrameType | None) -> None:
            again, self.asked = self.asked, True
            if self.alone and is_waiting_for_images():
                raise WaitInterrupted
            if self.alone and again:
                raise KeyboardInterrupt

        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def before_wait(self) -> None:
        """Raise `WaitInterrupted` if a signal arrived shortly before a wait for images."""
        if self.alone and self.asked and is_waiting_for_images():
            raise WaitInterrupted

    def is_time(self, step: int) -> bool:
        """Return whether to call `check` after `step` steps of the epoch.

        With several processes, the result is the same in all processes.
        """
        self.steps += 1
        return step % self.every == 0 or (self.alone and self.asked)

    def check(self) -> Decision:
        """Return the common decision of all processes, based on their signals and clocks."""
        now = time.perf_counter()
        due = now - self.saved_at > CHECKPOINT_SECONDS
        mine = torch.tensor([self.asked, due, now - self.checked_at], device=self.fabric.device)
        asked, overdue, seconds = all_sum(self.fabric, mine).tolist()
        slow = seconds / self.fabric.world_size * CHECK_EVERY > MAX_SECONDS * max(self.steps, 1)
        self.every = 1 if slow else CHECK_EVERY
        self.steps, self.checked_at = 0, now
        return Decision(asked > 0, overdue > 0)

    def saved(self) -> None:
        """Restart the checkpoint timer. Call this after writing a checkpoint."""
        self.saved_at = time.perf_counter()
