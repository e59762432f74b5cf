"""Progress bars with rate and remaining time, shown only on terminals."""

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

#: Period over which to estimate the speed, in seconds: some items take hours.
_SPEED_PERIOD = 86_400.0


class Track(Protocol):
    """Progress display: a callable that yields items and may show how many are done.

    Examples
    --------
    >>> def announce(items, description, total):
    ...     print(f"{description}: {total} items")
    ...     return items
    >>> [image for image in announce([3, 4], "decoding", 2)]
    decoding: 2 items
    [3, 4]
    """

    def __call__(self, items: Iterable[Item], description: str, total: int) -> Iterable[Item]:
        """Yield the `total` items; `description` names what is done with them."""
        ...


def silent(items: Iterable[Item], description: str, total: int) -> Iterable[Item]:
    """Return the items without showing anything; the default `Track`.

    Examples
    --------
    >>> list(silent([3, 4], "decoding", 2))
    [3, 4]
    """
    return items


class Bars:
    """Progress bars, one per running task: a `Track` for terminals.

    Parameters
    ----------
    console : rich.console.Console
        Console for the bars; nothing is shown if it is not a terminal.

    Examples
    --------
    >>> import io
    >>> from rich.console import Console
    >>> list(Bars(Console(file=io.StringIO()))([3, 4], "decoding", 2))
    [3, 4]
    """

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
            speed_estimate_period=_SPEED_PERIOD,
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
    """Progress bar column with the number of items per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "", style="progress.data.speed")
