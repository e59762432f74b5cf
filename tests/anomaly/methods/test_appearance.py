"""Principal components of normal patches, and camera noise."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA

from nearfar.anomaly import ArrayClip, Grid
from nearfar.anomaly.methods.appearance import fit_appearance, still_noise
from nearfar.errors import NearfarError


def noisy(frames: np.ndarray, deviation: float, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=frames.shape) * deviation
    return (frames + noise).round().clip(0, 255).astype(np.uint8)


def test_appearance_error_equals_scikit_learn():
    """The components of all middles, applied to the middles of the last frame."""
    size, side = (48, 64), 8
    generator = np.random.default_rng(1)
    axes = generator.normal(size=(5, side, side)) * 20
    mixed = np.tensordot(generator.normal(size=(40, 6, 8, 5)), axes, 1)
    frames = noisy(128 + mixed.transpose(0, 1, 3, 2, 4).reshape(40, *size), 1)
    frames = frames.repeat(2, axis=0)  # some still pairs
    grid = Grid(size, 2 * side, side)
    learned = Grid((size[0] - side, size[1] - side), side, side)
    border = side // 2
    patches = np.concatenate(
        [learned.extract(f[None, border:-border, border:-border]) for f in frames]
    )
    flat = patches.reshape(len(patches), -1) / 255
    found = fit_appearance([ArrayClip(frames)], grid)
    count = side**2 - len(found.left_out)
    assert count >= 5
    pca = PCA(count, svd_solver="full").fit(flat)
    window = generator.integers(0, 256, (3, *size)).astype(np.uint8)
    middles = grid.extract(window[-1:])[:, 0, side // 2 : -side // 2, side // 2 : -side // 2]
    middles = middles.reshape(len(middles), -1) / 255
    expected = np.square(middles - pca.inverse_transform(pca.transform(middles))).mean(1)
    np.testing.assert_allclose(found.score(window, grid).ravel(), expected, rtol=1e-3)


def test_fit_appearance_refuses_frames_of_another_size():
    frames = noisy(np.full((3, 48, 64), 99.0), 2)
    changed = ArrayClip([*frames, frames[0, :40]])
    for clip in (changed, ArrayClip(frames[:, :40])):
        with pytest.raises(NearfarError, match="40x64 pixels, expected 48x64"):
            fit_appearance([clip], Grid((48, 64), 16, 8))


def test_fit_appearance_limits_the_middle_of_large_patches():
    frames = noisy(np.full((4, 100, 100), 99.0), 2)
    assert fit_appearance([ArrayClip(frames)], Grid((100, 100), 96, 2)).side == 32


def test_still_noise_ignores_motion():
    generator = np.random.default_rng(0)
    frames = noisy(np.full((20, 48, 48), 128.0), 2)
    frames[:, :8] = generator.integers(0, 2, (20, 8, 48)) * 255  # motion
    assert still_noise([ArrayClip(frames)]) == pytest.approx((2 / 255) ** 2, rel=0.1)


def test_still_noise_is_at_least_rounding():
    frames = np.full((5, 8, 8), 128, np.uint8)
    assert still_noise([ArrayClip(frames)]) == pytest.approx(1 / 12 / 255**2)


def test_fit_appearance_leaves_out_at_least_one_axis():
    frames = np.random.default_rng(0).integers(0, 256, (48, 64)).astype(np.uint8)[None].repeat(3, 0)
    grid = Grid((48, 64), 8, 8)
    found = fit_appearance([ArrayClip(frames)], grid)
    assert len(found.left_out) >= 1
    odd = frames[:1].copy()
    odd[0, :16] = 255 - odd[0, :16]
    assert found.score(odd, grid).max() > 0


def test_still_noise_refuses_frames_that_differ_everywhere():
    frames = np.arange(0, 250, 50)[:, None, None].repeat(8, 1).repeat(8, 2).astype(np.uint8)
    with pytest.raises(NearfarError, match="differ everywhere"):
        still_noise([ArrayClip(frames)])
