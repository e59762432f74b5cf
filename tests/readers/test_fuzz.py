"""A hundred damaged inputs per reader; `make fuzz` tries ten thousand."""

from __future__ import annotations

import pytest

from readers.fuzz import fuzz, targets


@pytest.mark.parametrize("reader", sorted(targets()))
def test_damaged_inputs_are_used_skipped_or_rejected(reader: str) -> None:
    result = fuzz(reader, 100)
    assert not result.faults, result.faults[0]
    assert sum(result.counts.values()) == 100
