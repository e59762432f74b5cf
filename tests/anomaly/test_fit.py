"""Fitting: held-out clips, interruptions, refusals."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest

from clips import QUICK, SMALL, Stop, scene, scores_of, stop_at, write_clip
from nearfar.anomaly import (
    ArrayClip,
    Clip,
    DetectorConfig,
    Frame,
    as_frames,
    fit_detector,
    open_clips,
    open_video,
    read_detector,
    split_clips,
)
from nearfar.errors import NearfarError

#: Separate images, scored by an autoencoder of patches.
BY_ROW = DetectorConfig(
    methods=("embedding-distance",),
    patch=16,
    stride=8,
    frames=1,
    smoothing=0.0,
    independent_frames=True,
    scale_by_row=True,
)


def test_split_clips_without_overlap(normal):
    learned, kept = split_clips(open_clips(normal))
    assert [clip.name for clip in kept] == ["Train3"]
    assert [clip.name for clip in learned] == ["Train0", "Train1", "Train2"]
    (first,), (last,) = split_clips(open_clips(normal / "Train0"))
    assert [frame.number for frame in first] == list(range(30))
    assert [frame.number for frame in last] == list(range(30, 40))
    with pytest.raises(NearfarError, match="no clips"):
        split_clips([])


def test_split_clips_holds_out_every_fourth_photograph():
    clips = [
        ArrayClip([np.full((8, 8), n, np.uint8) for n in range(10)], name=f"{k}") for k in "ab"
    ]
    learned, held_out = split_clips(clips, interleaved=True)
    for some, numbers in ((learned, [0, 1, 2, 4, 5, 6, 8, 9]), (held_out, [3, 7])):
        assert [clip.name for clip in some] == ["a", "b"]
        assert [[frame.number for frame in clip] for clip in some] == [numbers] * 2
        assert [clip.nominal_total for clip in some] == [len(numbers)] * 2


def test_split_clips_counts_readable_frames_of_a_video():
    class Damaged(Clip):
        name = "camera.avi"

        def __iter__(self):
            return (Frame(number, np.zeros((4, 4), np.uint8)) for number in range(80, 100))

    (first,), (last,) = split_clips([Damaged()])
    assert [frame.number for frame in first] == list(range(80, 95))
    assert [frame.number for frame in last] == list(range(95, 100))


def test_fit_is_reproducible(fitted, normal, abnormal, tmp_path):
    made = fit_detector(open_clips(normal), tmp_path / "again", SMALL, QUICK)
    assert made.threshold == read_detector(fitted).threshold
    (clip,) = open_clips(abnormal)
    again = [scored.score for scored in made.score(clip)]
    np.testing.assert_array_equal(again, scores_of(fitted, clip))


def test_threshold_matches_the_share_of_false_alarms(fitted, normal):
    detector = read_detector(fitted)
    kept = open_clips(normal)[3]
    assert (scores_of(fitted, kept) > detector.threshold).mean() <= SMALL.false_alarms
    assert detector.calibrated_on == 40
    other = as_frames(scene(1, 200, seed=17))
    alarms = [scored.score > detector.threshold for scored in detector.score(other)]
    assert np.mean(alarms) < 0.1, "40 frames do not show all that is normal"


def test_fit_refuses_unusable_clips_before_overwriting(normal, tmp_path):
    folder = shutil.copytree(normal, tmp_path / "clips")
    fit_detector(open_clips(folder), tmp_path / "run", SMALL, QUICK)
    write_clip(folder / "Train4", np.zeros((9, 96, 128), np.uint8))
    with pytest.raises(NearfarError, match="'Train4' has frames of 96x128 pixels, expected 48x64"):
        fit_detector(open_clips(folder), tmp_path / "run", SMALL, QUICK, overwrite=True)
    (short,) = open_clips(write_clip(tmp_path / "short", scene(1, 11)))
    with pytest.raises(NearfarError, match="a part of 'short' has 2 frames, fewer than the 3"):
        fit_detector([short], tmp_path / "run", SMALL, QUICK, overwrite=True)
    assert read_detector(tmp_path / "run")


@pytest.mark.parametrize(
    ("config", "description", "number"),
    [
        (SMALL, "training the motion classifier", 27),
        (SMALL, "measuring noise", 1),
        (SMALL, "calibrating", 0),
        (SMALL, "threshold", 0),
        (BY_ROW, "cutting patches", 1),
        (BY_ROW, "train", 3),
        (BY_ROW, "calibrating", 0),
    ],
)
def test_resume_gives_the_same_detector(config, description, number, normal, tmp_path):
    clips = open_clips(normal)
    whole = fit_detector(clips, tmp_path / "whole", config, QUICK)
    folder = tmp_path / "methods"
    with pytest.raises(Stop):
        fit_detector(clips, folder, config, QUICK, track=stop_at(description, number))
    with pytest.raises(NearfarError, match="unfinished: fit it with --resume"):
        read_detector(folder)
    assert fit_detector(clips, folder, config, QUICK, resume=True).threshold == whole.threshold
    files = {path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*")}
    assert {path.relative_to(folder) for path in folder.rglob("*")} == files
    for name in files:
        if name.suffix == ".safetensors":
            assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_resume_refuses_other_settings_or_clips(normal, fitted, tmp_path):
    clips = open_clips(normal)
    with pytest.raises(NearfarError, match="no unfinished detector"):
        fit_detector(clips, fitted, SMALL, QUICK, resume=True)
    with pytest.raises(Stop):
        fit_detector(clips, tmp_path / "run", SMALL, QUICK, track=stop_at("threshold", 0))
    other = replace(SMALL, smoothing=2.0)
    with pytest.raises(NearfarError, match="started with different config"):
        fit_detector(clips, tmp_path / "run", other, QUICK, resume=True)
    with pytest.raises(NearfarError, match="started with different clips"):
        fit_detector(clips[:3], tmp_path / "run", SMALL, QUICK, resume=True)


def test_resume_refuses_another_video_of_the_same_name(tmp_path):
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
        with pytest.raises(NearfarError, match="started with different clips"):
            fit_detector(open_clips(tmp_path / name), folder, SMALL, QUICK, resume=True)
    assert fit_detector(clips, folder, SMALL, QUICK, resume=True)


def test_fit_refuses_a_scene_without_motion(tmp_path):
    still = np.full((30, 48, 64), 80, np.uint8)
    clips = open_clips(write_clip(tmp_path / "still", still))
    with pytest.raises(NearfarError, match="nothing moves"):
        fit_detector(clips, tmp_path / "new" / "run", SMALL, QUICK)
    assert not (tmp_path / "new").exists(), "a refused fit leaves no folder"


def test_fewer_photographs_than_a_threshold_needs_are_rejected():
    clips = [ArrayClip(np.zeros((3, 32, 32), np.uint8), name=name) for name in ("a", "b")]
    with pytest.raises(NearfarError, match="'a' holds only 3 images: expected at least 4"):
        split_clips(clips, interleaved=True)
