"""Output is tried first, and a refused command leaves nothing behind; warnings take one line."""

from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from nearfar.data import images_from_array
from nearfar.errors import NearfarError
from nearfar.evaluation import Features, evaluate
from nearfar.files import try_output
from nearfar.runs import read_config
from readers.support import command, listing, noise, rejected

QUICK = (
    *("--pretrain-epochs", 1, "--epochs", 1, "--batch-size", 4, "--embedding-size", 4),
    *("--clusters", 2, "--device", "cpu"),
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A run on the images in pixels.npy beside it."""
    place = tmp_path_factory.mktemp("trained")
    np.save(place / "pixels.npy", noise(12))
    assert command("train", place / "pixels.npy", "--out", place / "run", *QUICK).code == 0
    return place


@pytest.mark.parametrize(
    "words",
    [
        "encode {run} {absent} --out {file}/c.npz",
        "neighbors {run} {absent} --query 0 --out {file}/n",
        "evaluate {run} --train {absent} --json {file}/s.json",
        "report {run} --data {absent} --out {file}/r",
        "reconstruct {run} {absent} --out {file}/r",
        "denoise {run} {absent} --out {file}/r",
        "inpaint {run} {absent} --out {file}/r",
        "train {absent} --out {file}/r",
    ],
)
def test_output_is_tried_before_anything_is_read(trained, tmp_path, words):
    (tmp_path / "file").write_text("")
    names = {"run": trained / "run", "absent": tmp_path / "absent", "file": tmp_path / "file"}
    said = command(*(word.format(**names) for word in words.split()))
    rejected(said, f"{tmp_path / 'file'}")
    assert "absent" not in said.err


@pytest.mark.parametrize(
    "words",
    [
        "encode {run} {absent} --out {new}/deep/c.npz",
        "neighbors {run} {absent} --query 0 --out {new}/deep/n",
        "evaluate {run} --train {absent} --json {new}/deep/s.json",
        "report {run} --data {absent} --out {new}/deep/r",
        "reconstruct {run} {absent} --out {new}/deep/r",
        "train {absent} --out {new}/deep/r",
    ],
)
def test_a_refused_command_leaves_no_folder(trained, tmp_path, words):
    names = {"run": trained / "run", "absent": tmp_path / "absent", "new": tmp_path / "new"}
    rejected(command(*(word.format(**names) for word in words.split())), "absent")
    assert listing(tmp_path) == {}
    assert list(tmp_path.iterdir()) == []


def test_embeddings_are_written_to_a_new_folder(trained, tmp_path):
    out = tmp_path / "new" / "deep" / "c.npz"
    assert command("encode", trained / "run", trained / "pixels.npy", "--out", out).code == 0
    assert np.load(out)["embeddings"].shape == (12, 4)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "no room on the disk to write"),
        (errno.EROFS, "the disk is read-only"),
        (errno.EACCES, "permission denied"),
    ],
)
def test_disk_that_cannot_be_written_is_told_by_the_path_asked_for(
    tmp_path, monkeypatch, number, words
):
    def full(path: Path, data: bytes) -> int:
        raise OSError(number, "no", str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(NearfarError, match=words) as caught:
        try_output(tmp_path / "new" / "c.npz", overwrite=False)
    assert str(tmp_path / "new" / "c.npz") in str(caught.value)
    assert ".unfinished" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_warnings_take_one_line_without_a_place_in_the_source(trained, tmp_path):
    np.save(tmp_path / "dark.npy", noise(8) // 128)
    out = tmp_path / "c.npz"
    words = ("encode", trained / "run", tmp_path / "dark.npy", "--out", out)
    said = subprocess.run(  # pytest collects warnings within this process
        [sys.executable, "-m", "nearfar", *map(str, words)], stderr=subprocess.PIPE, text=True
    )
    assert said.returncode == 0
    (line,) = said.stderr.splitlines()
    assert line.startswith("warning: '")
    assert "brightest pixel is 1" in line


def test_one_image_is_enough_without_a_second_phase(tmp_path):
    np.save(tmp_path / "one.npy", noise(1))
    out = tmp_path / "run"
    options = ("--epochs", 0, "--pretrain-epochs", 1, "--device", "cpu")
    assert command("train", tmp_path / "one.npy", "--out", out, *options).code == 0
    assert read_config(out).data.images == 1
    said = command("train", tmp_path / "one.npy", "--out", tmp_path / "r", "--epochs", 1)
    rejected(said, "neighbors need 2 images or more")


def test_device_may_have_a_number(trained, tmp_path):
    out = tmp_path / "c.npz"
    words = ("encode", trained / "run", trained / "pixels.npy", "--out", out, "--device")
    rejected(command(*words, "cuda:99"), "'cuda:99' is not on this machine")
    rejected(command(*words, "cpu:1"), "'cpu:1' is not on this machine")
    assert command(*words, "cpu:0").code == 0
    options = [each if each != "cpu" else "cpu:0" for each in QUICK]
    run = tmp_path / "run"
    assert command("train", trained / "pixels.npy", "--out", run, *options).code == 0
    assert np.array_equal(np.load(run / "embeddings.npy"), np.load(trained / "run/embeddings.npy"))


def test_equal_embeddings_are_noted_instead_of_warned_of(recwarn):
    rng = np.random.default_rng(0)
    labels = np.arange(20) % 2
    same, other = np.ones((20, 3), np.float32), rng.random((20, 3), np.float32)
    table = evaluate(
        [Features("same", same, same), Features("other", other, other)], labels, labels
    )
    assert "same: all embeddings are the same." in table.notes
    assert not any(note.startswith("other") for note in table.notes)
    assert not [each for each in recwarn if "Convergence" in each.category.__name__]


def test_run_lists_what_it_skipped_until_it_is_replaced(tmp_path):
    from PIL import Image

    photos = tmp_path / "photos"
    photos.mkdir()
    for number, pixels in enumerate(noise(8)):
        Image.fromarray(pixels).save(photos / f"{number}.png")
    for number in range(7):
        (photos / f"bad{number}.png").write_text("text")
    out = tmp_path / "run"
    said = command("train", photos, "--out", out, *QUICK)
    assert said.code == 0
    assert f"skipped 7 in all: {out / 'skipped.txt'} lists them" in said.err
    assert len((out / "skipped.txt").read_text().splitlines()) == 7
    assert json.loads((out / "config.json").read_text())["data"]["skipped"] == 7
    said = command("encode", out, photos, "--out", tmp_path / "c.npz")
    assert sum(line.startswith("skipped 'bad") for line in said.err.splitlines()) == 7
    for path in photos.glob("bad*"):
        path.unlink()
    assert command("train", photos, "--out", out, "--overwrite", *QUICK).code == 0
    assert not (out / "skipped.txt").exists()


def test_all_images_can_be_neighbors_of_others_but_not_of_themselves(trained):
    from nearfar.runs import read_run
    from nearfar.search import find_neighbors, open_queries

    run = read_run(trained / "run")
    images = images_from_array(noise(12))
    new = open_queries([0], images)._replace(rows=np.array([-1]))
    assert sorted(find_neighbors(run, new, images, count=12, device="cpu").near[0]) == list(
        range(12)
    )
    with pytest.raises(NearfarError, match="neighbors=12"):
        find_neighbors(run, [0], images, count=12, device="cpu")
    assert torch.is_tensor(new.pixels)


@pytest.mark.parametrize(
    "words", ["curate {data} --encoder {run}", "neighbors {run} {data} --query 0"]
)
def test_what_a_full_disk_cut_short_is_removed(trained, tmp_path, words):
    names = {"run": trained / "run", "data": trained / "pixels.npy"}
    call = [*(word.format(**names) for word in words.split()), "--out", tmp_path / "out"]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**14, limits[1]))  # as a full disk
    try:
        said = command(*call)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert said.code == 2, said
    assert not (tmp_path / "out").exists()
    assert command(*call).code == 0


#: Calls whose output exists, each in a folder of its own.
EXISTING = [
    "attack model:make {absent} --out {folder}",
    "anomaly export {absent} --out {file}",
    "anomaly fit {absent} --out {folder}",
    "anomaly score {absent} {absent} --out {folder}",
    "browse {absent} --out {file}.html",
    "curate {absent} --out {folder}",
    "denoise {absent} {absent} --out {folder}",
    "encode {absent} {absent} --out {file}.npz",
    "encode {absent} {absent} --out {parts}",
    "evaluate {absent} --train {absent} --json {file}",
    "export {absent} --to onnx --out {folder}",
    "index {absent} --out {file}",
    "inpaint {absent} {absent} --out {folder}",
    "neighbors {absent} {absent} --query 0 --out {folder}",
    "purify {absent} {absent} --out {folder}",
    "reconstruct {absent} {absent} --out {folder}",
    "report {absent} --out {folder}",
    "report {run}",
    "search {absent} --query 0 --out {file}.parquet",
    "train {absent} --out {folder}",
    "transfer classify {absent} {absent} --out {folder}",
    "transfer detect {absent} {absent} --out {folder}",
    "transfer predict {absent} {absent} --out {folder}",
    "transfer segment {absent} {absent} --out {folder}",
]

#: Calls with data that are no devkit, and the error.
NO_DEVKIT = {
    "transfer detect {absent} {absent} --out {new}": "is not a VOC devkit",
    "transfer detect {absent} {devkit} --out {new}": "trainval.txt' does not exist",
    "transfer segment {absent} {folder} --out {new}": "is not a VOC devkit",
    "transfer segment {absent} {devkit} --out {new}": "train.txt' does not exist",
}

#: Calls that import torch before anything is read.
WITH_TORCH = [
    "attack model:make {absent} --out {new}",
    "anomaly export {absent} --out {new}",
    "anomaly fit {absent} --out {new}",
    "anomaly score {absent} {absent} --out {new}",
    "browse {absent} --out {new}.html",
    "curate {absent} --out {new}",
    "denoise {absent} {absent} --out {new}",
    "encode {absent} {absent} --out {new}.npz",
    "evaluate {absent} --train {absent}",
    "export {absent} --to onnx --out {new}",
    "inpaint {absent} {absent} --out {new}",
    "neighbors {absent} {absent} --query 0 --out {new}",
    "purify {absent} {absent} --out {new}",
    "reconstruct {absent} {absent} --out {new}",
    "report {absent} --data {absent} --out {new}",
    "train {absent} --out {new}",
    "transfer classify {absent} {absent} --out {new}",
    "transfer predict {absent} {absent} --out {new}",
]

#: Runs command lines, from standard input, with torch as if it were not installed.
WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
from nearfar.cli import main
for line in sys.stdin:
    try:
        main(line.split())
    except SystemExit as stop:
        print(f"exit code {stop.code}", end="\\0", file=sys.stderr)
    except ImportError:
        print("torch is needed", end="\\0", file=sys.stderr)
"""


def without_torch(calls: list[str], places: dict[str, Path], **environment: str) -> list[str]:
    """Run command lines without torch; return what each wrote to standard error, and its end."""
    said = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH],
        input="\n".join(calls).format(**places),
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    ).stderr
    return said.removesuffix("\0").split("\0")


def test_existing_output_is_refused_before_torch_is_imported(tmp_path):
    places = {name: tmp_path / name for name in ("absent", "file", "folder", "run")}
    places["parts"] = tmp_path / "parts.parquet"
    for file in (
        *("file", "file.html", "file.npz", "file.parquet", "folder/file"),
        *("run/model.safetensors", "run/report/report.html"),
        *("parts.parquet/part-00000-of-00001.parquet",),
    ):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    for call, said in zip(EXISTING, without_torch(EXISTING, places), strict=True):
        assert "exists already: choose another" in said, (call, said)
        assert said.endswith("exit code 2"), call


def test_data_that_are_no_devkit_are_refused_before_torch_is_imported(tmp_path):
    places = {name: tmp_path / name for name in ("absent", "devkit", "folder", "new")}
    (tmp_path / "devkit" / "JPEGImages").mkdir(parents=True)
    (tmp_path / "folder").mkdir()
    calls = list(NO_DEVKIT)
    for call, said in zip(calls, without_torch(calls, places), strict=True):
        assert NO_DEVKIT[call] in said, (call, said)
        assert said.endswith("exit code 2"), call
    assert not (tmp_path / "new").exists()


def test_commands_show_that_torch_is_loading(tmp_path):
    places = {name: tmp_path / name for name in ("absent", "new")}
    for call, said in zip(
        WITH_TORCH, without_torch(WITH_TORCH, places, FORCE_COLOR="1"), strict=True
    ):
        assert "loading " in said, (call, said)
        assert said.endswith("torch is needed"), (call, said)
