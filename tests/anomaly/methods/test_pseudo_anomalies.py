"""Pseudo-anomalies made of normal patches."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nearfar.anomaly import ArrayClip, Grid
from nearfar.anomaly.methods.motion import PSEUDO_ANOMALIES, draw_samples
from nearfar.anomaly.methods.motion.pseudo_anomalies import cut_surroundings, glide

PATCH, FRAMES, NOISE = 32, 5, 2.0
HEIGHT, WIDTH = 14, 6


def walk(speed: float, frames: int, seed: int = 0) -> np.ndarray:
    """A walker on a ramp: the upper half is light, the lower half changes with each frame."""
    generator = np.random.default_rng(seed)
    background = np.linspace(80, 95, 2 * PATCH)[None].repeat(2 * PATCH, 0)
    clip = background + generator.normal(0, NOISE, (frames, *background.shape))
    for number in range(frames):
        left, top = round(20 + speed * number) % (2 * PATCH - WIDTH), 25
        clip[number, top : top + HEIGHT // 2, left : left + WIDTH] = 230
        legs = generator.choice([0, 200], size=(HEIGHT // 2, WIDTH))
        clip[number, top + HEIGHT // 2 : top + HEIGHT, left : left + WIDTH] = legs
    return clip.clip(0, 255).round().astype(np.uint8)


def empty(frames: int) -> np.ndarray:
    ramp = np.linspace(80, 95, 2 * PATCH)[None].repeat(2 * PATCH, 0)
    return ramp[None].repeat(frames, 0).round().astype(np.uint8)


EVERYWHERE = np.ones((2 * PATCH, 2 * PATCH), bool)


def test_glide_keeps_pose_and_speed():
    window = walk(2, FRAMES)
    glided = glide(window, empty(8), EVERYWHERE, np.random.default_rng(0))
    assert glided is not None
    # The patch begins half its side into its surroundings.
    walkers = [
        frame[25 - 16 : 25 - 16 + HEIGHT, 20 - 16 + 2 * n : 20 - 16 + 2 * n + WIDTH].astype(int)
        for n, frame in enumerate(glided)
    ]
    original = window[:, 25 : 25 + HEIGHT].astype(int)
    for walker in walkers:
        assert np.abs(walker - walkers[0]).mean() < 3 * NOISE, "the pose is kept"
    poses = [
        np.abs(walkers[0] - original[n][:, 20 + 2 * n : 20 + 2 * n + WIDTH]).mean()
        for n in range(FRAMES)
    ]
    assert min(poses) < 3 * NOISE, "the pose is one of the walker's"


def test_glide_paints_the_background_with_noise():
    window = walk(3, FRAMES)
    glided = glide(window, empty(8), EVERYWHERE, np.random.default_rng(0))
    assert glided is not None
    inner = window[:, 16:-16, 16:-16]
    np.testing.assert_array_equal(glided[:, 28:], inner[:, 28:])
    cleaned = glided[-1, 9 : 9 + HEIGHT, : 4 + WIDTH].astype(float)  # its first place
    left = cleaned - empty(1)[0, 25 : 25 + HEIGHT, 16 : 20 + WIDTH]
    assert np.abs(left.mean()) < NOISE / 2
    assert NOISE / 2 < left.std() < 2 * NOISE


def test_glide_refuses_still_objects():
    assert glide(walk(0, FRAMES), empty(8), EVERYWHERE, np.random.default_rng(0)) is None
    shaken = np.random.default_rng(0).integers(0, 256, (FRAMES, 2 * PATCH, 2 * PATCH))
    assert glide(shaken.astype(np.uint8), empty(8), EVERYWHERE, np.random.default_rng(0)) is None, (
        "there is no background"
    )


@given(st.integers(0, 40 - 16), st.integers(0, 50 - 16))
def test_cut_surroundings_centers_the_patch(top, left):
    frames = np.random.default_rng(0).integers(0, 256, (2, 40, 50)).astype(np.uint8)
    near, inside = cut_surroundings(frames, top, left, 16)
    assert near.shape == (2, 32, 32)
    np.testing.assert_array_equal(near[:, 8:24, 8:24], frames[:, top : top + 16, left : left + 16])
    rows, columns = np.mgrid[top - 8 : top + 24, left - 8 : left + 24]
    known = (rows >= 0) & (rows < 40) & (columns >= 0) & (columns < 50)
    np.testing.assert_array_equal(inside, known)
    np.testing.assert_array_equal(near[0][known], frames[0][rows[known], columns[known]])


@pytest.mark.parametrize("kind", PSEUDO_ANOMALIES)
def test_draw_samples_by_kind_and_share(kind):
    clip = ArrayClip(walk(2, 60))
    grid = Grid((2 * PATCH, 2 * PATCH), 16, 4)
    drawn = draw_samples([clip], grid, 3, seed=0, count=40, fractions={kind: 0.5})
    assert (~drawn.abnormal).sum() == 40
    assert drawn.abnormal.sum() == 20
    assert drawn.patches.shape == (60, 3, 16, 16)
    again = draw_samples([clip], grid, 3, seed=0, count=40, fractions={kind: 0.5})
    assert torch.equal(drawn.patches, again.patches)
