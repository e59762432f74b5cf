"""Photographs or a video, from the similarity of consecutive files."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clips import QUICK, SMALL, scene, write_clip
from nearfar.anomaly import (
    DetectorConfig,
    continuity,
    fit_detector,
    open_clips,
    read_detector,
    score_clips,
)
from nearfar.config import DEFAULT_ENCODER
from nearfar.errors import NearfarError
from program import run


def shuffled(source: Path, target: Path) -> Path:
    """Copy the images of a folder in random order."""
    files = sorted(source.iterdir())
    random.Random(0).shuffle(files)  # noqa: S311
    target.mkdir(parents=True)
    for number, file in enumerate(files):
        shutil.copy(file, target / f"{number:03}{file.suffix}")
    return target


def photographs(folder: Path, count: int = 24) -> Path:
    generator = np.random.default_rng(0)
    return write_clip(folder, generator.integers(0, 255, (count, 48, 64)).astype(np.uint8))


def test_automatic_settings_are_those_of_the_kind(tmp_path):
    pictures = open_clips(photographs(tmp_path / "pictures"))
    assert DetectorConfig.auto(pictures, encoder=DEFAULT_ENCODER) == DetectorConfig.stills(
        encoder=DEFAULT_ENCODER
    )
    video = open_clips(write_clip(tmp_path / "video", scene(1)))
    with pytest.warns(UserWarning, match="4 seconds of normal video"):
        config = DetectorConfig.auto(video, patch=16, stride=8)
    assert (config.methods, config.patch) == (("motion", "appearance"), 16)


@pytest.mark.parametrize("speed", [1, 3])
def test_moving_scene_is_a_video(tmp_path, speed):
    assert continuity(open_clips(write_clip(tmp_path / "a", scene(speed)))).kind == "video"


def test_scene_where_hardly_anything_moves_is_a_video(tmp_path):
    clip = np.full((40, 48, 64), 90, np.uint8)
    clip[20:24, 10:16, 10:16] = 200
    assert continuity(open_clips(write_clip(tmp_path / "a", clip))).kind == "video"


def test_shuffled_frames_are_photographs(tmp_path):
    clips = open_clips(shuffled(write_clip(tmp_path / "a", scene(1)), tmp_path / "b"))
    assert continuity(clips).kind == "photographs"


def test_few_files_are_photographs(tmp_path):
    found = continuity(open_clips(write_clip(tmp_path / "a", scene(1, 4))))
    assert found.kind == "photographs"
    assert "too few" in found.reason


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("UCSD_Anomaly_Dataset.v1p2/UCSDped2/Train", "video"),
        ("UCSD_Anomaly_Dataset.v1p2/UCSDped2/Test", "video"),
        ("avenue/training_videos", "video"),
        ("camvid/JPEGImages", "video"),
        ("elpv/train/good", "photographs"),
        ("elpv/test", "photographs"),
        ("flowers", "photographs"),
        ("caltech101/101_ObjectCategories", "photographs"),
        ("caltech101/101_ObjectCategories/Faces_easy", "photographs"),
    ],
)
def test_kind_of_real_data(data_root, name, kind):
    if not (data_root / name).is_dir():
        pytest.skip(f"no {data_root / name}")
    if name.startswith("avenue"):
        pytest.importorskip("av")
    assert continuity(open_clips(data_root / name)).kind == kind


def test_shuffled_frames_of_ped2_are_photographs(data_root, tmp_path):
    folder = data_root / "UCSD_Anomaly_Dataset.v1p2" / "UCSDped2" / "Train" / "Train001"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    assert continuity(open_clips(shuffled(folder, tmp_path / "a"))).kind == "photographs"


def test_fit_command_chooses_the_setting(normal, tmp_path, capsys, monkeypatch):
    settings = []

    def record(clips, folder, config, training, **options):
        settings.append(config)
        raise KeyboardInterrupt

    monkeypatch.setattr("nearfar.anomaly.fit_detector", record)
    photos = photographs(tmp_path / "photos")
    for folder, more in (
        (normal, ()),
        (photos, ()),
        (photos, ("--setting", "video")),
        (normal, ("--setting", "stills")),
        (normal, ("--setting", "paper")),
    ):
        run("anomaly", "fit", folder, "--out", tmp_path / "run", *more)
    assert [config.independent_frames for config in settings] == [False, True, False, True, False]
    said, told = capsys.readouterr()
    assert [line for line in said.splitlines() if line.startswith("setting")] == [
        "setting: video, because consecutive files look alike",
        "setting: stills, because consecutive files do not look alike",
    ]
    assert [line for line in told.splitlines() if line.startswith("warning: --")] == [
        "warning: --setting video, but consecutive files do not look alike: expected "
        "--setting stills",
        "warning: --setting stills, but consecutive files look alike: expected --setting video",
    ]


def test_photographs_are_never_scored_as_a_video(fitted, tmp_path):
    detector, photos = read_detector(fitted), photographs(tmp_path / "photos")
    assert detector.continuous
    with pytest.raises(NearfarError, match="'photos' looks like photographs"):
        score_clips(detector, open_clips(photos), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_photographs_are_called_images(tmp_path, capsys):
    photos = photographs(tmp_path / "photos")
    given = ("--epochs", 0, "--pretrain-epochs", 1)
    assert run("anomaly", "fit", photos, "--out", tmp_path / "run", *given) == 0
    assert "an image is defective above" in capsys.readouterr().out
    bad = Image.fromarray(np.zeros((48, 64), np.uint8))
    bad.paste(255, (20, 20, 40, 40))
    (tmp_path / "new").mkdir()
    shutil.copy(photos / "0.png", tmp_path / "new" / "good.png")
    bad.save(tmp_path / "new" / "bad.png")
    assert run("anomaly", "score", tmp_path / "run", tmp_path / "new", "--out", tmp_path / "o") == 0
    out = capsys.readouterr().out
    assert "2 images, 1 defective" in out
    assert "frame" not in out
    assert "span" not in out
    alerts = json.loads((tmp_path / "o" / "alerts.json").read_text())
    assert (alerts["images"], alerts["defective"]) == (2, 1)
    (alert,) = alerts["alerts"]
    assert alert.keys() == {"folder", "file", "number", "score"}
    assert (alert["folder"], alert["file"]) == ("new", "bad.png")


def test_resumed_detector_knows_what_it_was_fitted_to(normal, tmp_path):
    fit_detector(open_clips(normal), tmp_path / "run", SMALL, QUICK)
    assert read_detector(tmp_path / "run").continuous
