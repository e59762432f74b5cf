"""What principal components of normal patches leave out."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA

from memory import ClipInMemory
from nearfar.anomaly.appearance import fit_appearance, still_noise
from nearfar.anomaly.patches import Grid
from nearfar.errors import NearfarError


def noisy(frames: np.ndarray, deviation: float, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=frames.shape) * deviation
    return (frames + noise).round().clip(0, 255).astype(np.uint8)


def test_errors_are_those_of_scikit_learn():
    """For the middle of a patch in the last frame, by patches of its size side by side."""
    size, side = (48, 64), 8
    generator = np.random.default_rng(1)
    axes = generator.normal(size=(5, side, side)) * 20
    mixed = np.tensordot(generator.normal(size=(40, 6, 8, 5)), axes, 1)
    frames = noisy(128 + mixed.transpose(0, 1, 3, 2, 4).reshape(40, *size), 1)
    frames = frames.repeat(2, axis=0)  # so that there is something that does not move
    grid = Grid(size, 2 * side, side)
    learned = Grid(size, side, side)
    patches = np.concatenate([learned.cut(frame[None]) for frame in frames])
    flat = patches.reshape(len(patches), -1) / 255
    found = fit_appearance([ClipInMemory(frames)], grid)
    count = side**2 - len(found.left_out)
    assert count >= 5
    pca = PCA(count, svd_solver="full").fit(flat)
    window = generator.integers(0, 256, (3, *size)).astype(np.uint8)
    middles = grid.cut(window[-1:])[:, 0, side // 2 : -side // 2, side // 2 : -side // 2]
    middles = middles.reshape(len(middles), -1) / 255
    expected = np.square(middles - pca.inverse_transform(pca.transform(middles))).mean(1)
    np.testing.assert_allclose(found(window, grid).ravel(), expected, rtol=1e-3)


def test_large_patches_are_looked_at_in_their_middle():
    frames = noisy(np.full((4, 100, 100), 99.0), 2)
    assert fit_appearance([ClipInMemory(frames)], Grid((100, 100), 96, 2)).side == 32


def test_noise_is_told_where_nothing_moves():
    generator = np.random.default_rng(0)
    frames = noisy(np.full((20, 48, 48), 128.0), 2)
    frames[:, :8] = generator.integers(0, 2, (20, 8, 48)) * 255  # what moves
    assert still_noise([ClipInMemory(frames)]) == pytest.approx((2 / 255) ** 2, rel=0.1)


def test_rounding_is_noise():
    frames = np.full((5, 8, 8), 128, np.uint8)
    assert still_noise([ClipInMemory(frames)]) == pytest.approx(1 / 12 / 255**2)


def test_a_camera_that_moves_is_refused():
    frames = np.arange(0, 250, 50)[:, None, None].repeat(8, 1).repeat(8, 2).astype(np.uint8)
    with pytest.raises(NearfarError, match="a camera that does not move"):
        still_noise([ClipInMemory(frames)])
