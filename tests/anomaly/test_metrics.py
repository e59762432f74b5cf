"""Metrics of anomaly scores: closed forms, other libraries, invariances, undefined values."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from torchmetrics.functional.classification import binary_auroc

from nearfar.anomaly import (
    PixelCurve,
    RegionCurve,
    average_precision,
    equal_error_rate,
    f1_score,
    macro_average,
    overlap_score,
    roc_auc,
)
from nearfar.errors import NearfarError

both_kinds = st.lists(st.tuples(st.booleans(), st.integers(-50, 50)), min_size=2).filter(
    lambda pairs: len({label for label, _ in pairs}) == 2
)


def unzip(pairs):
    labels, scores = zip(*pairs, strict=True)
    return np.array(labels), np.array(scores, float)


@pytest.mark.parametrize(
    ("labels", "scores", "expected"),
    [
        ([0, 0, 1, 1], [1, 2, 3, 4], 0.0),
        ([1, 1, 0, 0], [1, 2, 3, 4], 1.0),
        ([0, 1, 0, 1], [1, 2, 3, 4], 0.5),
        ([0, 1], [5, 5], 0.5),
        ([0, 0, 0, 0, 1, 1, 1, 1], [1, 2, 3, 8, 4, 5, 6, 7], 0.25),
    ],
)
def test_equal_error_rate_in_closed_form(labels, scores, expected):
    assert equal_error_rate(np.array(labels, bool), np.array(scores)) == pytest.approx(expected)


def test_equal_error_rate_of_two_gaussians():
    """Two unit Gaussians at a distance of two have an error of Φ(−1) at their midpoint."""
    generator = np.random.default_rng(0)
    scores = np.concatenate([generator.normal(size=40_000), generator.normal(2, size=10_000)])
    labels = np.arange(50_000) >= 40_000
    assert equal_error_rate(labels, scores) == pytest.approx(0.158655, abs=0.005)


@given(both_kinds)
def test_equal_error_rate_is_invariant_to_increasing_maps(pairs):
    labels, scores = unzip(pairs)
    rate = equal_error_rate(labels, scores)
    assert equal_error_rate(labels, np.exp(scores / 7) * 3 + 1) == rate
    assert equal_error_rate(~labels, -scores) == pytest.approx(rate)
    assert 0 <= rate <= 1


@given(both_kinds)
def test_area_under_curve_equals_torchmetrics(pairs):
    labels, scores = unzip(pairs)
    theirs = binary_auroc(torch.tensor(scores / 100 + 0.5), torch.tensor(labels).int())
    assert roc_auc(labels, scores) == pytest.approx(float(theirs), abs=1e-6)


def test_metrics_of_one_kind_are_none():
    ones, scores = np.ones(3, bool), np.arange(3.0)
    assert roc_auc(ones, scores) is None
    assert equal_error_rate(~ones, scores) is None
    both = {"a": (ones, scores), "b": (np.array([0, 1], bool), np.array([0.0, 1.0]))}
    found = macro_average(roc_auc, both)
    assert found.undefined == ["a"]
    assert found.mean == 1.0
    assert macro_average(equal_error_rate, both).mean == 0.0
    assert macro_average(roc_auc, {"a": (ones, scores)}).mean is None


def test_metrics_refuse_nan_and_other_shapes():
    with pytest.raises(NearfarError, match="NaN"):
        roc_auc(np.array([True, False]), np.array([0.0, np.nan]))
    with pytest.raises(NearfarError, match="shape"):
        equal_error_rate(np.array([True]), np.arange(2.0))


def test_pixel_curve_equals_scikit_learn():
    generator = np.random.default_rng(1)
    curve, heats, masks = PixelCurve(), [], []
    for _ in range(5):
        mask = generator.random((20, 30)) < 0.2
        heat = (generator.normal(size=mask.shape) + mask).astype(np.float32)
        curve.add(heat, mask)
        heats.append(heat.ravel())
        masks.append(mask.ravel())
    labels, scores = np.concatenate(masks), np.concatenate(heats)
    assert curve.auc() == pytest.approx(roc_auc_score(labels, scores), abs=1e-4)
    assert curve.equal_error_rate() == pytest.approx(equal_error_rate(labels, scores), abs=2e-3)


def test_pixel_curve_of_one_kind_is_none():
    curve = PixelCurve()
    curve.add(np.zeros((2, 2)), np.zeros((2, 2), bool))
    assert curve.auc() is None
    with pytest.raises(NearfarError, match="the same"):
        curve.add(np.zeros((2, 2)), np.zeros((2, 3), bool))


def test_overlap_score_needs_forty_percent_of_the_pixels():
    heat = np.arange(10.0).reshape(2, 5)
    mask = np.ones((2, 5), bool)
    assert overlap_score(heat, mask) == 6  # at 6, four of ten pixels are found
    assert overlap_score(heat, mask, min_overlap=0.41) == 5
    assert overlap_score(heat, ~mask) == 9


def region_area(heat, mask):
    curve = RegionCurve()
    curve.add(heat, mask)
    return curve.auc()


def test_region_curve_counts_regions_alike():
    mask = np.zeros((40, 40), bool)
    mask[2:6, 2:6] = mask[20:36, 20:36] = True
    assert region_area(mask.astype(float), mask) == pytest.approx(1)
    small = np.zeros_like(mask, dtype=float)
    small[2:6, 2:6] = 1  # one of two regions is found, the other never
    assert region_area(small, mask) == pytest.approx(0.5, abs=0.01)
    assert region_area(small, np.zeros_like(mask)) is None


def test_region_curve_equals_every_threshold():
    generator = np.random.default_rng(0)
    heat = generator.integers(0, 50, (30, 30)).astype(float)
    mask = np.zeros((30, 30), bool)
    mask[3:7, 3:9] = mask[12:25, 12:20] = True
    regions = (heat[3:7, 3:9], heat[12:25, 12:20])
    rates = np.linspace(0, 0.3, 200)
    found = []
    for rate in rates:
        allowed = [t for t in range(-1, 50) if (heat[~mask] > t).mean() <= rate]
        found.append(np.mean([(region > min(allowed)).mean() for region in regions]))
    assert region_area(heat, mask) == pytest.approx(np.trapezoid(found, rates) / 0.3)


def test_average_precision_and_f1_equal_those_of_sklearn():
    from sklearn import metrics

    generator = np.random.default_rng(0)
    labels, scores = generator.random(200) < 0.3, generator.random(200).round(2)
    assert average_precision(labels, scores) == metrics.average_precision_score(labels, scores)
    for threshold in (0.0, 0.5, 0.9, 2.0):
        expected = metrics.f1_score(labels, scores > threshold)
        assert f1_score(labels, scores, threshold) == pytest.approx(expected)
    assert average_precision(~labels & False, scores) is None
    assert f1_score(~labels & False, scores, 0.5) is None
