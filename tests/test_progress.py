"""Progress in logs and notebooks, which have no bars."""

from __future__ import annotations

import io
import itertools
import time

import pytest
from rich.console import Console

from nearfar.progress import Bars, tracked


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let one second pass between looks at the clock."""
    ticks = itertools.count()
    monkeypatch.setattr(time, "monotonic", lambda: float(next(ticks)))


@pytest.mark.usefixtures("seconds")
def test_long_tasks_get_lines_less_and_less_often() -> None:
    log = io.StringIO()
    items = Bars(Console(file=log))(range(1500), "reading [1] images", 1500)
    assert list(items) == list(range(1500))
    first, *_, last = lines = log.getvalue().splitlines()
    assert first == "reading [1] images: 9 of 1,500, 28 min left"
    done = [int(line.split(": ")[1].split(" of ")[0].replace(",", "")) for line in lines]
    assert done == [9, 19, 39, 79, 159, 319, 619, 919, 1219]
    assert last.endswith("1,219 of 1,500, 5 min left")


@pytest.mark.usefixtures("seconds")
def test_time_left_is_not_guessed_from_few_items() -> None:
    log = io.StringIO()
    for _ in Bars(Console(file=log))(range(9), "evaluating", 9):
        for _ in range(5):
            time.monotonic()
    assert log.getvalue().splitlines() == [
        "evaluating: 2 of 9",
        "evaluating: 5 of 9, 24.8 s left",
    ]


def test_a_single_long_item_gets_a_line_while_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nearfar.progress._FIRST_LINE", 0.01)
    log = io.StringIO()

    def wait() -> str:
        while not log.getvalue():
            time.sleep(0.01)
        return "done"

    assert tracked(Bars(Console(file=log)), "loading", wait) == "done"
    assert log.getvalue() == "loading: 0 of 1\n"


@pytest.mark.usefixtures("seconds")
def test_short_tasks_and_other_processes_stay_silent() -> None:
    log = io.StringIO()
    list(Bars(Console(file=log))(range(9), "reading", 9))
    list(Bars(Console(file=log, quiet=True))(range(1000), "reading", 1000))
    assert log.getvalue() == ""
