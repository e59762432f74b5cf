"""Statistics over seeds, and how they are shown."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from nearfar.experiments.statistics import compare, p_greater, percent, seeds_note, spread


def test_spread_and_percent_over_seeds():
    assert spread([0.5]).std is None
    assert percent([0.97, 0.98], 0.977) == "97.50 ± 0.71 (97.7)"
    assert percent([], 0.977) == "(97.7)"


def test_p_greater_is_undefined_for_constant_differences():
    assert p_greater([0.5, 0.6], [0.5, 0.6]) is None
    assert p_greater([0.9, 0.9], [0.8, 0.8]) is None
    assert p_greater([0.5], [0.4]) is None
    assert p_greater([0.7, 0.8, 0.92], [0.5, 0.6, 0.7]) < 0.05


@pytest.mark.parametrize(
    ("above", "below", "expected"),
    [
        ([0.975, 0.981, 0.978], [0.970, 0.975, 0.973], "yes"),
        ([0.975, 0.981, 0.978], [0.970, 0.982, 0.978], "no"),
        ([0.975, 0.981, 0.978], [0.980, 0.986, 0.984], "no"),
        ([0.975], [0.970], "undecided"),
    ],
)
def test_compare_tests_seed_by_seed(above, below, expected):
    summary, table = compare(("NRE", "autoencoder"), {"L-SVM": (above, below)})
    found = summary["L-SVM"]
    differences = np.subtract(above, below)
    assert found["mean"] == pytest.approx(differences.mean())
    assert found["above_noise"] == expected
    if len(above) > 1:
        assert found["std"] == pytest.approx(differences.std(ddof=1))
        p = ttest_1samp(differences, 0, alternative="greater").pvalue
        assert found["p"] == pytest.approx(p)
    line = next(line for line in table.splitlines() if line.startswith("| L-SVM"))
    assert line.endswith(f"| {expected} |")


def test_seeds_note_says_that_one_seed_has_no_spread():
    assert seeds_note(1) == "one seed, so without a standard deviation"
    assert seeds_note(2) == "mean ± standard deviation of 2 seeds"
