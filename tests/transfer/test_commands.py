"""``nearfar transfer``."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nearfar.transfer import (
    Devkit,
    write_classes,
    write_scenes,
)
from program import run
from selective_search import needs_selective_search

FAST = ("--steps", "2", "--batch-size", "2", "--device", "cpu")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("scenes"), 12)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, scenes) -> Path:
    """A run with AlexNet on the scenes."""
    out = tmp_path_factory.mktemp("runs") / "run"
    options = "--pretrain-epochs 1 --epochs 1 --batch-size 6 --clusters 2 --device cpu"
    network = "--size 64 --backbone alexnet --widths 24 --embedding-size 16"
    assert (
        run("train", scenes / "JPEGImages", "--out", out, *options.split(), *network.split()) == 0
    )
    return out


def refused(capsys, *arguments) -> str:
    """The one line with which a command ends."""
    capsys.readouterr()
    assert run(*arguments) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("nearfar: ")
    return line


def check(out: Path, task: str, rows: set[str]) -> dict:
    """Whether a task was written whole, with a share for every row; return it."""
    written = json.loads((out / f"{task}.json").read_text())
    assert set(written["scores"]) == rows
    for row in written["scores"].values():
        assert all(0 <= value <= 1 for value in row.values())
    assert (out / f"{task}.md").read_text().startswith("|  |")
    with Image.open(out / f"{task}.png") as picture:
        assert picture.width > 500
    return written


def test_classify_devkit(trained, scenes, tmp_path):
    splits = ("--splits", "train", "test")
    assert (
        run("transfer", "classify", trained, scenes, "--out", tmp_path / "o", *splits, *FAST) == 0
    )
    written = check(tmp_path / "o", "classify", {"linear", "fc", "all"})
    assert set(written["scores"]["all"]) == {"mAP, 11 points", "mAP, all points"}
    settings = written["settings"]
    assert settings["schedule"]["steps"] == 2
    assert settings["splits"] == ["train", "test"]
    assert settings["protocols"] == ["linear", "fc", "all"]
    assert settings["labels_per_class"] is settings["test"] is settings["like"] is None


def test_classify_folder(trained, tmp_path, capsys):
    shapes = write_classes(tmp_path / "shapes", 6)
    options = ("--like", trained, "--protocols", "all", "--labels-per-class", 2, *FAST)
    call = ("transfer", "classify", "random", shapes, "--out", tmp_path / "o", *options)
    assert run(*call) == 0
    settings = check(tmp_path / "o", "classify", {"all"})["settings"]
    assert (settings["like"], settings["labels_per_class"]) == (str(trained), 2)
    assert "6 training images" in capsys.readouterr().out
    assert "exists already" in refused(capsys, *call)
    assert "for training and test" in refused(capsys, *call, "--test", shapes, "--overwrite")
    assert run(*call, "--overwrite") == 0


def test_classify_skips_damaged_images(trained, tmp_path, capsys):
    shapes = write_classes(tmp_path / "shapes", 6)
    damaged = sorted(shapes.glob("*/*.jpg"))[0]
    damaged.write_bytes(b"no image")
    call = ("transfer", "classify", trained, shapes, "--out", tmp_path / "o", *FAST)
    assert damaged.name in refused(capsys, *call, "--strict")
    assert run(*call, "--protocols", "linear") == 0
    assert f"skipped '{damaged.parent.name}/{damaged.name}'" in capsys.readouterr().err


def test_splits_with_common_images_raise(trained, scenes, tmp_path, capsys):
    for task in ("classify", "detect", "segment"):
        call = ("transfer", task, trained, scenes, "--out", tmp_path / task, *FAST)
        assert "of the split 'val' are also in 'val'" in refused(
            capsys, *call, "--splits", "val", "val"
        )


def test_detect_with_alexnet_of_oblong_images(scenes, tmp_path):
    needs_selective_search()
    network = ("--backbone", "alexnet", "--widths", 16, "--embedding-size", 8, "--pretext", "plain")
    out = ("--out", tmp_path / "run", "--pretrain-epochs", 1, "--epochs", 0)
    assert run("train", scenes / "JPEGImages", *network, *out) == 0
    call = ("transfer", "detect", tmp_path / "run", scenes, "--splits", "train", "test")
    assert run(*call, "--size", 96, "--out", tmp_path / "o", *FAST) == 0


def test_detect(trained, scenes, tmp_path):
    needs_selective_search()
    call = ("transfer", "detect", trained, scenes, "--splits", "train", "test", "--size", 96)
    assert run(*call, "--out", tmp_path / "o", *FAST) == 0
    check(tmp_path / "o", "detect", {"disc", "square", "triangle", "mean"})
    assert len(list((tmp_path / "o" / "proposals").iterdir())) == 9


def test_detect_needs_opencv(trained, scenes, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2.ximgproc", None)
    call = (
        "transfer",
        "detect",
        trained,
        scenes,
        "--out",
        tmp_path / "o",
        "--splits",
        "train",
        "val",
        *FAST,
    )
    assert "nearfar[detection]" in refused(capsys, *call)


@pytest.mark.parametrize("fcn", [32, 8])
def test_segment(trained, scenes, tmp_path, fcn):
    call = ("transfer", "segment", trained, scenes, "--size", 96, "--fcn", fcn)
    assert run(*call, "--out", tmp_path / "o", *FAST) == 0
    check(tmp_path / "o", "segment", {"background", "disc", "square", "triangle", "mean"})


def test_kmeans_uses_training_images(trained, scenes, tmp_path):
    options = ("--like", trained, "--splits", "train", "val", "--size", 64, *FAST)
    for task in ("classify", "segment"):
        assert run("transfer", task, "kmeans", scenes, "--out", tmp_path / task, *options) == 0
        settings = json.loads((tmp_path / task / f"{task}.json").read_text())["settings"]
        assert (settings["weights"], settings["like"]) == ("kmeans", str(trained))


def test_scores_depend_only_on_seed(trained, scenes, tmp_path):
    for part, seed in (("a", 1), ("b", 1), ("c", 2)):
        call = ("transfer", "segment", trained, scenes, "--size", 96, "--fcn", 8, "--seed", seed)
        options = ("--steps", 20, "--batch-size", 4, "--lr", 3e-3, "--device", "cpu")
        assert run(*call, "--out", tmp_path / part, *options) == 0
    first, again, other = (
        json.loads((tmp_path / part / "segment.json").read_text())["scores"] for part in "abc"
    )
    assert first == again
    assert first != other


def test_commands_report_invalid_input_in_one_line(trained, scenes, tmp_path, capsys):
    out = ("--out", tmp_path / "o", *FAST)
    assert "not a VOC devkit" in refused(capsys, "transfer", "segment", trained, tmp_path, *out)
    line = refused(capsys, "transfer", "detect", trained, scenes, *out)
    assert "trainval.txt' does not exist" in line
    splits = ("--splits", "train", "val")
    line = refused(capsys, "transfer", "classify", "nothing", scenes, *splits, *out)
    assert "'nothing'" in line
    call = ("transfer", "classify", trained, scenes, *splits)
    assert "do not apply to a devkit" in refused(capsys, *call, "--labels-per-class", 5, *out)
    assert "do not apply to a devkit" in refused(capsys, *call, "--test", scenes, *out)
    assert "no protocols" in refused(capsys, *call, *out, "--protocols")
    call = ("transfer", "classify", trained, scenes / "JPEGImages")
    assert "is not" in refused(capsys, *call, *splits, *out)
    assert "random or kmeans" in refused(capsys, *call, "--like", trained, *out)
    call = ("transfer", "classify", trained, scenes, *splits, "--size", 16)
    assert "too small" in refused(capsys, *call, *out)
    assert "no labels" in refused(
        capsys, "transfer", "classify", trained, scenes / "JPEGImages", *out
    )
    assert not (tmp_path / "o").exists()


def test_weights_are_opened_before_data(trained, scenes, tmp_path, capsys):
    broken = write_scenes(tmp_path / "scenes", 4)
    for folder in ("Annotations", "SegmentationClass"):
        shutil.rmtree(broken / folder)
    splits = ("--splits", "train", "test", "--out", tmp_path / "o")
    for task in ("detect", "segment"):
        assert "'nothing'" in refused(capsys, "transfer", task, "nothing", broken, *splits)
    assert not (tmp_path / "o").exists()
    vit = tmp_path / "vit"
    options = "--recipe paper --backbone timm:vit_tiny_patch16_224 --pretrain-epochs 1 --epochs 0"
    assert run("train", scenes / "JPEGImages", "--out", vit, "--size", 32, *options.split()) == 0
    call = ("transfer", "segment", vit, broken, "--fcn", 8, *splits)
    assert "FCN-8s needs 2 finer" in refused(capsys, *call)
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "run" / "model.safetensors").rename(tmp_path / "run" / "checkpoint.safetensors")
    line = refused(capsys, "transfer", "detect", tmp_path / "run", broken, *splits)
    assert "continue it with --resume" in line


def test_detect_reuses_cached_proposals(trained, scenes, tmp_path):
    needs_selective_search()
    kept = tmp_path / "o" / "proposals"
    kept.mkdir(parents=True)
    for name in Devkit.open(scenes).split("Main", "train"):
        np.save(kept / f"{name}.npy", np.array([[1, 2, 31, 42]], np.float32))
    call = ("transfer", "detect", trained, scenes, "--splits", "train", "test", "--size", 96)
    assert run(*call, "--out", tmp_path / "o", *FAST) == 0
    assert len(list(kept.iterdir())) == 9


@pytest.mark.slow
def test_all_tasks_on_real_sets(trained, data_root, tmp_path):
    needs_selective_search()
    for name in ("bccd", "camvid"):
        if not (data_root / name).is_dir():
            pytest.skip(f"no {data_root / name}")
    splits = ("--splits", "val", "test")
    bccd, camvid = data_root / "bccd", data_root / "camvid"
    classes = {"Platelets", "RBC", "WBC", "mean"}
    protocols = ("--protocols", "linear", "all")
    call = ("transfer", "classify", trained, bccd, *splits, *protocols, "--size", 64)
    assert run(*call, "--out", tmp_path / "c", *FAST) == 0
    check(tmp_path / "c", "classify", {"linear", "all"})
    call = ("transfer", "segment", trained, camvid, *splits, "--size", 96, "--fcn", 16)
    assert run(*call, "--out", tmp_path / "s", *FAST) == 0
    assert len(check(tmp_path / "s", "segment", _camvid(camvid))["scores"]) == 12
    few = _few(bccd, tmp_path / "few")
    call = ("transfer", "detect", trained, few, *splits, "--size", 96)
    assert run(*call, "--out", tmp_path / "d", *FAST) == 0
    check(tmp_path / "d", "detect", classes)


def _camvid(root: Path) -> set[str]:
    return {*(root / "classes.txt").read_text().split(), "mean"}


def _few(devkit: Path, root: Path) -> Path:
    """The same devkit with three images in each split: selective search takes a second each."""
    root.mkdir()
    for name in ("JPEGImages", "Annotations", "classes.txt"):
        (root / name).symlink_to(devkit / name)
    (root / "ImageSets" / "Main").mkdir(parents=True)
    for split in ("val", "test"):
        names = (devkit / "ImageSets" / "Main" / f"{split}.txt").read_text().split()[:3]
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(names))
    return root


@pytest.mark.parametrize("task", ["classify", "detect", "segment", "predict"])
def test_output_folder_is_claimed_before_anything_is_read(tmp_path, capsys, task):
    """Neither the weights nor the data exist."""
    (tmp_path / "file").touch()
    call = ("transfer", task, tmp_path / "no weights", tmp_path / "no data")
    line = refused(capsys, *call, "--out", tmp_path / "file" / "out")
    assert f"cannot write '{tmp_path / 'file' / 'out'}': Not a directory" in line
    refused(capsys, *call, "--out", tmp_path / "new" / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def _full_disk(tmp_path: Path, size: str, *command: object) -> subprocess.CompletedProcess[str]:
    """Run a command where tmp_path/small is a disk of a given size."""
    (tmp_path / "small").mkdir(exist_ok=True)
    mount = shlex.join(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", "small"])
    script = f"{mount} && {shlex.join(map(str, command))}; code=$?; ls -A small/*; exit $code"
    unshare = [shutil.which("unshare") or "unshare", "-rm", "sh", "-c", script]
    return subprocess.run(unshare, cwd=tmp_path, capture_output=True, text=True)


def test_table_is_printed_before_the_disk_is_full(trained, tmp_path):
    if not shutil.which("unshare") or _full_disk(tmp_path, "1m", "true").returncode:
        pytest.skip("no permission to mount a disk")
    write_classes(tmp_path / "shapes", 5)
    call = ("transfer", "classify", trained, "shapes", "--out", "small/out", *FAST)
    done = _full_disk(tmp_path, "3m", sys.executable, "-m", "nearfar", *call)
    assert done.returncode == 2
    assert "| linear |" in done.stdout, "the table"
    assert "| all |" in done.stdout
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("nearfar: ")]
    assert "small/out" in line
    assert "No space left" in line or "no room on the disk" in line


def test_outputs_of_killed_calls_are_replaced(trained, tmp_path, monkeypatch, capsys):
    shapes, out = write_classes(tmp_path / "shapes", 5), tmp_path / "o"
    call = ("transfer", "classify", trained, shapes, "--out", out, *FAST)

    def die(*_):
        raise SystemExit(9)

    with monkeypatch.context() as patch:
        patch.setattr("nearfar.report.transfer.save_figure", die)
        assert run(*call) == 9
    assert (out / "fc" / "finetuned.json").is_file()
    (out / "notes.txt").write_text("mine")
    assert run(*call, "--protocols", "linear") == 0
    names = {path.name for path in out.iterdir()}
    assert names == {"linear", "classify.json", "classify.md", "classify.png", "notes.txt"}
    assert "exists already" in refused(capsys, *call)
