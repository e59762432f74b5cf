"""Detectors on clips and streams."""

from __future__ import annotations

import shutil
from dataclasses import replace
from itertools import count

import numpy as np
import pytest

from clips import SMALL, scene, scores_of, write_clip
from nearfar.anomaly import Grid, as_frames, fit_detector, open_clips, read_detector
from nearfar.anomaly.methods.motion import draw_samples
from nearfar.anomaly.output import score_with_pixels
from nearfar.errors import NearfarError


def test_detector_finds_fast_motion(fitted, abnormal):
    scores = scores_of(fitted, open_clips(abnormal)[0])
    assert len(scores) == 60
    assert np.median(scores[34:]) > scores[:26].max()


def test_detector_finds_odd_appearance_at_any_speed(tmp_path):
    clip = scene(1, 240)
    clips = open_clips(write_clip(tmp_path / "normal", clip[:200]))
    config = replace(SMALL, methods=("appearance",), frames=1)
    detector = fit_detector(clips, tmp_path / "run", config)
    odd = clip[200:].copy()
    odd[20:, ::2][odd[20:, ::2] == 220] = 0
    scores = [scored.score for scored in detector.score(as_frames(odd))]
    assert max(scores[:17]) < detector.threshold * 1.2
    assert min(scores[22:]) > detector.threshold * 5


def test_score_of_a_stream_is_lazy_and_equals_that_of_a_folder(fitted, abnormal):
    (clip,) = open_clips(abnormal)
    frames = np.stack([frame.pixels for frame in clip])
    taken = 0

    def stream():
        nonlocal taken
        for pixels in frames:
            taken += 1
            yield pixels

    detector = read_detector(fitted)
    scores = []
    for scored in detector.score(as_frames(stream())):
        scores.append(scored.score)
        assert taken <= scored.number + 2 * SMALL.smoothing + SMALL.frames
    np.testing.assert_array_equal(scores, scores_of(fitted, clip))


def test_score_of_an_endless_stream(fitted):
    clip = scene(1)
    endless = as_frames(clip[number % 40] for number in count())
    scored = read_detector(fitted).score(endless)
    assert [next(scored).number for _ in range(100)] == list(range(100))


@pytest.mark.parametrize("lost", [1, 3])
def test_lost_frames_raise_no_alarm_and_give_no_samples(fitted, normal, tmp_path, lost):
    (clip,) = open_clips(normal / "Train3")
    stream = [frame.pixels for frame in clip]
    stream[20 : 20 + lost] = [None] * lost
    detector = read_detector(fitted)
    found = {scored.number: scored.score for scored in detector.score(as_frames(stream))}
    assert len(found) == 40 - lost
    # Beside a gap, scores are averaged over fewer frames than those behind the threshold.
    assert max(found.values()) <= 1.2 * detector.threshold

    folder = shutil.copytree(normal / "Train3", tmp_path / "gap")
    for number in range(20, 20 + lost):
        (folder / f"{number}.png").write_bytes(b"no")
    grid = Grid((48, 64), SMALL.patch, SMALL.stride)
    (gap,) = open_clips(tmp_path / "gap")
    watched = {seen.scored.number: seen.pixels for seen in score_with_pixels(detector, gap)}
    assert list(watched) == list(found)
    assert all((watched[frame.number] == frame.pixels).all() for frame in gap)
    drawn = draw_samples([gap], grid, 2, seed=0, count=2000)
    steps = drawn.patches[~drawn.abnormal].float().diff(dim=1).abs().mean((1, 2, 3))
    whole = draw_samples([clip], grid, 2, seed=0, count=2000)
    assert (
        steps.max()
        <= whole.patches[~whole.abnormal].float().diff(dim=1).abs().mean((1, 2, 3)).max()
    )


def test_score_refuses_frames_of_another_size(fitted):
    with pytest.raises(NearfarError, match="20x20 pixels, expected 48x64"):
        list(read_detector(fitted).score(as_frames(np.zeros((5, 20, 20), np.uint8))))
