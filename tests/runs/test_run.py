"""`read_run`: a run comes back as it was, or with one line that says what is wrong with it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from nearfar import NRE, runs
from nearfar.config import recipe
from nearfar.errors import NearfarError
from nearfar.training import train
from trainings import assert_same_weights


def change_config(folder, **changes):
    path = folder / runs.CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_section(folder, section, **changes):
    """Change part of ``data``, ``train``, or of a section of ``train``."""
    saved = json.loads((folder / runs.CONFIG).read_text())
    if section in ("data", "train"):
        saved[section] |= changes
    else:
        saved["train"][section] |= changes
    change_config(folder, **saved)


def test_run_comes_back_as_it_was(tmp_path, images, config):
    trained = train(images, config, folder=tmp_path / "run")
    read = runs.read_run(tmp_path / "run")
    assert_same_weights(trained.network.state_dict(), read.network.state_dict())
    assert_same_weights(trained.initial.state_dict(), read.initial.state_dict())
    np.testing.assert_array_equal(read.embeddings, trained.embeddings)
    assert read.config == trained.config
    assert read.config.train.objective == config.objective
    assert read.log == runs.read_log(tmp_path / "run") == trained.log
    assert (read.folder, trained.folder) == (tmp_path / "run", tmp_path / "run")
    assert (read.method, read.initial_method) == ("NRE", "autoencoder")
    assert not read.network.training


def test_trained_network_is_read_without_embeddings(run):
    whole = runs.read_run(run).network
    (run / "embeddings.npy").unlink()
    network = runs.read_trained_network(run)
    assert_same_weights(whole.state_dict(), network.state_dict())
    assert network(torch.zeros(1, 1, 8, 8)).embeddings.shape == (1, 6)


def test_run_holds_the_documented_files_and_nothing_else(run):
    assert {path.name for path in run.iterdir()} == {
        "config.json",
        "model.safetensors",
        "embeddings.npy",
        "log.jsonl",
    }


def test_files_have_the_usual_permissions(run, tmp_path):
    (tmp_path / "usual").touch()
    usual = (tmp_path / "usual").stat().st_mode
    assert {path.stat().st_mode for path in run.iterdir()} == {usual}


@pytest.mark.parametrize(
    ("harm", "culprit"),
    [
        (lambda run: (run / "config.json").unlink(), "is not a run"),
        (lambda run: (run / "config.json").write_text("{"), "is damaged"),
        (lambda run: (run / "config.json").write_text("[]"), "is damaged"),
        (lambda run: change_section(run, "data", pixel_range=None), "pixel_range=None"),
        (lambda run: change_config(run, data={}), "is damaged"),
        (lambda run: change_config(run, data=[]), "is damaged"),
        (lambda run: change_section(run, "data", shape=[1, 8, "8"]), "shape=.*whole number"),
        (lambda run: change_section(run, "data", shape=[1, 16, 16]), "of another network"),
        (lambda run: change_section(run, "data", images=0), "expected 1 or more"),
        (lambda run: change_section(run, "data", images=99), "instead of float32"),
        (lambda run: change_section(run, "data", source=3), "source=3: expected text"),
        (lambda run: change_section(run, "data", layout="round"), "layout='round'"),
        (lambda run: change_section(run, "data", wings=2), "wings"),
        (lambda run: change_section(run, "data", pixel_range=[0, "1"]), "pixel_range"),
        (lambda run: change_config(run, format="new"), "is damaged"),
        (lambda run: change_section(run, "network", embedding_size=128), "of another network"),
        (lambda run: change_section(run, "network", widths=[1.5]), "widths=.*whole number"),
        (lambda run: change_section(run, "network", kind="transformer"), "transformer"),
        (lambda run: (run / "config.json").write_text("[" * 100_000), "is damaged"),
        (lambda run: change_config(run, train=None), "is damaged"),
        (lambda run: (run / "embeddings.npy").write_bytes(b""), "is damaged"),
        (lambda run: np.save(run / "embeddings.npy", np.zeros((3, 4))), "float64"),
        (lambda run: change_config(run, format=3), "install a newer"),
        (lambda run: change_config(run, format=1), "train it again"),
        (lambda run: (run / "model.safetensors").unlink(), "no trained model"),
        (lambda run: (run / "model.safetensors").write_bytes(b"x" * 100), "is damaged"),
        (
            lambda run: (run / "model.safetensors").write_bytes(
                (run / "model.safetensors").read_bytes()[:-9]
            ),
            "is damaged",
        ),
        (lambda run: (run / "embeddings.npy").unlink(), "is damaged"),
        (lambda run: change_section(run, "network", embedding_size=7), "of another network"),
        (
            lambda run: change_section(run, "train", network={"custom": "lab.Net"}),
            r"your own network lab\.Net: pass it",
        ),
    ],
)
def test_read_run_refuses(run, harm, culprit):
    harm(run)
    with pytest.raises(NearfarError, match=culprit) as caught:
        runs.read_run(run)
    assert "\n" not in str(caught.value)
    assert str(run) in str(caught.value)


def test_read_run_refuses_an_absent_folder(tmp_path):
    with pytest.raises(NearfarError, match="does not exist"):
        runs.read_run(tmp_path / "nowhere")


def test_read_run_refuses_pickled_embeddings(run):
    np.save(run / "embeddings.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(NearfarError, match="is damaged"):
        runs.read_run(run)


@pytest.mark.parametrize(
    ("section", "damage"),
    [
        ("optim", {"lr": "fast"}),
        ("optim", {"lr": None}),
        ("objective", {"weights": 1}),
        ("train", {"device": 1}),
        ("optim", {"speed": 1}),
    ],
)
def test_load_refuses_settings_of_another_form(run, section, damage):
    change_section(run, section, **damage)
    with pytest.raises(NearfarError, match=r"is damaged: config\.json") as caught:
        NRE.load(run)
    assert next(iter(damage)) in str(caught.value)


def test_untrained_is_what_a_network_without_pretraining_is_called(images):
    config = recipe("paper", pretrain_epochs=0, epochs=1, clusters=3, device="cpu")
    assert train(images, config).initial_method == "untrained"
