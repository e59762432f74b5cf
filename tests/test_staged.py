"""Normal clips in which something is staged, and what is known of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clips import ClipInMemory
from nearfar.anomaly.clips import Frame
from nearfar.data import ArrayImages
from nearfar.reproduce.staged import (
    BOB,
    CONTRAST,
    HEIGHTS,
    LEVEL,
    PACES,
    SWING,
    WIDTHS,
    StagedClip,
    stage,
)

FRAMES, SHAPE = 60, (240, 360)


@pytest.fixture(scope="module")
def scene() -> ClipInMemory:
    """A gray scene in which nothing happens."""
    return ClipInMemory(np.full((FRAMES, *SHAPE), 200, np.uint8))


@pytest.fixture(scope="module")
def pictures() -> ArrayImages:
    """Each dark and light at other places."""
    ramp = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (64, 1))
    return ArrayImages(np.stack([np.roll(ramp, 8 * i, 1)[None] for i in range(8)]))


@settings(deadline=None)
@given(seed=st.integers(0, 10**6))
def test_what_changes_is_what_is_known(scene, pictures, seed):
    staged = stage([scene], pictures, 2, seed)[seed % 2]
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


@settings(deadline=None)
@given(seed=st.integers(0, 10**6))
def test_what_glides_keeps_its_pace_and_what_sways_bobs(scene, pictures, seed):
    gliding, swaying = stage([scene], pictures, 2, seed)
    down, across = way(gliding)
    steps, pace = np.diff(across), abs(gliding.way.pace)
    assert PACES[0] - 0.01 <= pace <= PACES[1] + 0.01
    assert np.abs(steps).max() <= pace + 1
    assert np.abs(steps).sum() == pytest.approx(pace * len(steps), abs=2 * pace + 2)
    assert np.ptp(down) == 0
    down, _ = way(swaying)
    assert np.ptp(down) == pytest.approx(2 * BOB, abs=0.2)


def way(staged: StagedClip) -> np.ndarray:
    """Where the middle of the thing is, downwards and across, float[2, n]."""
    masks = [staged.of(number, "", SHAPE) for number in range(FRAMES // 2, FRAMES)]
    return np.array([np.argwhere(mask).mean(0) for mask in masks]).T


def test_each_clip_has_another_thing_in_each_round(scene, pictures):
    clips = stage([scene, scene], pictures, 3)
    assert [clip.name for clip in clips] == [f"frames-{n}" for n in (1, 1, 2, 2, 3, 3)]
    assert len({clip.way for clip in clips}) == len(clips)
    looks = {np.asarray(clip.thing.resize((8, 1))).tobytes() for clip in clips}
    assert len(looks) == len(clips)


def test_the_same_seed_stages_the_same(scene, pictures):
    first, again = (stage([scene, scene], pictures, 3)[5] for _ in range(2))
    for (_, one), (_, other) in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_things_have_the_shades_of_people(scene, pictures):
    for clip in stage([scene], pictures, 8):
        levels = np.asarray(clip.thing, np.float32)
        assert abs(levels.mean() - LEVEL) < 15
        assert levels.std() < CONTRAST + 3


def test_gaps_stay_gaps(pictures):
    clip = ClipInMemory(np.full((20, *SHAPE), 200, np.uint8))
    clip.frames = [Frame(number + 100, pixels) for number, pixels in clip.frames if number != 15]
    (staged,) = stage([clip], pictures, 1)
    numbers = [number for number, _ in staged]
    assert numbers == [frame.number for frame in clip.frames]
    abnormal = [staged.of(number, "", SHAPE).any() for number in numbers]
    assert abnormal == [number >= numbers[len(numbers) // 2] for number in numbers]
