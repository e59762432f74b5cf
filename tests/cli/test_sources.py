"""Sources of images and options about them, through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet

from readers.cells_dicom import write_dicom
from readers.stores import encoded, pictures, png, store_manifest, store_parquet, store_tar
from readers.support import command, warned

QUICK = "--pretrain-epochs 1 --epochs 1 --batch-size 4 --embedding-size 4 --clusters 2".split()


def deep_images(folder: Path) -> Path:
    """Write a tar file of 16-bit images that use a part of their range."""
    values = np.random.default_rng(0).integers(1000, 1201, (8, 12, 12)).astype(np.uint16)
    return store_tar(folder, {f"{number}.png": png(each) for number, each in enumerate(values)})


def test_run_remembers_the_window(tmp_path: Path) -> None:
    source, run = deep_images(tmp_path), tmp_path / "run"
    options = ("--window", "-1000", "1200", "--device", "cpu")
    said = command("train", source, "--out", run, *options, *QUICK)
    assert said.code == 0, said
    assert json.loads((run / "config.json").read_text())["data"]["window"] == [-1000.0, 1200.0]
    tables = []
    for name, window in (("a", ()), ("b", ("--window", -1000, 1200)), ("c", ("--window", 0, 9000))):
        out = tmp_path / f"{name}.npz"
        said = command("encode", run, source, "--out", out, "--device", "cpu", *window)
        assert said.code == 0, said
        tables.append(np.load(out)["embeddings"])
    assert (tables[0] == tables[1]).all()
    assert not np.allclose(tables[0], tables[2])


def store_floats(tmp_path: Path, values: np.ndarray) -> Path:
    files = {f"{n}.tif": encoded(Image.fromarray(each), "TIFF") for n, each in enumerate(values)}
    return store_tar(tmp_path, files)


def test_floats_from_0_to_1_have_that_window_and_the_run_remembers_it(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((8, 12, 12), np.float32) * 0.9
    source, run = store_floats(tmp_path, values), tmp_path / "run"
    said = command("train", source, "--out", run, "--device", "cpu", *QUICK)
    assert said.code == 0, said
    assert json.loads((run / "config.json").read_text())["data"]["window"] == [0, 1]
    said = command("encode", run, source, "--out", tmp_path / "a.npz", "--device", "cpu")
    assert said.code == 0, said


def test_floats_of_another_range_are_rejected_with_their_range(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(0, 300, (8, 12, 12)).astype(np.float32)
    source, run = store_floats(tmp_path, values), tmp_path / "run"
    with warned("8 of 8 files do not state black and white, and are not used"):
        said = command("train", source, "--out", run, "--device", "cpu", *QUICK)
    assert said.code == 2
    assert "--window LOW HIGH" in said.err
    assert not run.exists()


def test_mixed_folder_is_encoded_and_the_rest_is_counted(tmp_path: Path) -> None:
    pytest.importorskip("pillow_heif", reason="the extra heic is not installed")
    source, run = tmp_path / "mixed", tmp_path / "run"
    source.mkdir()
    np.save(tmp_path / "train.npy", np.random.default_rng(0).integers(0, 256, (8, 12, 12, 3), "u1"))
    assert command("train", tmp_path / "train.npy", "--out", run, *QUICK).code == 0
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), "u1"))
    command("encode", run, tmp_path / "train.npy", "--out", tmp_path / "x.npz")  # registers HEIC
    (source / "phone.heic").write_bytes(encoded(photo, "HEIF"))
    photo.convert("CMYK").save(source / "print.jpg")
    deep = np.asarray(photo.convert("L")).astype(np.uint16) * 257
    Image.fromarray(deep).save(source / "sensor.png")
    write_dicom(source / "scan.dcm", deep >> 4, WindowCenter=2048, WindowWidth=4096)
    store_tar(source, pictures(4))
    store_parquet(source, pictures(2))
    (source / "notes.txt").write_text("text")
    (source / "clip.mp4").write_bytes(b"video")
    with warned("2 files are not named like images: .mp4 (1), .txt (1)"):
        said = command("encode", run, source, "--out", tmp_path / "all.parquet")
    assert said.code == 0, said
    assert parquet.read_table(tmp_path / "all.parquet")["file"].to_pylist() == [
        *(f"images.parquet/{number}.png" for number in range(2)),
        *(f"images.tar/{number}.png" for number in range(4)),
        *("phone.heic", "print.jpg", "scan.dcm", "sensor.png"),
    ]


def test_bands_and_labels_of_a_manifest(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile", reason="the extra tiff is not installed")
    rng = np.random.default_rng(0)
    for number in range(20):
        bands = rng.integers(0, 256, (12, 12, 5), "u1")
        name, planes = tmp_path / f"{number}.tif", {"planarconfig": "contig"}
        tifffile.imwrite(name, bands, photometric="minisblack", **planes)
    path = tmp_path / "images.csv"
    rows = [f"{number}.tif,{'ab'[number % 2]}" for number in range(20)]
    path.write_text("\n".join(["path,label", *rows]))
    run = tmp_path / "run"
    said = command("train", path, "--out", run, "--bands", 5, 3, 1, *QUICK, "--device", "cpu")
    assert said.code == 0, said
    assert json.loads((run / "config.json").read_text())["data"]["bands"] == [5, 3, 1]
    said = command("evaluate", run, "--train", path, "--device", "cpu")
    assert said.code == 0, said


def test_manifest_without_paths_is_refused(tmp_path: Path) -> None:
    path = store_manifest(tmp_path, pictures())
    path.write_text("name\n0.png\n")
    assert "expected the paths of images" in command("train", path, "--out", tmp_path / "r").err
