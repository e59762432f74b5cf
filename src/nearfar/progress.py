"""Progress bars with a rate and the time left, where someone is watching."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

Item = TypeVar("Item")

#: Seconds from which the time left is estimated: some items take hours.
REMEMBERED = 86_400.0


class Track(Protocol):
    """Passes items through, and may show how far they have come."""

    def __call__(self, items: Iterable[Item], description: str, total: int) -> Iterable[Item]:
        """Yield the items, `total` of them."""
        ...


def silent(items: Iterable[Item], description: str, total: int) -> Iterable[Item]:
    """Show nothing."""
    return items


class Bars:
    """A `Track` that shows a bar for each task under way, if `console` is a terminal."""

    def __init__(self, console: Console) -> None:
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
            speed_estimate_period=REMEMBERED,
        )
        self._tasks = 0

    def __call__(self, items: Iterable[Item], description: str, total: int) -> Iterator[Item]:
        """See `Track`."""
        task = self.progress.add_task(description, total=total)
        self._tasks += 1
        self.progress.start()
        try:
            yield from self.progress.track(items, task_id=task, total=total)
        finally:
            self.progress.remove_task(task)
            self._tasks -= 1
            if self._tasks == 0:
                self.progress.stop()


class _Rate(ProgressColumn):
    """Items a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "", style="progress.data.speed")
