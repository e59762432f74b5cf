"""HTML page with anomaly scores."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch

from nearfar.anomaly import (
    MAX_TIMELINES,
    SCORES_PAGE,
    Detector,
    Highlight,
    ScoringSummary,
    Timeline,
)
from nearfar.progress import Track, silent
from nearfar.report.figures import clip_scores, score_histogram
from nearfar.report.html import Section, Strip, write_report

#: Title of the figure, from which its file is named.
_SCORES = "Scores"
#: Largest side of a picture, an image beside its heat map, in pixels.
_SIDE = 308
#: Most clips in a row of the figure.
_COLUMNS = 3


def write_scores_page(
    folder: str | os.PathLike[str],
    detector: Detector,
    summary: ScoringSummary,
    *,
    track: Track = silent,
) -> Path:
    """Write an HTML page with the scores of images or clips.

    The page shows pictures in descending order of the score, and a histogram of the scores
    (images) or the scores over time (clips).

    Parameters
    ----------
    folder : str or path
        Output folder, created if needed.
    detector : Detector
        Detector that computed the scores.
    summary : ScoringSummary
        Scores of the detector, returned by `score_clips`.
    track : Track
        Progress display, see `nearfar.progress.Track`.

    Returns
    -------
    Path
        Path of the page.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from nearfar.anomaly import ArrayClip, DetectorConfig, Grid, score_clips
    >>> class Brightness:
    ...     def score(self, window, grid):
    ...         return grid.means(window[-1].astype(np.float32))
    >>> config = DetectorConfig.paper(patch=8, stride=8, independent_frames=True)
    >>> detector = Detector(config, Grid((16, 16), 8, 8), [Brightness()], threshold=100)
    >>> images = ArrayClip([np.full((16, 16), level, np.uint8) for level in (50, 200)])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     summary = score_clips(detector, [images], f"{folder}/out")
    ...     write_scores_page(f"{folder}/out", detector, summary).name
    'scores.html'
    """
    photographs = detector.config.independent_frames
    found = len(summary.alerts)
    if photographs:
        lead = f"{_count(summary.frames, 'image')}, {found} above the threshold."
    else:
        lead = f"{_count(summary.frames, 'frame')}, {_count(found, 'abnormal span')}."
    if summary.skipped:
        lead += f" Not scored, see alerts.json: {len(summary.skipped)}."
    sections = [
        _histogram(detector, summary) if photographs else _timelines(detector, summary),
        _pictures(summary, photographs),
        _threshold(detector, summary),
    ]
    return write_report(
        folder, title="Anomaly scores", lead=lead, sections=sections, name=SCORES_PAGE, track=track
    )


def _histogram(detector: Detector, summary: ScoringSummary) -> Section:
    scores = summary.overview.scores
    sample = "" if len(scores) == summary.frames else f" of a sample of {len(scores)} images"
    return Section(
        _SCORES,
        f"Histogram of the scores{sample}.",
        score_histogram(scores, detector.threshold),
        alt=f"Histogram of the scores; {len(summary.alerts)} are above {detector.threshold:.4g}",
    )


def _timelines(detector: Detector, summary: ScoringSummary) -> Section:
    timelines, threshold = summary.overview.timelines, detector.threshold
    some = " of the clips with the highest scores" if len(timelines) == MAX_TIMELINES else ""
    seconds = all(timeline.seconds for timeline in timelines)
    curves = {
        timeline.clip: {
            "starts": timeline.starts,
            "scores": timeline.scores,
            "abnormal": [score > threshold for score in timeline.scores],
        }
        for timeline in timelines
    }
    return Section(
        _SCORES,
        f"Scores over time{some}. The line is the threshold.",
        clip_scores(curves, min(len(curves), _COLUMNS), threshold=threshold, seconds=seconds),
        alt="Scores over time: " + ", ".join(map(_highest, timelines)),
    )


def _highest(timeline: Timeline) -> str:
    return f"{timeline.clip} reaches {max(timeline.scores):.4g}"


def _pictures(summary: ScoringSummary, photographs: bool) -> Section:
    highlights = summary.overview.highlights
    if not highlights:
        return Section("Pictures", "No frame is above the threshold.")
    total = summary.frames if photographs else len(summary.alerts)
    some = "" if len(highlights) == total else f" (the first {len(highlights)} of {total})"
    what = "Images" if photographs else "The most abnormal frame of each abnormal span"
    return Section(
        "Pictures",
        f"{what}, from the highest score down{some}. The heat map is at the right: red lines "
        "outline pixels above the threshold.",
        [_strip(highlights, photographs=photographs)],
    )


def _strip(highlights: Sequence[Highlight], *, photographs: bool) -> Strip:
    captions = []
    for each in highlights:
        time = "" if each.time is None else f", {each.time:.2f} s"
        verdict = f", {'above' if each.abnormal else 'below'} the threshold" if photographs else ""
        captions.append(f"{each.name}{time}\nscore {each.score:.4g}{verdict}")
    pixels = [torch.from_numpy(each.picture).permute(2, 0, 1) for each in highlights]
    return Strip("", pixels, captions, side=_SIDE)


def _threshold(detector: Detector, summary: ScoringSummary) -> Section:
    what = "image" if detector.config.independent_frames else "frame"
    quality = {
        name: f"{value:.4g}" if isinstance(value, int | float) else str(value)
        for name, value in (summary.quality or {}).items()
        if value is not None
    }
    expected = detector.expected_false_alarms
    alarms = "" if expected is None else f" Expected false-alarm rate: {100 * expected:.2g} %."
    return Section(
        "Threshold",
        f"Set on {_count(detector.calibrated_on, f'normal {what}')}.{alarms}"
        + (" Metrics use masks or folder names as ground truth." if quality else ""),
        {"threshold": f"{detector.threshold:.4g}", **quality},
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
