"""Detector folders: what is read, refused and replaced."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from clips import QUICK, SMALL, Stop, stop_at
from nearfar.anomaly import fit_detector, open_clips, read_detector
from nearfar.errors import NearfarError


def test_read_detector_names_a_folder_without_detector(tmp_path):
    with pytest.raises(NearfarError, match="is not a detector"):
        read_detector(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "detector.json",
        "methods/motion/classifier.safetensors",
        "methods/appearance/components.safetensors",
    ],
)
def test_read_detector_names_a_damaged_file(fitted, tmp_path, name):
    copy = shutil.copytree(fitted, tmp_path / "copy")
    (copy / name).write_bytes(b'{"format": 1')
    with pytest.raises(NearfarError, match=rf"is damaged: {Path(name).name}") as error:
        read_detector(copy)
    assert "\n" not in str(error.value)


def test_overwrite_replaces_an_unfinished_detector_but_no_note(normal, tmp_path):
    clips, folder = open_clips(normal), tmp_path / "run"
    with pytest.raises(Stop):
        fit_detector(clips, folder, SMALL, QUICK, track=stop_at("threshold", 0))
    with pytest.raises(NearfarError, match="--overwrite"):
        fit_detector(clips, folder, SMALL, QUICK)
    fit_detector(clips, folder, SMALL, QUICK, overwrite=True)
    (folder / "note.txt").write_text("mine")
    with pytest.raises(NearfarError, match=r"contains 'note\.txt'"):
        fit_detector(clips, folder, SMALL, QUICK, overwrite=True)
    assert (folder / "note.txt").is_file()
    assert read_detector(folder), "nor is the detector beside it taken away"


def test_overwrite_replaces_a_partly_deleted_detector(fitted, normal, tmp_path, monkeypatch):
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


def test_overwrite_refuses_other_folders(normal, tmp_path):
    (tmp_path / "network").mkdir()
    for name in ("checkpoint.safetensors", "network/config.json"):
        (tmp_path / name).write_text("of something else")
    with pytest.raises(NearfarError, match="it is not a detector, so choose another"):
        fit_detector(open_clips(normal), tmp_path, SMALL, QUICK, overwrite=True)
    assert (tmp_path / "checkpoint.safetensors").is_file()
    assert (tmp_path / "network" / "config.json").is_file()
