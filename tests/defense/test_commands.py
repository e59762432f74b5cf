"""``nearfar purify`` and ``nearfar attack``."""

from __future__ import annotations

import csv
import json
import shutil
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from nearfar.config import recipe
from nearfar.defense import (
    THREATS,
    NeighborPurifier,
    Purifier,
    save_classifier,
)
from nearfar.training import train
from program import run

SHAPE = (1, 8, 8)

pytest.importorskip("art", reason="the extra `defense` is not installed")


@pytest.fixture(scope="module")
def files(tmp_path_factory, learned, classifier, digits, digit_labels):
    """A run, a classifier, and digits to attack."""
    folder = tmp_path_factory.mktemp("files")
    config = recipe(
        "paper",
        embedding_size=32,
        pretrain_epochs=20,
        epochs=1,
        batch_size=64,
        clusters=8,
        device="cpu",
    )
    train(learned, config, folder=folder / "run")
    save_classifier(folder / "classifier.safetensors", classifier)
    np.savez(folder / "digits.npz", images=digits[1000:], labels=digit_labels[1000:])
    np.savez(folder / "bright.npz", images=digits[1000:] // 2 + 128, labels=digit_labels[1000:])
    (folder / "own_models.py").write_text(
        "from torch import nn\n"
        "def good():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
        "def number():\n    return 5\n"
        "def large():\n    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))\n"
    )
    return folder


def test_purify_command(files, purifier, tmp_path, capsys):
    data = files / "digits.npz"
    options = ("--clean", data, "--false-positive-rate", 0.05, "--device", "cpu")
    assert run("purify", files / "run", data, "--out", tmp_path / "out", *options) == 0
    with (tmp_path / "out" / "suspicion.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(list((tmp_path / "out").glob("*.png"))) == 797
    assert sum(int(row["rejected"]) for row in rows) == int(797 * 0.05)
    written = np.array(Image.open(tmp_path / "out" / f"{rows[5]['name']}.png")) / 255
    expected = Purifier.load(files / "run").purify(np.load(data)["images"][5:6, None])
    np.testing.assert_allclose(written, expected[0, 0], atol=0.003)
    assert "39 of them are rejected" in capsys.readouterr().out


def test_purifier_load_reads_only_what_it_needs(files, clean, tmp_path):
    run_folder = shutil.copytree(files / "run", tmp_path / "run")
    always = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            NeighborPurifier.load(run_folder)
    finally:
        torch.set_warn_always(always)
    whole = Purifier.load(run_folder).purify(clean[0][:5])
    (run_folder / "embeddings.npy").unlink()
    assert torch.equal(Purifier.load(run_folder).purify(clean[0][:5]), whole)


def test_attack_command(files, tmp_path, capsys):
    options = (
        "--run",
        files / "run",
        "--attacks",
        "fgsm",
        "hop-skip-jump",
        "--epsilons",
        0.05,
        0.3,
    )
    arguments = (files / "classifier.safetensors", files / "digits.npz", "--out", tmp_path / "out")
    assert run("attack", *arguments, *options, "--count", 10, "--device", "cpu") == 0
    written = json.loads((tmp_path / "out" / "attack.json").read_text())
    found = [(each["threat"], each["attack"], each["epsilon"]) for each in written["attacks"]]
    threats = ("transfer", "white-box-unaware", "white-box-aware")
    assert found == [
        *((threat, "fgsm", epsilon) for threat in threats for epsilon in (0.05, 0.3)),
        *(("decision-based", "hop-skip-jump", epsilon) for epsilon in (0.05, 0.3)),
    ]
    settings = written["settings"]
    assert (settings["run"], settings["votes"]) == (str(files / "run"), 0)
    text = (tmp_path / "out" / "attack.md").read_text()
    assert f"purified by {files / 'run'} (passes 1, noise_std 0.0, votes 0)" in text
    assert text in capsys.readouterr().out
    assert all(threat in text for threat in THREATS)
    assert Image.open(tmp_path / "out" / "attack.png").size[0] > 500


@pytest.mark.parametrize(
    ("arguments", "culprit"),
    [
        ("attack missing.safetensors digits.npz", "missing.safetensors"),
        ("attack classifier digits.npz", "module:function"),
        ("attack os:getcwd digits.npz", "torch.nn.Module"),
        ("attack own_models:number digits.npz", "is a int"),
        ("attack own_models:absent digits.npz", "AttributeError"),
        ("attack own_models:large digits.npz", "does not take images"),
        ("attack own_models:large digits.npz --run run", "does not take images"),
        ("attack own_models:good bright.npz", "most frequent class"),
        ("attack classifier.safetensors digits.npz --epsilons 8", "epsilon=8"),
        ("attack classifier.safetensors digits.npz --attacks magic", "'magic'"),
        ("attack classifier.safetensors digits.npz --count 0", "0 of 797"),
        ("attack classifier.safetensors digits.npz --count 1", "all of class"),
        ("attack missing.safetensors digits.npz --attacks", "no attacks"),
        ("attack classifier.safetensors digits.npz --votes 5", "add --run"),
        ("purify run digits.npz --false-positive-rate 0.1", "needs --clean"),
        ("purify run digits.npz --noise-std 3", "noise_std=3"),
        ("purify run digits.npz --passes 0", "passes=0"),
        ("purify run digits.npz --clean digits.npz --false-positive-rate 2", "=2"),
        ("purify missing digits.npz", "'missing'"),
    ],
)
def test_command_reports_invalid_input_in_one_line(
    files, tmp_path, monkeypatch, capsys, arguments, culprit
):
    monkeypatch.chdir(files)
    torch.manual_seed(0)
    assert run(*arguments.split(), "--out", tmp_path / "out", "--device", "cpu") == 2
    error = capsys.readouterr().err.strip()
    assert culprit in error
    assert len(error.splitlines()) == 1
