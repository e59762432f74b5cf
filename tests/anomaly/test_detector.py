"""Detectors: learned, kept, read back, and run over clips; what the commands write."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import sys
import tracemalloc
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from nearfar.training.config import TrainConfig
from PIL import Image

from nearfar.anomaly import (
    DetectorConfig,
    as_frames,
    fit_detector,
    open_clips,
    read_detector,
)
from nearfar.anomaly.clips import Clip, Frame
from nearfar.anomaly.detector import Scored
from nearfar.anomaly.fitting import split_clips
from nearfar.anomaly.patches import Grid
from nearfar.anomaly.results import ALARM, Alerts, Seen, Worst, open_video, overlay, watch
from nearfar.anomaly.samples import sample
from nearfar.anomaly.scored import score_clips
from nearfar.anomaly.scoring import QUIETEST, CodeDistance, Numbered, Scale, smoothed
from nearfar.errors import NearfarError
from program import run

SMALL = DetectorConfig(patch=16, stride=8, frames=3, smoothing=1.0)
QUICK = TrainConfig(pretrain_epochs=1, epochs=1, batch_size=32, embedding_size=8, device="cpu")


def scene(speed: float, frames: int = 40, seed: int = 0) -> np.ndarray:
    """Bright blocks that walk over a noisy ground, which is the same for all seeds."""
    ground = np.random.default_rng(0).integers(40, 60, (48, 64)).astype(np.uint8)
    generator = np.random.default_rng(seed)
    clip = np.repeat(ground[None], frames, axis=0)
    for row in (6, 26):
        start = generator.integers(64)
        for number in range(frames):
            left = int(start + speed * number) % 56
            clip[number, row : row + 12, left : left + 6] = 220
    return clip


def write_clip(folder: Path, clip: np.ndarray) -> Path:
    folder.mkdir(parents=True)
    for number, pixels in enumerate(clip):
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def normal(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("normal")
    for number in range(4):
        write_clip(root / f"Train{number}", scene(1, seed=number))
    return root


@pytest.fixture(scope="module")
def abnormal(tmp_path_factory) -> Path:
    """Normal for 30 frames, and then too fast; and the masks."""
    root = tmp_path_factory.mktemp("abnormal")
    clip = np.concatenate([scene(1, 30, seed=9), scene(3, 30, seed=9)])
    masks = np.zeros(clip.shape, np.uint8)
    masks[30:] = (clip[30:] == 220) * 255
    write_clip(root / "Test1", clip)
    write_clip(root / "Test1_gt", masks)
    return root


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, normal) -> Path:
    folder = tmp_path_factory.mktemp("run") / "detector"
    fit_detector(open_clips(normal), folder, SMALL, QUICK)
    return folder


def scores_of(folder: Path, frames) -> np.ndarray:
    return np.array([scored.score for scored in read_detector(folder).score(frames)])


def test_what_is_too_fast_is_found(fitted, abnormal):
    scores = scores_of(fitted, open_clips(abnormal)[0])
    assert len(scores) == 60
    assert np.median(scores[34:]) > scores[:26].max()


def test_what_looks_odd_is_found_however_it_moves(tmp_path):
    clip = scene(1, 240)
    clips = open_clips(write_clip(tmp_path / "normal", clip[:200]))
    config = replace(SMALL, parts=("appearance",), frames=1)
    detector = fit_detector(clips, tmp_path / "run", config)
    odd = clip[200:].copy()
    odd[20:, ::2][odd[20:, ::2] == 220] = 0
    scores = [scored.score for scored in detector.score(as_frames(odd))]
    assert max(scores[:17]) < detector.threshold * 1.2
    assert min(scores[22:]) > detector.threshold * 5


def test_a_stream_is_scored_as_it_comes_and_like_a_folder(fitted, abnormal):
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


def test_an_endless_stream_is_scored(fitted):
    clip = scene(1)
    endless = as_frames(clip[number % 40] for number in count())
    scored = read_detector(fitted).score(endless)
    assert [next(scored).number for _ in range(100)] == list(range(100))


@pytest.mark.parametrize(("most", "lost"), [(900, 1000), (4000, 3)])
def test_memory_does_not_grow_with_the_length_of_the_video(fitted, tmp_path, most, lost):
    """Also if of those after the first 51 so many are lost that none of them has a score."""
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
    for frames in (100, 100, most):  # what is imported the first time does not count
        tracemalloc.start()
        summary = score_clips(detector, [Long(frames)], tmp_path / "out", overwrite=True)
        assert summary.frames == (frames if lost > frames else 51)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 1.1 * peaks[1] + most * 300, "a line of scores for each frame, and no pixels"


@pytest.mark.parametrize("lost", [1, 3])
def test_lost_frames_raise_no_alarm_and_teach_nothing_wrong(fitted, normal, tmp_path, lost):
    (clip,) = open_clips(normal / "Train3")
    stream = [frame.pixels for frame in clip]
    stream[20 : 20 + lost] = [None] * lost
    detector = read_detector(fitted)
    found = {scored.number: scored.score for scored in detector.score(as_frames(stream))}
    assert len(found) == 40 - lost
    # One frame of the tail may be smoothed with fewer others than where the threshold was taken.
    assert max(found.values()) <= 1.2 * detector.threshold

    folder = shutil.copytree(normal / "Train3", tmp_path / "gap")
    for number in range(20, 20 + lost):
        (folder / f"{number}.png").write_bytes(b"no")
    grid = Grid((48, 64), SMALL.patch, SMALL.stride)
    (gap,) = open_clips(tmp_path / "gap")
    watched = {seen.scored.number: seen.pixels for seen in watch(detector, gap)}
    assert list(watched) == list(found)
    assert all((watched[frame.number] == frame.pixels).all() for frame in gap)
    drawn = sample([gap], grid, 2, seed=0, count=2000)
    steps = drawn.patches[~drawn.abnormal].float().diff(dim=1).abs().mean((1, 2, 3))
    whole = sample([clip], grid, 2, seed=0, count=2000)
    assert (
        steps.max()
        <= whole.patches[~whole.abnormal].float().diff(dim=1).abs().mean((1, 2, 3)).max()
    )


def test_fitting_again_gives_the_same(fitted, normal, abnormal, tmp_path):
    made = fit_detector(open_clips(normal), tmp_path / "again", SMALL, QUICK)
    assert made.threshold == read_detector(fitted).threshold
    (clip,) = open_clips(abnormal)
    again = [scored.score for scored in made.score(clip)]
    np.testing.assert_array_equal(again, scores_of(fitted, clip))


def test_the_threshold_lets_the_stated_share_of_normal_frames_pass(fitted, normal):
    detector = read_detector(fitted)
    kept = open_clips(normal)[3]
    assert (scores_of(fitted, kept) > detector.threshold).mean() <= SMALL.false_alarms
    assert detector.calibrated_on == 40
    other = as_frames(scene(1, 200, seed=17))
    alarms = [scored.score > detector.threshold for scored in detector.score(other)]
    assert np.mean(alarms) < 0.1, "40 frames do not show all that is normal"


@pytest.mark.parametrize(
    "config",
    [
        DetectorConfig.paper(patch=16, stride=16),
        DetectorConfig.stills(patch=16, bank_size=50),
        DetectorConfig(parts=("embeddings", "reconstruction"), patch=16, frames=2),
        DetectorConfig(parts=("embeddings", "reconstruction"), patch=16, frames=2, by_place=True),
    ],
    ids=["paper", "stills", "both", "by place"],
)
def test_detectors_with_an_autoencoder(config, normal, abnormal, tmp_path):
    made = fit_detector(open_clips(normal), tmp_path / "run", config, QUICK)
    (clip,) = open_clips(abnormal)
    scores = [scored.score for scored in made.score(clip)]
    np.testing.assert_array_equal(scores, scores_of(tmp_path / "run", clip))
    assert np.isfinite(scores).all()
    assert min(scores) >= 0
    assert not list((tmp_path / "run").rglob("*.npy"))


def test_a_normal_code_has_no_distance():
    encoder = torch.nn.Flatten()
    window = np.random.default_rng(0).integers(0, 256, (1, 16, 16), dtype=np.uint8)
    grid = Grid((16, 16), 8, 8)
    bank = torch.from_numpy(grid.cut(window)).float().flatten(1) / 255
    np.testing.assert_allclose(CodeDistance(encoder, bank)(window, grid), 0, atol=1e-2)
    moved = CodeDistance(encoder, bank[:1] + 1)(window, grid)
    assert moved[0, 0] == pytest.approx(8, rel=1e-4)


def test_only_the_patches_that_are_looked_at_together_are_in_single_precision():
    class Whole(torch.nn.Flatten):
        def forward(self, patches):
            assert patches.untyped_storage().nbytes() == patches.nbytes
            return super().forward(patches)

    window = np.zeros((1, 40, 40), np.uint8)
    grid = Grid((40, 40), 8, 1)
    distances = CodeDistance(Whole(), torch.zeros(1, 64))(window, grid)
    assert distances.shape == (33, 33)
    assert not distances.any()


def test_smoothing_is_a_gaussian_average_and_keeps_constants():
    maps = [Numbered(number, np.full((1, 1), 7.0)) for number in range(9)]
    assert [m.scores.item() for m in smoothed(maps, 2)] == pytest.approx([7.0] * 9)
    peak = [Numbered(n, np.full((1, 1), float(n == 4))) for n in range(9)]
    found = [m.scores.item() for m in smoothed(peak, 1)]
    weights = np.exp(-0.5 * np.arange(-2, 3) ** 2)
    np.testing.assert_allclose(found[2:7], weights / weights.sum())
    assert [m.number for m in smoothed(peak, 1)] == list(range(9))
    assert [m.scores.item() for m in smoothed(peak, 0)] == [float(n == 4) for n in range(9)]


def test_scores_are_relative_to_their_row():
    generator = np.random.default_rng(0)
    far = generator.exponential(size=(500, 1, 20, 10)).astype(np.float32)
    far[:, :, 10:] *= 3
    scaled = np.stack([Scale.of_rows(far)(m) for m in far])
    assert scaled[:, 0, 15:].mean() == pytest.approx(scaled[:, 0, :5].mean(), rel=0.1)


def test_parts_count_alike_whatever_their_units():
    generator = np.random.default_rng(0)
    maps = generator.exponential(size=(1000, 2, 4, 5)).astype(np.float32)
    maps[:, 1] *= 1e-4
    scale = Scale.of_parts(maps, 0.05)
    highest = np.stack([scale(m).max((1, 2)) for m in maps])
    assert (highest > 1).mean(0) == pytest.approx([0.05, 0.05], abs=0.002)
    maps[::50, 0] *= 100
    rare = Scale.of_parts(maps, 0.05).scale
    assert rare[0] == pytest.approx(QUIETEST * maps[:, 0].max()), "little happens in most frames"
    assert rare[1] == scale.scale[1]
    nothing = Scale.of_parts(np.zeros((3, 2, 4, 5), np.float32), 0.05)
    np.testing.assert_array_equal(nothing(maps[0]), maps[0])


def seen(number: int, score: float, clip: str = "a", file: str = "") -> Seen:
    heat = np.full((1, 1), score, np.float32)
    return Seen(clip, Scored(number, score, heat), np.zeros((8, 8), np.uint8), file)


def test_alerts_are_spans_of_consecutive_frames():
    alerts = Alerts(threshold=1)
    for number, score in enumerate([0, 2, 5, 3, 1, 2]):
        alerts.add(seen(number, score))
    alerts.add(seen(0, 9, "b"))
    spans = [(span.clip, span.start, span.end, span.worst) for span in alerts.spans]
    assert spans == [("a", 1, 3, 2), ("a", 5, 5, 5), ("b", 0, 0, 0)]


def test_an_alert_ends_where_frames_are_lost():
    alerts = Alerts(threshold=1)
    for number in (10, 11, 12, 5000, 5001):
        alerts.add(seen(number, 2))
    assert [(span.start, span.end) for span in alerts.spans] == [(10, 12), (5000, 5001)]


def test_each_abnormal_photograph_is_an_alert_of_its_own():
    alerts = Alerts(threshold=1, join=False)
    for number in range(3):
        alerts.add(seen(number, 2, file=f"{number}.png"))
    assert [span.file for span in alerts.spans] == ["0.png", "1.png", "2.png"]


@given(scores=arrays(np.float64, st.integers(1, 200), elements=st.floats(0, 9), unique=True))
def test_the_worst_frames_are_the_worst_of_their_surroundings(scores):
    worst = Worst(shown=4, apart=10)
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


def test_rising_scores_do_not_drive_each_other_out():
    worst = Worst()
    for number in range(1000):
        worst.add(seen(number, number))
    assert [one.scored.number for one in worst.frames()] == list(range(999, 879, -10))


def test_an_overlay_leaves_normal_pixels_as_they_are():
    pixels = np.full((4, 6), 100, np.uint8)
    heat = np.zeros((4, 6), np.float32)
    heat[0, 0] = 9
    picture = overlay(pixels, heat, threshold=1)
    assert (picture[1:] == 100).all()
    assert not (picture[0, 0] == 100).all()


def test_an_overlay_says_when_something_is_above_the_threshold():
    pixels = np.full((100, 120), 100, np.uint8)
    heat = np.zeros((100, 120), np.float32)
    normal = overlay(pixels, heat, 1, "7  0.5")
    heat[40:60, 40:60] = 1.5
    abnormal = overlay(pixels, heat, 1, "7  1.5")
    assert tuple(abnormal[40, 50]) == ALARM
    assert tuple(abnormal[50, 50]) != ALARM
    assert tuple(normal[0, 0]) == (0, 0, 0)
    assert tuple(abnormal[0, 0]) == ALARM


def test_clips_are_split_without_overlap(normal):
    learned, kept = split_clips(open_clips(normal))
    assert [clip.name for clip in kept] == ["Train3"]
    assert [clip.name for clip in learned] == ["Train0", "Train1", "Train2"]
    (first,), (last,) = split_clips(open_clips(normal / "Train0"))
    assert [frame.number for frame in first] == list(range(30))
    assert [frame.number for frame in last] == list(range(30, 40))
    with pytest.raises(NearfarError, match="no clips"):
        split_clips([])


def test_a_video_is_split_by_the_frames_that_can_be_read():
    class Damaged(Clip):
        name = "camera.avi"

        def __iter__(self):
            return (Frame(number, np.zeros((4, 4), np.uint8)) for number in range(80, 100))

    (first,), (last,) = split_clips([Damaged()])
    assert [frame.number for frame in first] == list(range(80, 95))
    assert [frame.number for frame in last] == list(range(95, 100))


def test_the_commands(normal, abnormal, tmp_path, capsys):
    pytest.importorskip("av")
    assert run("anomaly", "fit", normal, "--out", tmp_path / "run") == 0
    assert run("anomaly", "score", tmp_path / "run", abnormal, "--out", tmp_path / "out") == 0
    with (tmp_path / "out" / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["frame"]) for row in rows] == list(range(60))
    alerts = json.loads((tmp_path / "out" / "alerts.json").read_text())
    flagged = sum(int(row["abnormal"]) for row in rows)
    assert sum(span["end"] - span["start"] + 1 for span in alerts["alerts"]) == flagged
    quality = json.loads((tmp_path / "out" / "quality.json").read_text())
    assert quality["frames"] == 60
    assert 0 <= quality["auc"] <= 1
    (video,) = open_clips(tmp_path / "out" / "heat" / "Test1.mp4")
    assert sum(1 for _ in video) == 60
    assert list((tmp_path / "out" / "worst").glob("*.png"))
    assert "60 frames" in capsys.readouterr().out


def test_each_clip_has_a_heat_map_at_its_own_rate(fitted, tmp_path):
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
    with pytest.raises(NearfarError, match=r"holds 'notes\.txt'"):
        score_clips(detector, open_clips(cameras / "cam.1"), out, overwrite=True)


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_what_was_scored_before_a_stop_is_kept(fitted, abnormal, tmp_path, format):
    pytest.importorskip("av")
    out = tmp_path / "out"

    def terminated(items, described, total):
        for done, item in enumerate(items):
            if done == 40:
                if format == "csv":
                    assert len((out / "scores.csv").read_text().splitlines()) == 1 + 40
                os.kill(os.getpid(), signal.SIGTERM)
            yield item

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        score_clips(
            read_detector(fitted), open_clips(abnormal), out, format=format, track=terminated
        )
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


def test_a_stop_before_the_first_score_leaves_nothing_in_the_way(
    fitted, abnormal, tmp_path, monkeypatch, capsys
):
    arguments = ("anomaly", "score", fitted, abnormal, "--out", tmp_path / "out")
    monkeypatch.setattr("nearfar.anomaly.scored.watch", stopped)
    assert run(*arguments) == 130
    assert "nothing is scored yet" in capsys.readouterr().err
    monkeypatch.undo()
    pytest.importorskip("av")
    assert run(*arguments) == 0


def test_of_several_clips_one_that_cannot_be_used_is_reported(fitted, normal, tmp_path, capsys):
    pytest.importorskip("av")
    shutil.copytree(normal / "Train0", tmp_path / "new" / "a")
    write_clip(tmp_path / "new" / "b", np.zeros((2, 48, 64), np.uint8))
    assert run("anomaly", "score", fitted, tmp_path / "new", "--out", tmp_path / "out") == 0
    said, told = capsys.readouterr()
    assert "40 frames" in said
    (line,) = told.splitlines()
    assert line.startswith("skipped 'b' has 2 frames")
    assert line.endswith("expected a longer clip")
    with pytest.raises(NearfarError, match="'b' has 2 frames"):
        score_clips(read_detector(fitted), open_clips(tmp_path / "new" / "b"), tmp_path / "other")
    assert not list((tmp_path / "other").iterdir()), "so that it can be tried again"


def test_a_video_that_is_cut_off_does_not_stop_the_others(fitted, normal, tmp_path, capsys):
    pytest.importorskip("av")
    shutil.copytree(normal / "Train0", tmp_path / "new" / "a")
    for name in ("cut.mp4", "empty.mp4"):
        (tmp_path / "new" / name).write_bytes(b"no video" * (name == "cut.mp4"))
    (tmp_path / "new" / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    assert run("anomaly", "score", fitted, tmp_path / "new", "--out", tmp_path / "out") == 0
    said, told = capsys.readouterr()
    assert "40 frames" in said
    assert "cut.mp4' cannot be read as a video" in told
    assert "empty.mp4' is an empty file" in told
    assert "gone.mp4' cannot be read as a video (No such file" in told
    alone = ("anomaly", "score", fitted, tmp_path / "new" / "cut.mp4", "--out", tmp_path / "alone")
    assert run(*alone) == 2
    assert not (tmp_path / "alone").exists()


def test_long_names_of_clips_have_pictures_too(fitted, tmp_path):
    pytest.importorskip("av")
    clips = [
        clip
        for ending in "ab"
        for clip in open_clips(write_clip(tmp_path / ("映" * 84 + ending), scene(1, 5)))
    ]
    assert score_clips(read_detector(fitted), clips, tmp_path / "out").frames == 10
    for folder, ending in (("worst", ".png"), ("heat", ".mp4")):
        pictures = list((tmp_path / "out" / folder).iterdir())
        assert [picture.suffix for picture in pictures] == [ending] * 2


def test_no_clips_and_no_library_for_videos_are_told_before_anything_is_scored(
    fitted, normal, tmp_path, monkeypatch
):
    detector = read_detector(fitted)
    with pytest.raises(NearfarError, match="no clips"):
        score_clips(detector, [], tmp_path / "out")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(NearfarError, match=r"nearfar\[video\]"):
        score_clips(detector, open_clips(normal / "Train0"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_same_motion_at_another_rate_is_refused(fitted, tmp_path):
    pytest.importorskip("av")
    detector = read_detector(fitted)
    detector.rate = 10.0
    (clip,) = open_clips(write_clip(tmp_path / "cam", scene(1, 5)))
    clip.rate = 25.0
    with pytest.raises(NearfarError, match=r"'cam' has 25 frames a second.* from 10"):
        next(detector.score(clip))
    with pytest.raises(NearfarError, match=r"'cam' has 25 frames a second.* from 10"):
        score_clips(detector, [clip], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    summary = score_clips(detector, [*open_clips(tmp_path / "cam"), clip], tmp_path / "out")
    assert summary.frames == 5
    assert "25 frames a second" in summary.skipped[0]


def test_what_cannot_be_learned_from_is_refused_before_anything_is_taken_away(normal, tmp_path):
    folder = shutil.copytree(normal, tmp_path / "clips")
    fit_detector(open_clips(folder), tmp_path / "run", SMALL, QUICK)
    write_clip(folder / "Train4", np.zeros((9, 96, 128), np.uint8))
    with pytest.raises(NearfarError, match="'Train4' has frames of 96x128 pixels, expected 48x64"):
        fit_detector(open_clips(folder), tmp_path / "run", SMALL, QUICK, overwrite=True)
    (short,) = open_clips(write_clip(tmp_path / "short", scene(1, 11)))
    with pytest.raises(NearfarError, match="a part of 'short' has 2 frames, fewer than the 3"):
        fit_detector([short], tmp_path / "run", SMALL, QUICK, overwrite=True)
    assert read_detector(tmp_path / "run")


def test_photographs(tmp_path):
    generator = np.random.default_rng(0)
    ground = generator.integers(90, 110, (96, 96)).astype(np.uint8)
    good = [np.roll(ground, k, axis=1) for k in range(16)]
    write_clip(tmp_path / "good", np.stack(good))
    bad = np.stack(good[:6])
    masks = np.zeros_like(bad)
    masks[3:, 30:60, 30:60] = 255
    bad[masks > 0] = 255
    write_clip(tmp_path / "new", bad)
    write_clip(tmp_path / "masks", masks)
    code = run(
        *("anomaly", "fit", tmp_path / "good", "--out", tmp_path / "run", "--setting", "stills"),
        *("--epochs", 1, "--pretrain-epochs", 3, "--size", 64, 64),
    )
    assert code == 0
    out = tmp_path / "out"
    given = ("--out", out, "--masks", tmp_path / "masks")
    assert run("anomaly", "score", tmp_path / "run", tmp_path / "new", *given) == 0
    quality = json.loads((out / "quality.json").read_text())
    assert quality["auc"] == 1
    assert quality["pixel_auc"] > 0.8
    assert 0 < quality["pro"] <= 1
    assert len(list((out / "heat").glob("*.png"))) == 6
    with (out / "scores.csv").open() as file:
        assert [row["file"] for row in csv.DictReader(file)] == [f"{n}.png" for n in range(6)]
    assert len(list((out / "worst").glob("*.png"))) == 6
    alerts = json.loads((out / "alerts.json").read_text())
    assert alerts["calibrated_on"] == 4
    assert {span["file"] for span in alerts["alerts"]} <= {f"{n}.png" for n in range(6)}
    assert all(span["start"] == span["end"] for span in alerts["alerts"])
    one = (
        "anomaly",
        "score",
        tmp_path / "run",
        tmp_path / "new" / "4.png",
        "--out",
        tmp_path / "1",
    )
    assert run(*one) == 0


def test_what_is_no_detector_is_named(tmp_path):
    with pytest.raises(NearfarError, match="is no detector"):
        read_detector(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "detector.json",
        "detector.safetensors",
        "tempo.safetensors",
        "appearance.safetensors",
    ],
)
def test_a_damaged_detector_is_named_in_one_line(fitted, tmp_path, name):
    copy = shutil.copytree(fitted, tmp_path / "copy")
    (copy / name).write_bytes(b'{"format": 1')
    with pytest.raises(NearfarError, match=rf"is damaged: {name}") as error:
        read_detector(copy)
    assert "\n" not in str(error.value)


def stopped(*given):
    """What Ctrl-C does, in the place of something."""
    raise KeyboardInterrupt


class Stop(KeyboardInterrupt):
    """What a user does in the middle."""


def stop_at(description: str, number: int):
    """Track progress, and stop before this item of what is described so."""

    def track(items, described, total):
        for done, item in enumerate(items):
            if described.startswith(description) and done == number:
                raise Stop
            yield item

    return track


@pytest.mark.parametrize(
    ("config", "description", "number"),
    [
        (SMALL, "learning motion, epoch 3", 5),
        (SMALL, "measuring noise", 1),
        (SMALL, "calibrating", 0),
        (SMALL, "threshold", 0),
        (DetectorConfig.stills(patch=16, by_place=True), "cutting patches", 1),
        (DetectorConfig.stills(patch=16, by_place=True), "relational", 3),
        (DetectorConfig.stills(patch=16, by_place=True), "calibrating", 0),
    ],
)
def test_an_interrupted_fit_goes_on_to_the_same_detector(
    config, description, number, normal, tmp_path
):
    clips = open_clips(normal)
    whole = fit_detector(clips, tmp_path / "whole", config, QUICK)
    folder = tmp_path / "parts"
    with pytest.raises(Stop):
        fit_detector(clips, folder, config, QUICK, track=stop_at(description, number))
    with pytest.raises(NearfarError, match="unfinished: fit it with --resume"):
        read_detector(folder)
    assert fit_detector(clips, folder, config, QUICK, resume=True).threshold == whole.threshold
    for file in (tmp_path / "whole").glob("*.safetensors"):
        assert (folder / file.name).read_bytes() == file.read_bytes(), file.name
    assert {path.name for path in folder.iterdir()} == {
        path.name for path in (tmp_path / "whole").iterdir()
    }


def test_only_what_was_begun_alike_is_resumed(normal, fitted, tmp_path):
    clips = open_clips(normal)
    with pytest.raises(NearfarError, match="no unfinished detector"):
        fit_detector(clips, fitted, SMALL, QUICK, resume=True)
    with pytest.raises(Stop):
        fit_detector(clips, tmp_path / "run", SMALL, QUICK, track=stop_at("threshold", 0))
    other = replace(SMALL, smoothing=2.0)
    with pytest.raises(NearfarError, match="begun with other config"):
        fit_detector(clips, tmp_path / "run", other, QUICK, resume=True)
    with pytest.raises(NearfarError, match="begun with other clips"):
        fit_detector(clips[:3], tmp_path / "run", SMALL, QUICK, resume=True)


def test_another_video_of_the_same_name_is_no_resumption(tmp_path):
    pytest.importorskip("av")
    for name, frames, rate in (("a", 40, 10), ("longer", 41, 10), ("faster", 40, 25)):
        (tmp_path / name).mkdir()
        with open_video(tmp_path / name / "camera.mp4", rate) as video:
            for pixels in scene(1, frames):
                video.add(np.repeat(pixels[..., None], 3, axis=2))
    folder = tmp_path / "run"
    clips = open_clips(tmp_path / "a")
    with pytest.raises(Stop):
        fit_detector(clips, folder, SMALL, QUICK, track=stop_at("threshold", 0))
    for name in ("longer", "faster"):
        with pytest.raises(NearfarError, match="begun with other clips"):
            fit_detector(open_clips(tmp_path / name), folder, SMALL, QUICK, resume=True)
    assert fit_detector(clips, folder, SMALL, QUICK, resume=True)


@pytest.mark.parametrize(
    ("stage", "advice"),
    [("split_clips", "give the same command again"), ("sample", "with --resume")],
)
def test_a_stopped_fit_says_how_to_go_on(normal, tmp_path, monkeypatch, capsys, stage, advice):
    monkeypatch.setattr(f"nearfar.anomaly.fitting.{stage}", stopped)
    assert run("anomaly", "fit", normal, "--out", tmp_path / "run") == 130
    assert advice in capsys.readouterr().err


def test_an_unfinished_detector_can_be_replaced_and_a_note_not(normal, tmp_path):
    clips, folder = open_clips(normal), tmp_path / "run"
    with pytest.raises(Stop):
        fit_detector(clips, folder, SMALL, QUICK, track=stop_at("threshold", 0))
    with pytest.raises(NearfarError, match="--overwrite"):
        fit_detector(clips, folder, SMALL, QUICK)
    fit_detector(clips, folder, SMALL, QUICK, overwrite=True)
    (folder / "note.txt").write_text("mine")
    with pytest.raises(NearfarError, match=r"holds 'note\.txt'"):
        fit_detector(clips, folder, SMALL, QUICK, overwrite=True)
    assert (folder / "note.txt").is_file()
    assert read_detector(folder), "nor is the detector beside it taken away"


def test_a_detector_that_was_cleared_halfway_can_be_replaced(fitted, normal, tmp_path, monkeypatch):
    folder = shutil.copytree(fitted, tmp_path / "run")
    whole, removed = Path.unlink, []

    def stop_after_one(path: Path, **options: bool) -> None:
        if path.parent == folder and removed:
            raise Stop
        removed.append(path)
        whole(path, **options)

    monkeypatch.setattr(Path, "unlink", stop_after_one)
    with pytest.raises(Stop):
        fit_detector(open_clips(normal), folder, SMALL, QUICK, overwrite=True)
    monkeypatch.undo()
    assert removed
    fit_detector(open_clips(normal), folder, SMALL, QUICK, overwrite=True)
    assert read_detector(folder)


def test_what_is_no_detector_is_not_replaced(normal, tmp_path):
    (tmp_path / "network").mkdir()
    for name in ("checkpoint.safetensors", "network/config.json"):
        (tmp_path / name).write_text("of something else")
    with pytest.raises(NearfarError, match="it is no detector, so choose another"):
        fit_detector(open_clips(normal), tmp_path, SMALL, QUICK, overwrite=True)
    assert (tmp_path / "checkpoint.safetensors").is_file()
    assert (tmp_path / "network" / "config.json").is_file()


def test_frames_of_another_size_are_refused(fitted):
    with pytest.raises(NearfarError, match="20x20 pixels, expected 48x64"):
        list(read_detector(fitted).score(as_frames(np.zeros((5, 20, 20), np.uint8))))


def test_a_scene_without_motion_teaches_nothing(tmp_path):
    still = np.full((30, 48, 64), 80, np.uint8)
    clips = open_clips(write_clip(tmp_path / "still", still))
    with pytest.raises(NearfarError, match="nothing moves"):
        fit_detector(clips, tmp_path / "run", SMALL, QUICK)


@pytest.mark.parametrize(
    "choices",
    [
        {"parts": ()},
        {"parts": ("embeddings", "embeddings")},
        {"parts": ("appearance",), "frames": 1, "smoothing": 0.0, "photographs": True},
        {"frames": 1},
        {"stride": 60},
        {"false_alarms": 0.0},
        {"smoothing": -1.0},
    ],
)
def test_settings_that_cannot_be_are_refused(choices):
    with pytest.raises(NearfarError, match=next(iter(choices))):
        DetectorConfig(**choices)
