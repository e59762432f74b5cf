"""Page of anomaly scores, in a browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nearfar.anomaly import (
    ArrayClip,
    Detector,
    DetectorConfig,
    Grid,
    ScoringSummary,
    open_clips,
    score_clips,
)
from nearfar.report import write_scores_page
from nearfar.report.figures import clip_scores, score_histogram

HOSTILE = "<img src=x onerror=document.title='attacked'>"


class Brightness:
    def score(self, window: Any, grid: Grid) -> Any:
        return grid.means(window[-1].astype(np.float32))


def detector_of(*, independent: bool) -> Detector:
    config = DetectorConfig.paper(patch=8, stride=8, independent_frames=independent)
    return Detector(config, Grid((32, 48), 8, 8), [Brightness()], threshold=100.0, calibrated_on=9)


def image(level: int) -> np.ndarray:
    pixels = np.full((32, 48), 20, np.uint8)
    pixels[8:24, 24:40] = level
    return pixels


@pytest.fixture
def opened(chromium: Any) -> Iterator[Callable[[Path], Any]]:
    """Opener of pages, which may neither fail nor load anything."""
    context = chromium.new_context(viewport={"width": 1100, "height": 900})
    complaints: list[str] = []

    def open_page(file: Path) -> Any:
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "request",
            lambda request: (
                complaints.append(request.url[:80])
                if not request.url.startswith(("data:", file.as_uri()))
                else None
            ),
        )
        page.goto(file.as_uri())
        return page

    yield open_page
    assert not complaints
    context.close()


def scored(detector: Detector, clips: Any, folder: Path) -> tuple[ScoringSummary, Path]:
    summary = score_clips(detector, clips, folder, overwrite=True)
    return summary, write_scores_page(folder, detector, summary)


def test_photographs_are_shown_from_the_highest_score_down(
    opened: Callable[[Path], Any], tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    names = ["dim.png", f"{HOSTILE}.png".replace("/", ""), "bright.png"]
    for name, level in zip(names, (50, 150, 250), strict=True):
        Image.fromarray(image(level)).save(folder / name)
    detector = detector_of(independent=True)
    _, file = scored(detector, open_clips(folder), tmp_path / "out")
    page = opened(file)
    assert page.locator(".lead").inner_text() == "3 images, 2 above the threshold."
    assert page.locator("figcaption").all_inner_texts() == [
        "photos/bright.png\nscore 250, above the threshold",
        f"photos/{names[1]}\nscore 150, above the threshold",
        "photos/dim.png\nscore 50, below the threshold",
    ]
    assert page.title() == "Anomaly scores"
    assert "100" in page.locator("dl").inner_text()
    drawn = page.evaluate("""() => {
        const image = document.querySelector("figure img");
        const canvas = document.createElement("canvas");
        canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
        const context = canvas.getContext("2d");
        context.drawImage(image, 0, 0);
        const [x, y] = [canvas.width / 2, canvas.height / 2];
        const at = (left) => Array.from(context.getImageData(left, y, 1, 1).data.slice(0, 3));
        return [at(0.66 * x), at(x + 0.66 * x), at(x + 0.1 * x)];
    }""")
    plain, hot, cold = np.array(drawn, int)
    assert plain.min() > 230, "the image itself is at the left"
    assert hot[0] > hot[2] + 50, "its heat map at the right is colored where it is bright"
    assert cold.max() < 60
    page.set_viewport_size({"width": 375, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    again = scored(detector, open_clips(folder), tmp_path / "out")[1]
    assert again == file, "its own page does not prevent overwriting"


def test_video_shows_the_peak_of_each_alert(opened: Callable[[Path], Any], tmp_path: Path) -> None:
    pytest.importorskip("av")
    levels = [50] * 10 + [150, 160, 250, 140] + [50] * 5 + [120] + [50] * 5
    clip = ArrayClip([image(level) for level in levels], name="cam", rate=10)
    quiet = ArrayClip([image(50)] * 5, name="quiet", rate=10)
    detector = detector_of(independent=False)
    summary, file = scored(detector, [clip, quiet], tmp_path / "out")
    page = opened(file)
    assert page.locator(".lead").inner_text() == "30 frames, 2 abnormal spans."
    assert page.locator("figcaption").all_inner_texts() == [
        "cam, frame 12, 1.20 s\nscore 250",
        "cam, frame 19, 1.90 s\nscore 120",
    ]
    chart = page.locator("section img").first
    assert chart.get_attribute("alt") == "Scores over time: cam reaches 250, quiet reaches 50"
    assert [timeline.scores for timeline in summary.overview.timelines] == [levels, [50] * 5]
    summary, file = scored(detector, [quiet], tmp_path / "out")
    assert "No frame is above the threshold." in opened(file).locator("main").inner_text()


def test_figure_of_scores_over_time_marks_alerts() -> None:
    curve = {"starts": [0, 2, 4, 6], "scores": [1, 5, 6, 1], "abnormal": [False, True, True, False]}
    (axes,) = clip_scores({"cam": curve}, 1, threshold=3, seconds=True).axes
    (span,) = axes.patches
    assert (span.get_x(), span.get_width()) == (1, 4)
    assert [list(line.get_ydata()) for line in axes.lines] == [[1, 5, 6, 1], [3, 3]]


def test_no_bar_of_the_histogram_crosses_the_threshold() -> None:
    scores = np.random.default_rng(0).gamma(4, size=500)
    (axes,) = score_histogram(scores, 7.7).axes
    below, above = axes.containers
    assert sum(bar.get_height() for bar in below) == (scores <= 7.7).sum()
    assert sum(bar.get_height() for bar in above) == (scores > 7.7).sum()
    assert max(bar.get_x() + bar.get_width() for bar in below if bar.get_height()) <= 7.7 + 1e-9
