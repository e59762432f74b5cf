"""Normal clips in which something is staged, and what is known of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import maximum_filter

from nearfar.anomaly import ArrayClip, Frame
from nearfar.data import ArrayImages
from nearfar.experiments.synthetic_clips import (
    BOB,
    CONTRAST,
    HEIGHTS,
    LEVEL,
    SPEEDS,
    SWING,
    WIDTHS,
    StagedClip,
    stage,
)

FRAMES, SHAPE = 60, (180, 120)
#: Pixels that a thing fades out over.
RIM = 3


@pytest.fixture(scope="module")
def scene() -> ArrayClip:
    """A gray scene in which nothing happens."""
    return ArrayClip(np.full((FRAMES, *SHAPE), 200, np.uint8))


@pytest.fixture(scope="module")
def pictures() -> ArrayImages:
    """Each dark and light at other places."""
    ramp = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (64, 1))
    return ArrayImages(np.stack([np.roll(ramp, 8 * i, 1)[None] for i in range(8)]))


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6))
def test_what_changes_is_what_is_known(scene, pictures, seed):
    staged = stage([scene], pictures, 2, seed)[seed % 2]
    frames = list(staged)
    assert [frame.number for frame in frames] == list(range(FRAMES))
    for (number, pixels, *_), (_, before, *_) in zip(frames, scene, strict=True):
        known, changed = staged.mask(number, staged.name, pixels.shape), pixels != before
        assert not (known & ~changed).any()  # no shade of these pictures is as light as the scene
        if not changed[:, [0, -1]].any():  # otherwise the tip of a thing may be all that is seen
            assert not (changed & ~maximum_filter(known, 2 * RIM + 1)).any()
        if not known.any():
            continue
        rows, columns = np.nonzero(known)
        assert np.ptp(rows) < HEIGHTS[1]
        assert np.ptp(columns) < WIDTHS[1] * (1 + SWING)
        assert SHAPE[0] // 4 - BOB <= rows.min() <= rows.max() < 3 * SHAPE[0] // 4 + BOB


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6))
def test_things_come_in_at_one_side_and_leave_at_the_other(scene, pictures, seed):
    staged = stage([scene], pictures, 2, seed)[seed % 2]
    longest = range(FRAMES + round((SHAPE[1] + 2 * WIDTHS[1]) / SPEEDS[0]))
    masks = [staged.mask(number, "", SHAPE) for number in longest]
    seen = np.flatnonzero([mask.any() for mask in masks])
    first, last = masks[seen[0]], masks[seen[-1]]
    assert FRAMES // 4 <= seen[0] < FRAMES // 2 + 5
    if staged.trajectory.pace < 0:
        first, last = first[:, ::-1], last[:, ::-1]
    reach = round(SPEEDS[1]) + 4
    assert np.nonzero(first)[1].max() < reach
    assert np.nonzero(last)[1].min() >= SHAPE[1] - reach


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6))
def test_what_glides_keeps_its_pace_and_what_sways_bobs(scene, pictures, seed):
    gliding, swaying = stage([scene], pictures, 2, seed)
    down, across = whole_path(gliding)
    np.testing.assert_allclose(np.diff(across), gliding.trajectory.pace, atol=1)
    assert across[-1] - across[0] == pytest.approx(
        gliding.trajectory.pace * (len(across) - 1), abs=1
    )
    assert SPEEDS[0] - 0.01 <= abs(gliding.trajectory.pace) <= SPEEDS[1] + 0.01
    assert np.ptp(down) == 0
    down, _ = whole_path(swaying)
    assert np.ptp(down) == pytest.approx(2 * BOB, abs=0.2)


def whole_path(staged: StagedClip) -> np.ndarray:
    """Where the middle of the object is while all of it is in the scene, down and across."""
    masks = [staged.mask(number, "", SHAPE) for number in range(FRAMES * 6)]
    whole = [mask for mask in masks if mask.any() and not mask[:, [0, -1]].any()]
    return np.array([np.argwhere(mask).mean(0) for mask in whole]).T


def test_each_clip_has_another_thing_in_each_round(scene, pictures):
    clips = stage([scene, scene], pictures, 3)
    assert [clip.name for clip in clips] == [f"frames-{n}" for n in (1, 1, 2, 2, 3, 3)]
    assert len({clip.trajectory for clip in clips}) == len(clips)
    looks = {np.asarray(clip.picture.resize((8, 1))).tobytes() for clip in clips}
    assert len(looks) == len(clips)


def test_the_same_seed_stages_the_same(scene, pictures):
    first, again = (stage([scene, scene], pictures, 3)[5] for _ in range(2))
    for (_, one, *_), (_, other, *_) in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_things_have_the_shades_of_people(scene, pictures):
    for clip in stage([scene], pictures, 8):
        levels = np.asarray(clip.picture, np.float32)
        assert abs(levels.mean() - LEVEL) < 15
        assert levels.std() < CONTRAST + 3


def test_gaps_stay_gaps(pictures):
    clip = ArrayClip(np.full((20, *SHAPE), 200, np.uint8))
    clip.frames = [
        Frame(number + 100, pixels) for number, pixels, *_ in clip.frames if number != 15
    ]
    (staged,) = stage([clip], pictures, 1)
    numbers = [frame.number for frame in staged]
    assert numbers == [frame.number for frame in clip.frames]
    assert staged.trajectory.start in numbers[4:9]
    steps = [number - staged.trajectory.start for number in numbers]
    abnormal = [staged.mask(number, "", SHAPE).any() for number in numbers]
    assert not any(abnormal[: steps.index(0) + 1])
    assert abnormal[-1]
