"""Weights of Eq. 1 and their schedules."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearfar.config import Weights, WeightSchedule, check_weights
from nearfar.errors import NearfarError


@pytest.mark.parametrize(
    ("weights", "culprit"),
    [
        ((0.5, 0.5), "expected three"),
        ((-0.1, 0.6, 0.5), "nonnegative"),
        ((0.5, 0.2, 0.2), "sum to 0.9"),
        ((math.nan, 0.5, 0.5), "nonnegative"),
    ],
)
def test_check_weights_refuses(weights, culprit):
    with pytest.raises(NearfarError, match=culprit):
        check_weights(weights)


def test_zero_weights_are_legal():
    assert check_weights((0.6, 0.4, 0)) == Weights(0.6, 0.4, 0)


@pytest.mark.parametrize("shape", ["constant", "linear", "cosine"])
@given(progress=st.floats(0, 1))
def test_scheduled_weights_stay_legal(shape, progress):
    schedule = WeightSchedule(Weights(1, 0, 0), Weights(0.5, 0.2, 0.3), shape)
    check_weights(schedule.at(progress))


def test_schedules_go_from_start_to_end():
    start, end = Weights(1, 0, 0), Weights(0.4, 0.3, 0.3)
    for shape in ("linear", "cosine"):
        schedule = WeightSchedule(start, end, shape)
        assert schedule.at(0) == pytest.approx(start)
        assert schedule.at(1) == pytest.approx(end)
        assert schedule.at(0.5) == pytest.approx((0.7, 0.15, 0.15))
    assert WeightSchedule(start, end, "cosine").at(0.1).own > 0.98
    assert WeightSchedule(start, end, "constant").at(1) == start
