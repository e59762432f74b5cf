"""The anomaly commands."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest

from clips import scene, write_clip
from nearfar.anomaly import (
    DEFAULT_TRAINING,
    DetectorConfig,
    open_clips,
    read_detector,
    score_clips,
)
from nearfar.errors import NearfarError
from program import run


def stopped(*given):
    """Interrupt instead of doing something."""
    raise KeyboardInterrupt


def test_fit_and_score_commands(normal, abnormal, tmp_path, capsys):
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
    said = capsys.readouterr().out
    assert "60 frames" in said
    highest = max(rows, key=lambda row: float(row["score"]))
    assert f"  {float(highest['score']):.4g}  Test1/{highest['file']}\n" in said
    assert f"Test1/{highest['file']}" in (tmp_path / "out" / "scores.html").read_text()


def test_commands_on_still_images(tmp_path):
    generator = np.random.default_rng(0)
    background = generator.integers(90, 110, (96, 96)).astype(np.uint8)
    good = [np.roll(background, k, axis=1) for k in range(16)]
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
    assert alerts["calibrated_on"] == 16
    assert {span["file"] for span in alerts["alerts"]} <= {f"{n}.png" for n in range(6)}
    assert (alerts["images"], alerts["defective"]) == (6, len(alerts["alerts"]))
    assert (quality["images"], quality["defective"]) == (6, 3)
    assert not {"start", "end", "worst"} & {key for alert in alerts["alerts"] for key in alert}
    one = (
        "anomaly",
        "score",
        tmp_path / "run",
        tmp_path / "new" / "4.png",
        "--out",
        tmp_path / "1",
    )
    assert run(*one) == 0


@pytest.mark.parametrize(
    ("stage", "advice"),
    [("split_clips", "run the same command again"), ("find_method", "with --resume")],
)
def test_stopped_fit_command_says_how_to_continue(
    normal, tmp_path, monkeypatch, capsys, stage, advice
):
    monkeypatch.setattr(f"nearfar.anomaly.fit.{stage}", stopped)
    assert run("anomaly", "fit", normal, "--out", tmp_path / "run") == 130
    assert advice in capsys.readouterr().err


def test_score_command_stopped_at_once_can_be_repeated(
    fitted, abnormal, tmp_path, monkeypatch, capsys
):
    arguments = ("anomaly", "score", fitted, abnormal, "--out", tmp_path / "out")
    monkeypatch.setattr("nearfar.anomaly.score.score_with_pixels", stopped)
    assert run(*arguments) == 130
    assert "nothing is scored yet" in capsys.readouterr().err
    monkeypatch.undo()
    pytest.importorskip("av")
    assert run(*arguments) == 0


def test_score_command_reports_an_unusable_clip_among_several(fitted, normal, tmp_path, capsys):
    pytest.importorskip("av")
    shutil.copytree(normal / "Train0", tmp_path / "new" / "a")
    write_clip(tmp_path / "new" / "b", np.full((2, 48, 64), 200, np.uint8))
    assert run("anomaly", "score", fitted, tmp_path / "new", "--out", tmp_path / "out") == 0
    said, told = capsys.readouterr()
    assert "40 frames" in said
    (line,) = told.splitlines()
    assert line.startswith("skipped 'b' has 2 frames")
    assert line.endswith("expected a longer clip")
    with pytest.raises(NearfarError, match="'b' has 2 frames"):
        score_clips(read_detector(fitted), open_clips(tmp_path / "new" / "b"), tmp_path / "other")
    assert not (tmp_path / "other").exists(), "so that it can be tried again"


def test_score_command_continues_after_a_damaged_video(fitted, normal, tmp_path, capsys):
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


@pytest.fixture
def fits(monkeypatch):
    """Settings and training of each fit, which is not run."""
    calls = []

    def record(clips, folder, config, training, **options):
        calls.append((config, training))
        raise KeyboardInterrupt

    monkeypatch.setattr("nearfar.anomaly.fit_detector", record)
    return calls


def test_method_for_photographs_is_refused_for_video(tmp_path, capsys):
    write_clip(tmp_path / "clip", scene(1, 30))
    command = ("anomaly", "fit", tmp_path / "clip", "--out", tmp_path / "run")
    assert run(*command, "--method", "image-memory") == 2
    assert "--method image-memory is for photographs, but consecutive" in capsys.readouterr().err
    assert run(*command, "--method", "image-memory", "--setting", "video") == 2
    assert "expected --setting stills" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_fit_command_has_the_defaults_of_python(fits, tmp_path, capsys):
    write_clip(tmp_path / "clip", scene(1, 5))
    for setting in ("video", "paper", "stills"):
        run("anomaly", "fit", tmp_path / "clip", "--out", tmp_path / "run", "--setting", setting)
    video = DetectorConfig.video(open_clips(tmp_path / "clip"))
    assert fits == [
        (config, DEFAULT_TRAINING)
        for config in (video, DetectorConfig.paper(), DetectorConfig.stills())
    ]
    run("anomaly", "fit", tmp_path / "clip", "--out", tmp_path / "run", "--method", "cut-paste")
    assert fits[-1][0] == DetectorConfig.stills(methods=("cut-paste",))
    capsys.readouterr()
    run("anomaly", "fit", "--help")
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    optim, weights = DEFAULT_TRAINING.optim, DEFAULT_TRAINING.objective.weights
    assert "Default: " + " ".join(f"{weight:g}" for weight in weights) in text
    paper = "(only with --setting paper)"
    assert f"plain autoencoder training {paper}. Default: {optim.pretrain_epochs}." in text
    assert f"relational objective {paper}. Default: {optim.epochs}." in text
    assert f"above the threshold. Default: {DetectorConfig().false_alarms}, or 0.05" in text


def test_fit_command_passes_options_on(fits, tmp_path, capsys):
    write_clip(tmp_path / "clip", scene(1, 5))
    run(
        *("anomaly", "fit", tmp_path / "clip", "--out", tmp_path / "run", "--setting", "stills"),
        *("--loss-weights", 0.5, 0.3, 0.2, "--pretrain-epochs", 2, "--epochs", 3, "--seed", 4),
        *("--size", 16, 24, "--false-alarms", 0.1),
    )
    assert "resized to 16x24 without cropping" in capsys.readouterr().out
    ((config, training),) = fits
    assert config == DetectorConfig.stills(size=(16, 24), false_alarms=0.1)
    assert training.objective.weights == (0.5, 0.3, 0.2)
    assert (training.optim.pretrain_epochs, training.optim.epochs, training.seed) == (2, 3, 4)
