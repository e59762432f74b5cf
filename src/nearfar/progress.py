"""Progress display with rate and remaining time: bars on terminals, lines of text elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from threading import Timer
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

#: Period over which to estimate the speed, in seconds; long, since some items take hours.
_SPEED_PERIOD = 86_400.0
#: Seconds until the first line, and maximum number of seconds between lines.
_FIRST_LINE, _LINES = 10.0, 300.0
#: Minimum number of finished items for an estimate of the remaining time.
_FEW = 5


class Track(Protocol):
    """Protocol of progress displays: callables that yield items and may show the progress.

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
        """Yield the items, which are `total` in number. `description` names the task."""
        ...


def silent(items: Iterable[Item], description: str, total: int) -> Iterable[Item]:
    """Return the items without a progress display. This is the default `Track`.

    Examples
    --------
    >>> list(silent([3, 4], "decoding", 2))
    [3, 4]
    """
    return items


def tracked(track: Track, description: str, work: Callable[[], Item]) -> Item:
    """Perform a single task, show its duration, and return its result.

    Examples
    --------
    >>> tracked(silent, "loading", lambda: 3)
    3
    """
    (result,) = track((work() for _ in range(1)), description, 1)
    return result


class Bars:
    """Progress bars on terminals, progress lines in notebooks and logs.

    On a terminal, each task has a bar. Elsewhere, a line is printed after ten seconds, and further
    lines at increasing intervals of at most five minutes.

    Parameters
    ----------
    console : rich.console.Console
        Console to write to.

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
        if self.progress.disable:
            yield from self._with_lines(items, description, total)
            return
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

    def _with_lines(self, items: Iterable[Item], description: str, total: int) -> Iterator[Item]:
        """Yield items, and write lines of progress in between."""
        began, due = time.monotonic(), _FIRST_LINE

        def say(line: str) -> None:
            self.progress.console.print(line, highlight=False, markup=False, soft_wrap=True)

        def say_that_none_is_done() -> None:
            nonlocal due
            due += _FIRST_LINE
            say(f"{description}: 0 of {total:,}")

        first = Timer(_FIRST_LINE, say_that_none_is_done)
        first.daemon = True
        first.start()
        try:
            for done, item in enumerate(items):
                elapsed = time.monotonic() - began
                if done:
                    first.cancel()
                if done and elapsed >= due:
                    line = f"{description}: {done:,} of {total:,}"
                    if done >= _FEW:
                        line += f", {duration(elapsed / done * max(total - done, 0))} left"
                    say(line)
                    due = elapsed + min(elapsed, _LINES)
                yield item
        finally:
            first.cancel()


def duration(seconds: float) -> str:
    """Return a duration as text: in hours and minutes, in minutes, or in seconds.

    Examples
    --------
    >>> duration(0.51), duration(90), duration(3700)
    ('0.5 s', '2 min', '1 h 02 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


class _Rate(ProgressColumn):
    """Progress bar column with the number of items per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "", style="progress.data.speed")
