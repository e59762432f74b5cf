"""Embeddings as Parquet, in parts: interrupted, by several processes, and read again."""

from __future__ import annotations

import json
import subprocess

import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet

from nearfar.data import FolderImages, images_from_array
from nearfar.embeddings import read_embeddings
from nearfar.encoders import open_encoder
from nearfar.errors import NearfarError
from nearfar.search import encode, encode_to, search_stored
from program import run
from trainings import TORCHRUN


@pytest.fixture(scope="module")
def encoder():
    return open_encoder("timm:resnet18", weights="random", size=32)


@pytest.fixture(scope="module")
def photos():
    pixels = np.random.default_rng(0).integers(0, 256, (600, 8, 8, 3), np.uint8)
    return images_from_array(pixels, labels=[f"class {row % 3}" for row in range(600)])


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_parts_hold_the_embeddings_in_order(encoder, photos, tmp_path):
    path = tmp_path / "photos.parquet"
    assert encode_to(path, encoder, photos, device="cpu")
    assert len(list(path.iterdir())) == 3
    table = read_embeddings(path)
    np.testing.assert_allclose(table.embeddings, encode(encoder, photos, device="cpu"), atol=1e-5)
    assert table.names == photos.names()
    assert table.labels[:4] == ["class 0", "class 1", "class 2", "class 0"]
    assert table.settings["encoder"] == "timm:resnet18"
    assert table.settings["weights"] == "random"
    columns = parquet.read_table(path)
    assert str(columns.schema.field("embedding").type).startswith("fixed_size_list<element: float")


def test_file_has_sizes_and_checksums_of_the_files(encoder, tmp_path):
    (tmp_path / "photos").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    for name in ("a", "b"):
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{name}.png")
    Image.fromarray(pixels[:30]).save(tmp_path / "photos" / "c.png")
    encode_to(
        tmp_path / "p.parquet", encoder, FolderImages(tmp_path / "photos", size=32), device="cpu"
    )
    table = parquet.read_table(tmp_path / "p.parquet").to_pydict()
    assert table["file"] == ["a.png", "b.png", "c.png"]
    assert list(zip(table["width"], table["height"], strict=True)) == [(50, 40), (50, 40), (50, 30)]
    assert table["checksum"][0] == table["checksum"][1] != table["checksum"][2]


def test_two_processes_write_the_files_of_one(encoder, photos, tmp_path):
    encode_to(tmp_path / "one.parquet", encoder, photos, device="cpu")
    two = tmp_path / "two.parquet"
    assert not encode_to(two, encoder, photos, rank=1, world_size=2, device="cpu")
    with pytest.raises(NearfarError, match="incomplete, with 2 of 3 parts: run the same"):
        read_embeddings(two)
    assert encode_to(two, encoder, photos, rank=0, world_size=2, device="cpu")
    assert contents(two) == contents(tmp_path / "one.parquet")


def test_torchrun_writes_the_rows_of_one_process(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for row in range(300):
        pixels = rng.integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{row:03}.png")
    model = ("timm:resnet18", "--weights", "random", "--size", "32", "--device", "cpu")
    one, two = tmp_path / "one.parquet", tmp_path / "two.parquet"
    assert run("encode", model[0], tmp_path / "photos", *model[1:], "--out", one) == 0
    command = [*TORCHRUN, "-m", "nearfar", "encode", model[0], str(tmp_path / "photos"), *model[1:]]
    subprocess.run([*command, "--out", str(two)], check=True, timeout=600)
    assert sorted(path.name for path in two.iterdir()) == [
        "part-00000-of-00002.parquet",
        "part-00001-of-00002.parquet",
    ]
    ours, theirs = read_embeddings(one), read_embeddings(two)
    assert theirs.names == ours.names
    assert theirs.checksums == ours.checksums
    np.testing.assert_allclose(theirs.embeddings, ours.embeddings, atol=1e-5)


def test_interrupted_encoding_continues(encoder, photos, tmp_path):
    def stop_after_first(items, description, total):
        for number, item in enumerate(items):
            if description == "encoding parts" and number == 1:
                raise KeyboardInterrupt
            yield item

    path = tmp_path / "photos.parquet"
    with pytest.raises(KeyboardInterrupt):
        encode_to(path, encoder, photos, device="cpu", track=stop_after_first)
    (first,) = path.iterdir()
    before = first.stat().st_mtime_ns
    assert encode_to(path, encoder, photos, device="cpu")
    assert first.stat().st_mtime_ns == before
    encode_to(tmp_path / "whole.parquet", encoder, photos, device="cpu")
    assert contents(path) == contents(tmp_path / "whole.parquet")


def test_parts_of_others_are_refused_or_replaced(encoder, photos, tmp_path):
    path = tmp_path / "photos.parquet"
    encode_to(path, encoder, photos, rank=0, world_size=2, device="cpu")
    other = open_encoder("timm:resnet18", weights="random", size=64)
    with pytest.raises(NearfarError, match="or by another encoder"):
        encode_to(path, other, photos, device="cpu")
    few = images_from_array(np.zeros((9, 8, 8, 3)) + np.random.default_rng(0).random((9, 8, 8, 3)))
    with pytest.raises(NearfarError, match="a different number of images"):
        encode_to(path, encoder, few, device="cpu")
    assert encode_to(path, encoder, few, device="cpu", overwrite=True)
    assert read_embeddings(path).names == few.names()
    with pytest.raises(NearfarError, match="exists already"):
        encode_to(path, encoder, few, device="cpu")
    with pytest.raises(NearfarError, match=r"by 2 processes: expected a \.parquet"):
        encode_to(tmp_path / "photos.npz", encoder, few, rank=0, world_size=2, device="cpu")


def test_parts_of_changed_images_are_refused(encoder, tmp_path):
    """Also where others of many are compared: files that are newer than the part all are."""
    pixels = np.random.default_rng(1).integers(0, 256, (600, 8, 8), np.uint8)
    folder, path = tmp_path / "photos", tmp_path / "photos.parquet"
    folder.mkdir()
    for row, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{row:03}.png")
    assert encode_to(path, encoder, FolderImages(folder, size=32, channels=3), device="cpu")
    (path / "part-00002-of-00003.parquet").unlink()
    Image.fromarray(pixels[1]).save(folder / "001.png")  # again, as it was
    images = FolderImages(folder, size=32, channels=3)
    assert encode_to(path, encoder, images, device="cpu")
    (path / "part-00002-of-00003.parquet").unlink()
    Image.fromarray(255 - pixels[1]).save(folder / "001.png")
    with pytest.raises(NearfarError, match=r"another image named '001\.png'"):
        encode_to(path, encoder, images, device="cpu")


def test_queries_are_read_with_the_window_of_the_embeddings(tmp_path, capsys):
    values = np.random.default_rng(0).integers(0, 8192, (12, 16, 16)).astype(np.uint16)
    (tmp_path / "scans").mkdir()
    for row, image in enumerate(values):
        Image.fromarray(image).save(tmp_path / "scans" / f"{row:02}.png")
    Image.fromarray(values[7]).save(tmp_path / "query.png")
    model = ("timm:resnet18", "--weights", "random", "--size", 32, "--device", "cpu")
    stored, window = tmp_path / "scans.parquet", ("--window", 0, 8191)
    assert run("encode", *model, tmp_path / "scans", *window, "--out", stored) == 0
    capsys.readouterr()
    query = ("--query", tmp_path / "query.png", "--count", 1)
    for options in ((), window):
        assert run("search", stored, *query, *options) == 0
        assert capsys.readouterr().out.split()[-2:] == ["1.000", "07.png"]
    assert run("search", stored, *query, "--window", 0, 4095) == 2
    assert "the embeddings were made with --window 0 8191" in capsys.readouterr().err
    assert search_stored(stored, [tmp_path / "query.png"], count=1).near == [["07.png"]]
    near = ("neighbors", stored, tmp_path / "scans", *query, "--out", tmp_path / "near")
    assert run(*near) == 0
    found = json.loads((tmp_path / "near/neighbors.json").read_text())["queries"][0]["near"][0]
    assert found["name"] == "07.png"
