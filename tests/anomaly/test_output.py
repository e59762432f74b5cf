"""Alerts, worst frames and overlays."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nearfar.anomaly import ScoredFrame
from nearfar.anomaly.output import ALARM_COLOR, Alerts, FrameResult, WorstFrames, overlay


def seen(number: int, score: float, clip: str = "a", file: str = "") -> FrameResult:
    heat = np.full((1, 1), score, np.float32)
    return FrameResult(clip, ScoredFrame(number, score, heat), np.zeros((8, 8), np.uint8), file)


def test_alerts_join_consecutive_frames():
    alerts = Alerts(threshold=1)
    for number, score in enumerate([0, 2, 5, 3, 1, 2]):
        alerts.add(seen(number, score))
    alerts.add(seen(0, 9, "b"))
    spans = [(span.clip, span.start, span.end, span.worst) for span in alerts.spans]
    assert spans == [("a", 1, 3, 2), ("a", 5, 5, 5), ("b", 0, 0, 0)]


def test_alerts_end_at_lost_frames():
    alerts = Alerts(threshold=1)
    for number in (10, 11, 12, 5000, 5001):
        alerts.add(seen(number, 2))
    assert [(span.start, span.end) for span in alerts.spans] == [(10, 12), (5000, 5001)]


def test_alerts_of_still_images_are_not_joined():
    alerts = Alerts(threshold=1, join=False)
    for number in range(3):
        alerts.add(seen(number, 2, file=f"{number}.png"))
    assert [span.file for span in alerts.spans] == ["0.png", "1.png", "2.png"]


@given(scores=arrays(np.float64, st.integers(1, 200), elements=st.floats(0, 9), unique=True))
def test_worst_frames_are_apart(scores):
    worst = WorstFrames(shown=4, distance=10)
    for number, score in enumerate(scores):
        worst.add(seen(number, score))
    candidates = [
        first + int(np.argmax(scores[first : first + 10])) for first in range(0, len(scores), 10)
    ]
    expected: list[int] = []
    for number in sorted(candidates, key=lambda n: -scores[n]):
        if all(abs(number - other) >= 10 for other in expected):
            expected.append(number)
    found = [one.scored.number for one in worst.frames()]
    assert found[0] == np.argmax(scores)
    assert scores[found].tolist() == scores[expected[:4]].tolist()


def test_worst_frames_of_rising_scores():
    worst = WorstFrames()
    for number in range(1000):
        worst.add(seen(number, number))
    assert [one.scored.number for one in worst.frames()] == list(range(999, 879, -10))


def test_overlay_keeps_normal_pixels():
    pixels = np.full((4, 6), 100, np.uint8)
    heat = np.zeros((4, 6), np.float32)
    heat[0, 0] = 9
    picture = overlay(pixels, heat, threshold=1)
    assert (picture[1:] == 100).all()
    assert not (picture[0, 0] == 100).all()


def test_overlay_marks_abnormal_pixels():
    pixels = np.full((100, 120), 100, np.uint8)
    heat = np.zeros((100, 120), np.float32)
    normal = overlay(pixels, heat, 1, "7  0.5")
    heat[40:60, 40:60] = 1.5
    abnormal = overlay(pixels, heat, 1, "7  1.5")
    assert tuple(abnormal[40, 50]) == ALARM_COLOR
    assert tuple(abnormal[50, 50]) != ALARM_COLOR
    assert tuple(normal[0, 0]) == (0, 0, 0)
    assert tuple(abnormal[0, 0]) == ALARM_COLOR
