"""A detector for video follows the size of what moves, and the frame rate."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from nearfar.anomaly import (
    ArrayClip,
    Camera,
    Detector,
    DetectorConfig,
    Frame,
    Grid,
    fit_detector,
    measure_camera,
    read_detector,
    windows,
)
from nearfar.anomaly.camera import views
from nearfar.errors import NearfarError


def walk(height: int, size: tuple[int, int] = (96, 160), frames: int = 24) -> np.ndarray:
    """A bright block of a height walks over a dark background."""
    clip = np.full((frames, *size), 40, np.uint8)
    for number, frame in enumerate(clip):
        left = (4 * number) % (size[1] - 10)
        frame[8 : 8 + height, left : left + 10] = 220
    return clip


def test_height_is_that_of_what_moves():
    standing = walk(60)
    standing[:, 80:90] = 255  # does not move
    assert measure_camera([ArrayClip(standing)]).height == pytest.approx(60, abs=3)


def test_height_is_measured_in_own_pixels_of_large_frames():
    clip = ArrayClip(walk(200, (300, 1280), 12))
    assert measure_camera([clip]).height == pytest.approx(200, abs=8)


def test_no_clips():
    with pytest.raises(NearfarError, match="there are no clips"):
        measure_camera([])


def test_nothing_moves():
    camera = measure_camera([ArrayClip(np.full((8, 48, 64), 90, np.uint8))])
    assert camera == Camera((48, 64), None, None)
    assert (camera.zoom(43, min_side=48), camera.step(10)) == (1.0, 1)


@pytest.mark.parametrize(
    ("height", "zoom"), [(43, 1.0), (50, 1.0), (35, 1.0), (86, 2.0), (20, 0.5), (5, 0.5)]
)
def test_zoom(height, zoom):
    assert Camera((480, 640), height, None).zoom(43, min_side=48) == zoom


def test_zoom_leaves_room_for_a_patch():
    assert Camera((96, 640), 400, None).zoom(43, min_side=48) == 2.0


@pytest.mark.parametrize(("rate", "step"), [(None, 1), (5, 1), (10, 1), (25, 2), (60, 6)])
def test_step(rate, step):
    assert Camera((480, 640), 43, rate).step(10) == step


class Change:
    """Mean change from the first to the last frame of a window."""

    def score(self, window, grid):
        return grid.means(np.abs(window[-1].astype(np.float32) - window[0]))


def test_the_same_scene_gives_the_same_scores_at_twice_its_size_and_rate():
    small = walk(24, (64, 120), 40)
    fast = small.repeat(2, axis=0).repeat(2, axis=1).repeat(2, axis=2)
    settings = {"methods": ("appearance",), "patch": 16, "stride": 8}
    scores = []
    for clip, zoom, step in ((small, 1.0, 1), (fast, 2.0, 2)):
        config = DetectorConfig(**settings, zoom=zoom, step=step, smoothing=0)
        grid = Grid(config.scaled_size(clip.shape[1:]), 16, 8)
        detector = Detector(config, grid, [Change()], size=clip.shape[1:])
        scores.append(np.array([scored.score for scored in detector.score(ArrayClip(clip))]))
    slow, quick = scores
    assert slow[::2] == pytest.approx(quick[::4], rel=0.05)


@pytest.mark.parametrize(("seconds", "warned"), [(4, True), (61, False)])
def test_settings_for_video_warn_of_little_footage(seconds, warned):
    with warnings.catch_warnings(record=True) as caught:
        DetectorConfig.video([ArrayClip(walk(24, (48, 64), 10 * seconds))])
    assert [str(each.message)[:25] for each in caught] == ["4 seconds of normal video"] * warned


def test_windows_with_a_step():
    frames = [Frame(number, np.full((8, 8), number, np.uint8)) for number in range(7)]
    found = [(f.number, w[:, 0, 0].tolist()) for f, w in windows(frames, 3, step=2)]
    assert found == [*((number, [0, 2, 4]) for number in range(6)), (6, [2, 4, 6])]


def test_windows_with_a_step_start_anew_after_a_gap():
    numbers = (0, 1, 2, 4, 5, 6, 7)
    frames = [Frame(number, np.full((8, 8), number, np.uint8)) for number in numbers]
    found = [(f.number, w[:, 0, 0].tolist()) for f, w in windows(frames, 2, step=2)]
    first = [(number, [0, 2]) for number in (0, 1, 2)]
    assert found == [*first, *((number, [4, 6]) for number in (4, 5, 6, 7))]


def test_views_keep_gaps():
    frames = [None if number == 4 else np.zeros((8, 8), np.uint8) for number in range(8)]
    even, odd = views([ArrayClip(frames)], (4, 4), 2)
    assert [frame.number for frame in even] == [0, 1, 3]
    assert [frame.number for frame in odd] == [0, 1, 2, 3]


def test_maps_have_the_own_size_of_frames(tmp_path):
    clip = ArrayClip(walk(24, (64, 120), 40))
    config = DetectorConfig(methods=("appearance",), patch=16, stride=8, zoom=2.0, smoothing=0)
    fit_detector([clip], tmp_path / "run", config)
    detector = read_detector(tmp_path / "run")
    assert detector.grid == Grid((32, 60), 16, 8)
    scored = next(detector.score(clip))
    assert detector.upsample(scored.heat).shape == (64, 120)
