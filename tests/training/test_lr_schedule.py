"""Learning rate schedules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearfar.training import lr_factor


@given(st.floats(0, 1))
def test_factors_are_at_most_one(done):
    assert lr_factor("constant", done) == 1
    assert 0 <= lr_factor("one-cycle", done) <= 1


def test_one_cycle_rises_and_falls():
    factors = [lr_factor("one-cycle", done / 100) for done in range(101)]
    peak = factors.index(max(factors))
    assert factors[0] == pytest.approx(1 / 25)
    assert factors[peak] == pytest.approx(1)
    assert peak == 20
    assert factors[-1] == pytest.approx(0)
    assert sorted(factors[:peak]) == factors[:peak]
    assert sorted(factors[peak:], reverse=True) == factors[peak:]
