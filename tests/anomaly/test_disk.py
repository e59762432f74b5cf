"""Output that cannot be written: said first, in one line, and nothing stays in the way."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from clips import QUICK, SMALL, scene, write_clip
from nearfar.anomaly import Clip, fit_detector, open_clips, read_detector, score_clips
from nearfar.errors import NearfarError

pytest.importorskip("av")


class Untouched(Clip):
    """A clip that must not be read."""

    name = "untouched"

    def __iter__(self):
        raise AssertionError("read before the output was tried")


def full_at_once(monkeypatch) -> None:
    """Let the disk be full from the start."""

    def write(self, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", write)


def full(monkeypatch, after: int) -> None:
    """Let the disk be full when files are flushed for the n-th time."""
    left = [after]
    real = os.fsync

    def fsync(number):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(number)

    monkeypatch.setattr(os, "fsync", fsync)


def test_output_is_tried_before_reading(fitted, tmp_path):
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "sub" / "out"
    for act in (
        lambda: score_clips(read_detector(fitted), [Untouched()], out),
        lambda: fit_detector([Untouched()], out, SMALL, QUICK),
    ):
        with pytest.raises(NearfarError) as error:
            act()
        assert str(tmp_path / "file") in str(error.value)
        assert "\n" not in str(error.value)


def test_full_disk_is_said_before_reading(fitted, tmp_path, monkeypatch):
    full_at_once(monkeypatch)
    out = tmp_path / "new" / "out"
    with pytest.raises(NearfarError, match=r"no room on the disk to write .*out"):
        score_clips(read_detector(fitted), [Untouched()], out)
    with pytest.raises(NearfarError, match=r"no room on the disk to write .*out"):
        fit_detector([Untouched()], out, SMALL, QUICK)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("after", [0, 1, 2])
def test_disk_that_fills_up_leaves_nothing_in_the_way(fitted, tmp_path, monkeypatch, after):
    clips = open_clips(write_clip(tmp_path / "a", scene(1, 12)))
    out = tmp_path / "new" / "out"
    with monkeypatch.context() as context:
        full(context, after)
        with pytest.raises(NearfarError, match=str(out)):
            score_clips(read_detector(fitted), clips, out)
    assert not (tmp_path / "new").exists()
    assert score_clips(read_detector(fitted), clips, out).frames == 12


def test_csv_that_cannot_be_written_names_the_folder(fitted, tmp_path, monkeypatch):
    from nearfar.anomaly.output import ScoreWriter

    def refuse(self, row):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(ScoreWriter, "add", refuse)
    clips = open_clips(write_clip(tmp_path / "a", scene(1, 12)))
    with pytest.raises(NearfarError, match=r"cannot write to .*out': No space left"):
        score_clips(read_detector(fitted), clips, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_failed_overwrite_is_said_before_anything_is_removed(fitted, tmp_path, monkeypatch):
    clips = open_clips(write_clip(tmp_path / "a", scene(1, 12)))
    score_clips(read_detector(fitted), clips, tmp_path / "out")
    before = {path.name for path in (tmp_path / "out").iterdir()}
    with monkeypatch.context() as context:
        full_at_once(context)
        with pytest.raises(NearfarError, match="no room"):
            score_clips(read_detector(fitted), clips, tmp_path / "out", overwrite=True)
    assert {path.name for path in (tmp_path / "out").iterdir()} == before


def test_score_of_a_crashed_process_is_repeated_with_the_same_command(fitted, tmp_path):
    clips, out = open_clips(write_clip(tmp_path / "a", scene(1, 12))), tmp_path / "out"
    score_clips(read_detector(fitted), clips, out)
    with pytest.raises(NearfarError, match="exists already"):
        score_clips(read_detector(fitted), clips, out)
    (out / ".unfinished-output").touch()
    (out / "heat" / ".unfinished-1.mp4").touch()
    (out / "alerts.json").unlink()
    assert score_clips(read_detector(fitted), clips, out).frames == 12
    assert sorted(p.name for p in out.iterdir()) == ["alerts.json", "heat", "scores.csv", "worst"]
    assert [path.name for path in (out / "heat").iterdir()] == ["a.mp4"]


def test_two_scorings_do_not_share_a_folder(fitted, tmp_path):
    clips, out = open_clips(write_clip(tmp_path / "a", scene(1, 12))), tmp_path / "out"

    def track(items, described, total):
        with pytest.raises(NearfarError, match="another process is writing"):
            score_clips(read_detector(fitted), clips, out)
        return items

    assert score_clips(read_detector(fitted), clips, out, track=track).frames == 12


def test_alerts_have_seconds(fitted, tmp_path):
    clips = open_clips(write_clip(tmp_path / "a", scene(3, 30)))
    clips[0].rate = 10.0
    score_clips(read_detector(fitted), clips, tmp_path / "out")
    alerts = json.loads((tmp_path / "out" / "alerts.json").read_text())["alerts"]
    assert alerts
    for alert in alerts:
        assert alert["start_time"] == pytest.approx(alert["start"] / 10)
        assert alert["end_time"] == pytest.approx(alert["end"] / 10)
