"""Normal clips in which something is staged, and what is known of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clips import ClipInMemory
from nearfar.anomaly.clips import Frame
from nearfar.data import ArrayImages
from nearfar.reproduce.staged import BOB, HEIGHTS, PACES, SWING, WIDTHS, stage

FRAMES, SHAPE = 60, (240, 360)


@pytest.fixture(scope="module")
def scene() -> ClipInMemory:
    """A gray scene in which nothing happens."""
    return ClipInMemory(np.full((FRAMES, *SHAPE), 200, np.uint8))


@pytest.fixture(scope="module")
def pictures() -> ArrayImages:
    """Dark on the left, light on the right."""
    ramp = np.broadcast_to(np.arange(0, 256, 4, dtype=np.uint8), (8, 1, 64, 64))
    return ArrayImages(ramp.copy())


@given(seed=st.integers(0, 10**6))
def test_what_changes_is_what_is_known(scene, pictures, seed):
    (staged,) = stage([scene], pictures, 1, seed)
    frames = list(staged)
    assert [number for number, _ in frames] == list(range(FRAMES))
    for (number, pixels), (_, before) in zip(frames, scene, strict=True):
        known, changed = staged.of(number, staged.name, pixels.shape), pixels != before
        assert known.any() == changed.any() == (number >= FRAMES // 2)
        assert not (known & ~changed).any()  # no shade of these pictures is as light as the scene
        if not known.any():
            continue
        rows, columns = np.nonzero(known)
        assert np.ptp(rows) < HEIGHTS[1]
        assert np.ptp(columns) < WIDTHS[1] * (1 + SWING)
        assert SHAPE[0] // 4 - BOB <= rows.min() <= rows.max() < 3 * SHAPE[0] // 4 + BOB


@given(seed=st.integers(0, 10**6))
def test_it_keeps_its_pace_and_only_what_sways_bobs(scene, pictures, seed):
    (staged,) = stage([scene], pictures, 1, seed)
    pace = abs(staged.path.pace)
    assert PACES[0] - 0.01 <= pace <= PACES[1] + 0.01
    masks = [staged.of(number, "", SHAPE) for number in range(FRAMES // 2, FRAMES)]
    down, across = np.array([np.argwhere(mask).mean(0) for mask in masks]).T
    slack = 1 if not staged.path.sways else 1 + SWING * WIDTHS[1]
    assert np.abs(np.diff(across)).max() <= pace + slack
    # At a border it turns, and is as far from it as it would have gone beyond.
    assert np.abs(np.diff(across)).sum() >= pace * (len(masks) - 1) - 4 * pace - 4
    assert (np.ptp(down) > 0.5) == staged.path.sways


def test_each_clip_has_another_thing_in_each_round(scene, pictures):
    clips = stage([scene, scene], pictures, 3)
    assert [clip.name for clip in clips] == [f"frames-{n}" for n in (1, 1, 2, 2, 3, 3)]
    ways = {(clip.path, clip.thing.size) for clip in clips}
    assert len(ways) == len(clips)
    first, again = (stage([scene, scene], pictures, 3)[5] for _ in range(2))
    for (_, one), (_, other) in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_gaps_stay_gaps(pictures):
    clip = ClipInMemory(np.full((20, *SHAPE), 200, np.uint8))
    clip.frames = [Frame(number + 100, pixels) for number, pixels in clip.frames if number != 15]
    (staged,) = stage([clip], pictures, 1)
    numbers = [number for number, _ in staged]
    assert numbers == [frame.number for frame in clip.frames]
    abnormal = [staged.of(number, "", SHAPE).any() for number in numbers]
    assert abnormal == [number >= numbers[len(numbers) // 2] for number in numbers]
