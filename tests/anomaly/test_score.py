"""Scoring clips into a folder: output, interruptions, clips that cannot be scored."""

from __future__ import annotations

import json
import os
import signal
import sys
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from clips import scene, write_clip
from nearfar.anomaly import (
    Clip,
    Detector,
    DetectorConfig,
    Grid,
    Method,
    as_frames,
    open_clips,
    read_detector,
    register_method,
    score_clips,
)
from nearfar.anomaly.registry import METHODS
from nearfar.errors import NearfarError


@pytest.mark.parametrize(("most", "lost"), [(900, 1000), (4000, 3)])
def test_score_clips_memory_does_not_grow_with_the_video(fitted, tmp_path, most, lost):
    """Even if so many frames are lost that only the first 51 have a score."""
    pytest.importorskip("av")

    class Long(Clip):
        name = "cam"

        def __init__(self, frames: int) -> None:
            super().__init__()
            self.frames = frames

        def __iter__(self):
            yield from as_frames(
                clip[number % 40].copy() if number < 51 or number % lost else None
                for number in range(self.frames)
            )

    clip, detector = scene(1), read_detector(fitted)
    peaks = []
    for frames in (100, 100, most):  # the first round pays for imports
        tracemalloc.start()
        summary = score_clips(detector, [Long(frames)], tmp_path / "out", overwrite=True)
        assert summary.frames == (frames if lost > frames else 51)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 1.1 * peaks[1] + most * 300, "a line of scores for each frame, and no pixels"


def test_score_clips_writes_a_heat_map_per_clip_at_its_rate(fitted, tmp_path):
    av = pytest.importorskip("av")
    cameras, out = tmp_path / "cameras", tmp_path / "out"
    for name in ("cam.1", "cam.2"):
        write_clip(cameras / name, scene(1, 12))
    with av.open(str(cameras / "cam.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "gray"
        for pixels in scene(1, 12):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="gray")))
        container.mux(stream.encode())
    detector = read_detector(fitted)
    score_clips(detector, open_clips(cameras), out)
    written = {clip.name: sum(1 for _ in clip) for clip in open_clips(out / "heat")}
    assert written == {"cam.1.mp4": 12, "cam.2.mp4": 12, "cam.mp4.mp4": 12}
    (heat,) = open_clips(out / "heat" / "cam.mp4.mp4")
    assert next(iter(heat))
    assert heat.rate == 25

    score_clips(detector, open_clips(cameras / "cam.1"), out, overwrite=True)
    assert [path.name for path in (out / "heat").iterdir()] == ["cam.1.mp4"]
    tiny = open_clips(write_clip(tmp_path / "tiny", np.zeros((3, 20, 20), np.uint8)))
    with pytest.raises(NearfarError, match="20x20 pixels"):
        score_clips(detector, tiny, out, overwrite=True)
    assert (out / "scores.csv").is_file(), "what cannot be scored takes nothing away"
    assert all("cam.1" in path.name for path in (out / "worst").iterdir())
    (out / "notes.txt").touch()
    with pytest.raises(NearfarError, match=r"contains 'notes\.txt'"):
        score_clips(detector, open_clips(cameras / "cam.1"), out, overwrite=True)


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_score_clips_keeps_scores_after_termination(fitted, abnormal, tmp_path, format):
    pytest.importorskip("av")
    out = tmp_path / "out"

    def terminated(items, described, total):
        for done, item in enumerate(items):
            if done == 40:
                if format == "csv":
                    assert len((out / "scores.csv").read_text().splitlines()) == 1 + 40
                os.kill(os.getpid(), signal.SIGTERM)
            yield item

    before, counts, marks = signal.getsignal(signal.SIGTERM), [], []

    def note(summary):
        counts.append(summary.frames)
        marks.extend(path.name for path in out.glob(".unfinished-*"))

    with pytest.raises(KeyboardInterrupt):
        score_clips(
            read_detector(fitted),
            open_clips(abnormal),
            out,
            format=format,
            on_finish=note,
            track=terminated,
        )
    assert (counts, len(marks)) == ([40], 1), "other output is written before the mark is removed"
    assert not list(out.glob(".unfinished-*"))
    assert signal.getsignal(signal.SIGTERM) is before
    if format == "csv":
        assert len((out / "scores.csv").read_text().splitlines()) == 1 + 40
    else:
        rows = pytest.importorskip("pyarrow.parquet").read_table(out / "scores.parquet").to_pylist()
        assert [row["frame"] for row in rows] == list(range(40))
    assert json.loads((out / "alerts.json").read_text())["threshold"]
    (heat,) = open_clips(out / "heat" / "Test1.mp4")
    assert len(list(heat)) == 40
    assert list((out / "worst").glob("*.png"))


def test_score_clips_shortens_long_names(fitted, tmp_path):
    pytest.importorskip("av")
    clips = [
        clip
        for extension in "ab"
        for clip in open_clips(write_clip(tmp_path / ("映" * 84 + extension), scene(1, 5)))
    ]
    assert score_clips(read_detector(fitted), clips, tmp_path / "out").frames == 10
    for folder, extension in (("worst", ".png"), ("heat", ".mp4")):
        pictures = list((tmp_path / "out" / folder).iterdir())
        assert [picture.suffix for picture in pictures] == [extension] * 2


def test_score_clips_checks_clips_and_video_library_first(fitted, normal, tmp_path, monkeypatch):
    detector = read_detector(fitted)
    with pytest.raises(NearfarError, match="no clips"):
        score_clips(detector, [], tmp_path / "out")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(NearfarError, match=r"nearfar\[video\]"):
        score_clips(detector, open_clips(normal / "Train0"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_score_refuses_another_rate(fitted, tmp_path):
    pytest.importorskip("av")
    detector = read_detector(fitted)
    detector.rate = 10.0
    (clip,) = open_clips(write_clip(tmp_path / "cam", scene(1, 5)))
    clip.rate = 25.0
    with pytest.raises(NearfarError, match=r"'cam' has 25 frames per second, the normal clips 10"):
        next(detector.score(clip))
    with pytest.raises(NearfarError, match=r"'cam' has 25 frames per second, the normal clips 10"):
        score_clips(detector, [clip], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    summary = score_clips(detector, [*open_clips(tmp_path / "cam"), clip], tmp_path / "out")
    assert summary.frames == 5
    assert "25 frames per second" in summary.skipped[0]


def test_photographs_of_any_size_are_evaluated_by_masks_or_by_folders(tmp_path, monkeypatch):
    monkeypatch.setattr("nearfar.anomaly.registry.METHODS", dict(METHODS))

    class Bright(Method):
        name = "test-bright"
        photographs = True
        min_patch = 1

        def score(self, window, grid):
            assert window.shape == (1, *grid.size, 3)
            return window[-1].mean(2).astype(np.float32)

        fit = write = read = classmethod(lambda cls: None)

    register_method(Bright)
    config = DetectorConfig.stills(methods=("test-bright",))
    detector = Detector(config, Grid((40, 50), 1, 1), [Bright()], threshold=150.0)
    for number, size in enumerate([(40, 50), (30, 90), (64, 40)]):
        for kind, level in (("good", 90), ("scratch", 250)):
            image = np.full((*size, 3), 60, np.uint8)
            image[5:20, 10:30] = level
            for folder in (tmp_path / "test" / kind, tmp_path / "masks" / "scratch"):
                folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(tmp_path / "test" / kind / f"{number:03}.png")
        mask = np.zeros(size, np.uint8)
        mask[5:20, 10:30] = 255
        Image.fromarray(mask).save(tmp_path / "masks" / "scratch" / f"{number:03}_mask.png")
    clips = open_clips(tmp_path / "test")
    by_folder = score_clips(detector, clips, tmp_path / "one").quality
    assert by_folder == {"images": 6, "defective": 3, "auc": 1.0, "ap": 1.0, "f1": 1.0}
    by_mask = score_clips(detector, clips, tmp_path / "two", masks=tmp_path / "masks").quality
    assert by_folder.items() <= by_mask.items()
    assert by_mask["pixel_auc"] == 1.0
    assert by_mask["pro"] == pytest.approx(1.0, abs=0.01)
    pictures = {Image.open(path).size for path in (tmp_path / "two" / "heat").iterdir()}
    assert pictures == {(50, 40), (90, 30), (40, 64)}
    wrong = tmp_path / "masks" / "scratch" / "001_mask.png"
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(wrong)
    with pytest.raises(NearfarError, match="is 9x9 pixels, its image 30x90"):
        score_clips(detector, clips, tmp_path / "three", masks=tmp_path / "masks")
