"""Threshold of normal scores: the fraction of false alarms that it states."""

from __future__ import annotations

import numpy as np
import pytest

from nearfar.anomaly import find_threshold


@pytest.mark.parametrize(
    ("normal", "false_alarms", "above"), [(9, 0.05, 0), (19, 0.05, 0), (39, 0.05, 1), (40, 0.01, 0)]
)
def test_counted_threshold_keeps_the_expected_fraction(normal, false_alarms, above):
    scores = np.random.default_rng(0).permutation(normal)
    threshold, expected = find_threshold(scores, false_alarms, independent=False)
    assert (scores > threshold).sum() == above
    assert expected == (above + 1) / (normal + 1)


@pytest.mark.parametrize("normal", [10, 16, 40, 100, 1000])
@pytest.mark.parametrize("false_alarms", [0.01, 0.05])
def test_fraction_of_false_alarms_is_as_stated_for_any_number_of_photographs(normal, false_alarms):
    generator = np.random.default_rng(0)
    alarms = []
    for _ in range(300):
        scores = generator.lognormal(3, 0.2, normal)
        threshold, expected = find_threshold(scores, false_alarms, independent=True)
        assert expected <= false_alarms
        alarms.append((generator.lognormal(3, 0.2, 2000) > threshold).mean())
    assert 0.6 * false_alarms < np.mean(alarms) < 1.3 * false_alarms


def test_threshold_of_few_photographs_does_not_hang_on_one():
    scores = np.random.default_rng(0).lognormal(3, 0.1, 54)
    before, _ = find_threshold(scores, 0.05, independent=True)
    after, _ = find_threshold([*scores[1:], 100], 0.05, independent=True)
    assert after < 1.02 * before


@pytest.mark.parametrize("scores", [[0.0, 0.0, 0.0, 1.0], [2.0, 2.0, 2.0, 3.0], [1.0]])
def test_scores_without_spread_are_counted(scores):
    assert find_threshold(scores, 0.05, independent=True) == (max(scores), 1 / (len(scores) + 1))
