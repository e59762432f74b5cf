"""Patches: windows, grids and samples."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from nearfar.anomaly import ArrayClip, Frame, Grid, gather_patches, windows
from nearfar.errors import NearfarError

GENERATOR = np.random.default_rng(0)
FRAMES = GENERATOR.integers(0, 256, (12, 32, 48), dtype=np.uint8)


def test_windows_end_at_each_frame():
    frames = [Frame(number, pixels) for number, pixels in enumerate(FRAMES)]
    found = list(windows(frames, 3))
    assert [frame.number for frame, _ in found] == list(range(12))
    np.testing.assert_array_equal(found[7][1], FRAMES[5:8])
    np.testing.assert_array_equal(found[0][1], FRAMES[:3])
    with pytest.raises(NearfarError, match="12 frames in a row, fewer than the 13"):
        list(windows(frames, 13))


def test_windows_do_not_reach_across_gaps():
    numbers = [0, 1, 2, 3, 6, 7, 9, 10, 11]  # 6 and 7 are too few
    found = list(windows([Frame(number, FRAMES[number]) for number in numbers], 3))
    assert [frame.number for frame, _ in found] == [0, 1, 2, 3, 9, 10, 11]
    for frame, window in found:
        last = max(frame.number, 11 if frame.number > 8 else 2)
        np.testing.assert_array_equal(window, FRAMES[last - 2 : last + 1])
    with pytest.raises(NearfarError, match="1 frames in a row"):
        list(windows([Frame(number, FRAMES[number]) for number in (0, 2, 4, 6)], 3))


@pytest.mark.parametrize(
    ("size", "patch", "stride"), [((240, 360), 30, 30), ((33, 50), 16, 5), ((9, 9), 9, 4)]
)
def test_grid_covers_every_pixel_and_cuts_at_its_positions(size, patch, stride):
    grid = Grid(size, patch, stride)
    frames = GENERATOR.integers(0, 256, (2, *size), dtype=np.uint8)
    cut = grid.extract(frames)
    covered = np.zeros(size, bool)
    for number, (top, left) in enumerate(itertools.product(grid.tops, grid.lefts)):
        here = np.s_[:, top : top + patch, left : left + patch]
        covered[here[1:]] = True
        np.testing.assert_array_equal(cut[number], frames[here])
        np.testing.assert_array_equal(grid.extract(frames, np.array([number]))[0], frames[here])
    assert covered.all()
    means = cut[:, 0].mean((1, 2)).reshape(grid.shape)
    np.testing.assert_allclose(grid.means(frames[0].astype(np.float32)), means, rtol=1e-5)


def test_grid_spread_gives_pixels_the_score_of_their_patch():
    grid = Grid((60, 90), 30, 30)
    scores = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(grid.upsample(scores), np.kron(scores, np.ones((30, 30))))


def test_gather_patches_returns_all_or_a_fair_sample():
    clips = [ArrayClip(FRAMES)]
    everything = gather_patches(clips, 16, 16, 2, name="all")
    assert everything.shape == (2, 16, 16)
    assert len(everything) == 12 * 6
    some = gather_patches(clips, 16, 16, 2, name="some", max_bytes=20 * 512)
    assert len(some) == 20
    last = {patch.numpy().tobytes() for patch in list(everything)[-24:]}
    late = [
        sum(
            patch.numpy().tobytes() in last
            for patch in gather_patches(clips, 16, 16, 2, name="s", seed=s, max_bytes=20 * 512)
        )
        for s in range(30)
    ]
    assert np.mean(late) == pytest.approx(20 * 24 / 72, abs=1)
    known = {patch.numpy().tobytes() for patch in everything}
    drawn = [patch.numpy().tobytes() for patch in some]
    assert set(drawn) <= known


def test_grid_refuses_small_frames():
    with pytest.raises(NearfarError, match="20x20 pixels are smaller"):
        Grid((20, 20), 30, 30)
