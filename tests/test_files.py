"""Files written atomically, and checks of output paths."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from nearfar.errors import NearfarError
from nearfar.files import atomic_path, claim_output, remove_leftovers, try_output, write_json


def test_write_json_puts_a_list_of_numbers_on_one_line(tmp_path):
    value = {
        "scores": [0.5, -1e-30, 12345678901234567890, 3],
        "nested": [[1, 2], [3.25, float("inf")], []],
        "words": ["[\n1,\n 2]", "[1, 2]", None, True],
    }
    write_json(tmp_path / "some.json", value)
    text = (tmp_path / "some.json").read_text()
    assert json.loads(text) == value
    assert "[0.5, -1e-30, 12345678901234567890, 3]" in text
    assert "[1, 2],\n" in text


def test_failed_write_leaves_the_good_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("good")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "good"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["x" * 255, "像" * 83 + ".png", "a." + "x" * 253])
def test_atomic_path_allows_the_longest_names(tmp_path, name):
    with atomic_path(tmp_path / name) as temporary:
        temporary.write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("number", "said"), [(errno.ENOSPC, "no room"), (errno.EACCES, "permission denied")]
)
def test_error_of_the_disk_takes_one_line(tmp_path, number, said):
    path = tmp_path / "file"
    path.write_text("good")
    with pytest.raises(NearfarError, match=said), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise OSError(number, os.strerror(number))
    assert path.read_text() == "good"


def test_claim_output_refuses_existing_files(tmp_path):
    claim_output(tmp_path / "new" / "file", overwrite=False)
    assert (tmp_path / "new").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(NearfarError, match="exists already"):
        claim_output(tmp_path / "file", overwrite=False)
    claim_output(tmp_path / "file", overwrite=True)
    with pytest.raises(NearfarError, match="cannot create"):
        claim_output(tmp_path / "file" / "under", overwrite=False)


def test_unfinished_files_of_safetensors_are_leftovers(tmp_path):
    (tmp_path / ".tmpuUejSD").touch()
    (tmp_path / ".tmp").touch()
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".tmp"]
    remove_leftovers(tmp_path / "missing")


def test_try_output_waits_for_others_to_remove_the_folder(tmp_path, monkeypatch):
    """Processes of torchrun try the same folder; each removes it if it is empty."""
    out, original, left = tmp_path / "new" / "out", Path.mkdir, [None] * 3

    def mkdir_for_a_moment(path, *arguments, **options):
        original(path, *arguments, **options)
        if path == out and left:
            left.pop()
            path.rmdir()

    monkeypatch.setattr(Path, "mkdir", mkdir_for_a_moment)
    try_output(out, overwrite=False, folder=True)
    assert not left
    assert not out.exists()


def test_try_output_removes_what_killed_processes_left(tmp_path):
    (tmp_path / "out").mkdir()
    for name in ("codes.npz", "out/figure.png"):
        child = os.fork()
        if not child:
            with atomic_path(tmp_path / name):
                os._exit(0)
        os.waitpid(child, 0)
    assert len([*tmp_path.rglob(".unfinished-*")]) == 2
    try_output(tmp_path / "codes.npz", overwrite=False)
    try_output(tmp_path / "out", overwrite=False, folder=True)
    assert not [*tmp_path.rglob(".unfinished-*")]
