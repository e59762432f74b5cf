"""Overview of scores, in bounded memory."""

from __future__ import annotations

import tracemalloc

import numpy as np

from nearfar.anomaly import ScoredFrame
from nearfar.anomaly.output import FrameResult
from nearfar.anomaly.overview import OverviewCollector


def result(number, score, clip="a", size=(40, 60)):
    heat = np.zeros(size, np.float32)
    heat[size[0] // 2, size[1] // 2] = score
    return FrameResult(clip, ScoredFrame(number, score, heat), np.zeros(size, np.uint8))


def add(collector, each, span=None):
    collector.add(each, each.scored.heat, span)


def test_highest_photographs_in_bounded_memory():
    scores = np.random.default_rng(0).permutation(3000).astype(float)

    def collect(count):
        collector = OverviewCollector(2990, independent=True)
        tracemalloc.start()
        for number, score in enumerate(scores[:count]):
            add(collector, result(number, score))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return collector.overview(), peak

    _, few = collect(300)
    overview, many = collect(3000)
    assert many < 1.2 * few
    assert [each.score for each in overview.highlights] == list(range(2999, 2799, -1))
    assert sum(each.abnormal for each in overview.highlights) == 9
    assert overview.scores == scores.tolist()
    assert overview.timelines == []


def test_peak_of_each_span():
    collector = OverviewCollector(1, independent=False)
    spans = [None, 1, 1, 1, None, 2]
    for number, (score, span) in enumerate(zip([0, 2, 5, 3, 0, 4], spans, strict=True)):
        add(collector, result(number, score), span)
    assert [(each.number, each.score) for each in collector.overview().highlights] == [
        (2, 5),
        (5, 4),
    ]


def test_peaks_survive_in_long_clips_and_among_many():
    collector = OverviewCollector(1, independent=False)
    for number in range(50_000):
        add(collector, result(number, 9 if number == 33_333 else 0, size=(2, 2)))
    (timeline,) = collector.overview().timelines
    assert len(timeline.scores) == len(timeline.starts) <= 1000
    peak = int(np.argmax(timeline.scores))
    assert timeline.starts[peak] <= 33_333 < timeline.starts[peak + 1]
    for clip in range(60):
        add(collector, result(0, clip / 10, clip=f"clip {clip}", size=(2, 2)))
    kept = [each.clip for each in collector.overview().timelines]
    assert kept == ["a", *(f"clip {clip}" for clip in range(37, 60))]


def test_pictures_show_the_highest_score_of_large_images():
    collector = OverviewCollector(1, independent=True)
    for size in ((3000, 2000), (600, 100), (20, 20)):
        add(collector, result(0, 5, size=size))
    for highlight in collector.overview().highlights:
        height, width = highlight.picture.shape[:2]
        assert 130 < max(height, width // 2) <= 156
        assert (highlight.picture[:, width // 2 + 2 :] > 200).any(), "the outline of one hot pixel"
