"""Scaling and smoothing of scores."""

from __future__ import annotations

import numpy as np
import pytest

from nearfar.anomaly.scale import MIN_LEVEL, FrameScores, Scale, smooth


def test_smooth_is_a_gaussian_average():
    maps = [FrameScores(number, np.full((1, 1), 7.0)) for number in range(9)]
    assert [m.scores.item() for m in smooth(maps, 2)] == pytest.approx([7.0] * 9)
    peak = [FrameScores(n, np.full((1, 1), float(n == 4))) for n in range(9)]
    found = [m.scores.item() for m in smooth(peak, 1)]
    weights = np.exp(-0.5 * np.arange(-2, 3) ** 2)
    np.testing.assert_allclose(found[2:7], weights / weights.sum())
    assert [m.number for m in smooth(peak, 1)] == list(range(9))
    assert [m.scores.item() for m in smooth(peak, 0)] == [float(n == 4) for n in range(9)]


def test_scale_of_rows_evens_out_rows():
    generator = np.random.default_rng(0)
    far = generator.exponential(size=(500, 1, 20, 10)).astype(np.float32)
    far[:, :, 10:] *= 3
    scaled = np.stack([Scale.of_rows(far)(m) for m in far])
    assert scaled[:, 0, 15:].mean() == pytest.approx(scaled[:, 0, :5].mean(), rel=0.1)


def test_scale_of_methods_evens_out_units():
    generator = np.random.default_rng(0)
    maps = generator.exponential(size=(1000, 2, 4, 5)).astype(np.float32)
    maps[:, 1] *= 1e-4
    scale = Scale.of_methods(maps, 0.05)
    highest = np.stack([scale(m).max((1, 2)) for m in maps])
    assert (highest > 1).mean(0) == pytest.approx([0.05, 0.05], abs=0.002)
    maps[::50, 0] *= 100
    rare = Scale.of_methods(maps, 0.05).levels
    assert rare[0] == pytest.approx(MIN_LEVEL * maps[:, 0].max()), "little happens in most frames"
    assert rare[1] == scale.levels[1]
    nothing = Scale.of_methods(np.zeros((3, 2, 4, 5), np.float32), 0.05)
    np.testing.assert_array_equal(nothing(maps[0]), maps[0])
