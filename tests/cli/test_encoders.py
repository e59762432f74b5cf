"""Commands on encoders without a run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from program import run

LITE0 = "timm:tf_efficientnet_lite0"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Noise of two colors as image files in a folder for each."""
    root, rng = tmp_path_factory.mktemp("data") / "photos", np.random.default_rng(0)
    for row in range(24):
        path = root / f"color {row % 2}" / f"{row:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 128, (40, 48, 3), np.uint8)
        pixels[..., row % 2] += 64
        Image.fromarray(pixels).save(path)
    return root


def test_encode_neighbors_evaluate_and_report_without_a_run(folder, tmp_path, capsys):
    stored = tmp_path / "embeddings.npz"
    size = ("--size", 32)
    assert run("encode", LITE0, folder, *size, "--out", stored) == 0
    assert "24 embeddings of length 1280" in capsys.readouterr().out
    assert run("neighbors", stored, folder, "--query", 0, 5, "--out", tmp_path / "near") == 0
    assert (tmp_path / "near" / "neighbors.png").is_file()
    scores = tmp_path / "scores.json"
    evaluate = ("evaluate", LITE0, "--train", folder, "--json", scores)
    assert run(*evaluate, *size, "--beside", stored) == 0
    rows = json.loads(scores.read_text())["rows"]
    assert list(rows) == ["pixels", LITE0, str(stored)]
    assert rows[LITE0] == rows[str(stored)]
    report = ("report", LITE0, "--data", folder, *size, "--out", tmp_path / "report")
    assert run(*report) == 0
    page = (tmp_path / "report" / "report.html").read_text()
    assert LITE0 in page
    assert "Near and far" in page


def test_report_without_images_or_a_run_says_so(capsys):
    assert run("report", LITE0) == 2
    assert "expected --data" in capsys.readouterr().err


def test_train_continues_and_evaluate_shows_whether_it_was_worth_it(folder, tmp_path, capsys):
    out = tmp_path / "run"
    options = "--weights pretrained --size 32 --epochs 1 --clusters 2 --batch-size 8 --device cpu"
    assert run("train", folder, "--out", out, "--backbone", LITE0, *options.split()) == 0
    saved = json.loads((out / "config.json").read_text())
    assert saved["train"]["network"]["weights"] == "pretrained"
    assert saved["train"]["objective"]["kind"] == "contrastive"
    assert saved["data"]["size"] == 32
    evaluate = ("evaluate", out, "--train", folder, "--json", tmp_path / "scores.json")
    assert run(*evaluate, "--beside", LITE0) == 0
    rows = json.loads((tmp_path / "scores.json").read_text())["rows"]
    assert list(rows) == ["pixels", "pretrained", "nearfar", LITE0]
    assert rows["pretrained"] == rows[LITE0]
    assert run("report", out) == 0
    page = (out / "report" / "report.html").read_text()
    assert "the pretrained network" in page
    assert "Reconstructions" not in page
    assert run("reconstruct", out, folder, "--out", tmp_path / "images") == 2
    assert "no trained decoder" in capsys.readouterr().err


def test_images_for_published_weights_have_their_size(folder, tmp_path):
    options = "--backbone alexnet --weights random --epochs 1 --clusters 2 --device cpu"
    assert run("train", folder, "--out", tmp_path / "a", *options.split()) == 2  # too small
    lite0 = ("--backbone", LITE0, "--weights", "pretrained", "--dry-run", "--clusters", 2)
    assert run("train", folder, "--out", tmp_path / "run", *lite0, "--batch-size", 8) == 0
    assert not (tmp_path / "run").exists()
