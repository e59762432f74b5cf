"""A handful of killed calls per command; `python -m robustness.kill` tries a hundred."""

from __future__ import annotations

import pytest

from robustness.kill import kill
from selective_search import needs_selective_search


@pytest.mark.slow
@pytest.mark.parametrize("command", ["train", "encode", "curate", "transfer"])
def test_killed_commands_can_be_repeated(command: str) -> None:
    if command == "transfer":
        needs_selective_search()
    result = kill(command, 6)
    assert not result.faults, result.faults[0]
    assert sum(result.counts.values()) == 6
