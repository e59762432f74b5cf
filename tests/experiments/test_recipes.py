"""The table of recipes, and the methods of lightly in it."""

from __future__ import annotations

import json
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from nearfar.training.loop import Interrupted
from torch.nn.functional import cosine_similarity

from nearfar.data import ArrayImages, open_images
from nearfar.errors import MissingExtraError, NearfarError
from nearfar.evaluation import scores
from nearfar.experiments import recipes
from nearfar.experiments.baselines import METHODS, MOMENTUM, Baseline
from nearfar.experiments.metrics import task_on
from nearfar.models import Architecture
from nearfar.progress import silent
from nearfar.training.train import HIDDEN, Trained, train

SMALL = {"batch_size": 64, "embedding_size": 12, "device": "cpu"}


@pytest.fixture
def images(digits):
    return ArrayImages(digits[:300, None])


def learn(method: str, images: Any, epochs: int = 3, **choices: Any) -> Trained:
    config = recipes.ROWS[method](epochs, **SMALL)
    return train(images, config, objective=partial(Baseline, method), **choices)


class StopAt:
    """A `Track` that interrupts the process, as Ctrl-C would, at one of the training steps."""

    def __init__(self, step: int) -> None:
        self.left = step

    def __call__(self, items, description, total):
        for item in items:
            if description == "relational":
                self.left -= 1
                if self.left == 0:
                    os.kill(os.getpid(), signal.SIGINT)
            yield item


# --- the methods ---------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_a_resumed_training_is_bit_for_bit_the_same(method, images, tmp_path):
    whole = learn(method, images, folder=tmp_path / "whole")  # five steps an epoch
    with pytest.raises(Interrupted):
        learn(method, images, folder=tmp_path / "parts", track=StopAt(7))
    resumed = learn(method, images, folder=tmp_path / "parts", resume=True)
    weights = whole.autoencoder.state_dict()
    for name, value in resumed.autoencoder.state_dict().items():
        assert torch.equal(value, weights[name]), name
    assert [line["loss"] for line in resumed.log] == [line["loss"] for line in whole.log]
    untrained = whole.pretrained.state_dict()
    assert not torch.equal(weights["encoder.0.weight"], untrained["encoder.0.weight"])
    assert torch.equal(weights["decoder.0.weight"], untrained["decoder.0.weight"])


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_method_lowers_its_loss_and_beats_an_untrained_encoder(method):
    learned, tested = (open_images(f"mnist5k:{part}") for part in ("train", "test"))
    # With the hidden layer, BYOL's teacher takes longer than two epochs to know anything.
    choices = {"network": "normalized", "batch_size": 128, "embedding_size": 32, "device": "cpu"}
    config = recipes.ROWS[method](2, **choices)
    trained = train(learned, config, objective=partial(Baseline, method))
    assert trained.log[-1]["loss"] < trained.log[0]["loss"]
    after, before = (
        scores.linear_svm(task_on(network.eval().encoder, learned, tested, 0)).mean
        for network in (trained.autoencoder, trained.pretrained)
    )
    assert after > before


def make(method: str, images: int = 300) -> torch.nn.Module:
    torch.manual_seed(0)
    network = Architecture((1, 8, 8), 12, normalized=True).build()
    return METHODS[method](network.encoder, recipes.ROWS[method](1, **SMALL), images).train()


def test_the_teacher_follows_the_student_and_has_no_gradient(images):
    method = make("BYOL")
    views = torch.rand(16, 1, 8, 8)
    before = [value.clone() for value in method.teacher.parameters()]
    with torch.no_grad():
        for value in method.student().parameters():
            value.add_(1)
    _, loss = method(views)
    loss.backward()
    for value, then in zip(method.teacher.parameters(), before, strict=True):
        torch.testing.assert_close(value, then + (1 - MOMENTUM))
        assert value.grad is None
    assert all(value.grad is not None for value in method.student().parameters())


def test_views_predict_what_the_teacher_makes_of_the_other_view():
    method = make("BYOL")
    method.eval()  # batch normalization that does not depend on the batch
    first, second = torch.rand(2, 8, 1, 8, 8)
    _, loss = method(torch.cat([first, second]))
    with torch.no_grad():
        guess, target = (
            [part(views) for views in (first, second)]
            for part in (lambda v: method.predict(method.student()(v)), method.teacher)
        )
    expected = -torch.cat(
        [cosine_similarity(guess[0], target[1]), cosine_similarity(guess[1], target[0])]
    )
    torch.testing.assert_close(loss, expected.mean())


@pytest.mark.parametrize("name", METHODS)
def test_the_settings_of_a_method_are_those_of_its_heads(name):
    method, settings = make(name), METHODS[name].settings(SMALL["embedding_size"])
    assert json.loads(json.dumps(settings)).keys() == settings.keys()
    for head in {"project", "predict"} & settings.keys():
        layers = [m for m in getattr(method, head).modules() if isinstance(m, torch.nn.Linear)]
        first, hidden, last = settings[head]
        assert (layers[0].in_features, layers[-1].out_features) == (first, last)
        assert all(layer.out_features == hidden for layer in layers[:-1])


def test_nnclr_remembers_at_most_half_of_the_images():
    assert make("NNCLR", 300).nearest.bank.shape == (150, 128)
    assert make("NNCLR", 60_000).nearest.bank.shape == (4096, 128)


# --- the table -----------------------------------------------------------------------------------


def test_rows_share_what_the_table_says():
    ours = recipes.ROWS["nearfar"](7)
    for name in ("autoencoder", *METHODS):
        config = recipes.ROWS[name](7)
        assert config.pretrain_epochs + config.epochs == 7
        for choice in ("network", "embedding_size", "batch_size", "weight_decay", "lr_schedule"):
            assert getattr(config, choice) == getattr(ours, choice)
        assert (config.lr if config.epochs else config.pretrain_lr) == ours.lr
    for name in METHODS:
        config = recipes.ROWS[name](7)
        assert (config.views, config.temperature) == (ours.views, ours.temperature)
    assert recipes.ROWS["nearfar"](60) == recipes.TrainConfig(**recipes.OURS)


def test_the_best_of_a_column_is_bold():
    means = {"a": [0.9, 0.92], "b": [0.91001], "c": [0.5]}
    assert recipes._shown(recipes.COLUMNS["knn"], means) == {
        "a": "**91.00 ± 1.41**",
        "b": "**91.00**",
        "c": "50.00",
    }
    assert recipes._shown(recipes.COLUMNS["pixel_error"], {"a": [0.1], "b": [0.02]}) == {
        "a": "0.1000",
        "b": "**0.0200**",
    }
    assert recipes._shown(recipes.COLUMNS["knn"], {}) == {}


def test_what_is_within_the_spread_of_the_best_is_bold_too():
    values = {"a": [0.99, 0.991], "b": [0.9901, 0.9903], "c": [0.9890, 0.9891], "d": [0.97, 1.0]}
    shown = recipes._shown(recipes.COLUMNS["knn"], values)
    assert [row for row, text in shown.items() if text.startswith("**")] == ["a", "b", "d"]


@pytest.mark.parametrize(
    ("choices", "culprit"),
    [
        ({"rows": ["nearfar", "MoCo"]}, "'MoCo' is unknown"),
        ({"data": "cifar"}, "'cifar' are unknown: expected mnist or caltech"),
        ({"seeds": 0}, "seeds=0"),
        ({"epochs": 0}, "nothing to train"),
        ({"epochs": -1}, "epochs=-1"),
        ({"data": "caltech", "data_root": Path("nowhere")}, "nowhere"),
    ],
)
def test_a_mistake_is_told_before_anything_is_written(choices, culprit, tmp_path):
    with pytest.raises(NearfarError, match=culprit) as refused:
        recipes.recipes(tmp_path / "out", **{"quick": True, "rows": ["nearfar"], **choices})
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_without_lightly_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lightly", None)
    message = r"^lightly is not installed: run pip install 'nearfar\[baselines\]'$"
    with pytest.raises(MissingExtraError, match=message):
        recipes.recipes(tmp_path / "out", quick=True)
    assert not (tmp_path / "out").exists()
    with pytest.raises(NearfarError, match="nothing"):
        recipes.recipes(tmp_path / "out", data="nothing", rows=["paper", "nearfar"], quick=True)


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def untrained(learned: Any, tested: Any, row: str) -> float:
    """Accuracy of a linear SVM on embeddings of the encoder that a row begins with, by seed 0."""
    config = recipes.ROWS[row](2)
    torch.manual_seed(0)
    choices = {"normalized": True, "hidden": HIDDEN} if config.network == "deep" else {}
    network = Architecture(learned.shape, config.embedding_size, **choices).build().eval()
    return scores.linear_svm(task_on(network.encoder, learned, tested, 0)).mean


@pytest.mark.slow
def test_the_table_of_digits(tmp_path):
    text = recipes.recipes(tmp_path, quick=True, seeds=1)
    written = read(tmp_path / "recipes.json")
    assert list(written["summary"]) == ["pixels", *recipes.ROWS]
    assert {"linear_svm", "rbf_svm", "knn"} <= written["settings"].keys()
    digits = recipes._open("mnist", None, True, silent).split(0)
    for row in ("autoencoder", "paper", "nearfar"):  # others need more epochs: see above
        assert written["summary"][row]["linear_svm"]["mean"] > untrained(*digits, row)
    for row, found in written["summary"].items():
        assert ("pixel_error" in found) == (row in ("autoencoder", "paper", "nearfar"))
    assert "BYOL" in text
    ours = read(tmp_path / "cells" / "nearfar-seed-0.json")["settings"]["config"]
    assert ours["refresh"] < ours["epochs"], "neighbors are searched for"
    assert (tmp_path / "recipes.md").read_text() == text
    assert (tmp_path / "recipes.png").stat().st_size > 1000
    begun = {path: path.stat().st_mtime_ns for path in (tmp_path / "cells").iterdir()}
    recipes.recipes(tmp_path, quick=True, seeds=1, rows=["SimCLR"])
    assert {path: path.stat().st_mtime_ns for path in begun} == begun, "nothing measured again"
    with pytest.raises(NearfarError, match="epochs=2, not 3"):
        recipes.recipes(tmp_path, quick=True, seeds=1, epochs=3)


def test_each_seed_holds_out_other_photographs(data_root):
    opened = recipes._open("caltech", data_root, True, silent)
    (train, test), (_, other) = (opened.split(seed) for seed in range(2))
    assert not opened.fixed
    assert len(set(train.labels)) == len(set(test.labels)) == 9
    assert set(train.rows.tolist()).isdisjoint(test.rows.tolist())
    assert set(test.rows.tolist()) != set(other.rows.tolist())


@pytest.mark.slow
def test_the_table_of_photographs(data_root, tmp_path):
    choices = {"data": "caltech", "data_root": data_root, "quick": True, "rows": ["nearfar"]}
    recipes.recipes(tmp_path, **choices, seeds=1, epochs=20)
    written = read(tmp_path / "recipes.json")
    assert len(written["settings"]["classes"]) == 9
    photographs = recipes._open("caltech", data_root, True, silent).split(0)
    reached = written["summary"]["nearfar"]["linear_svm"]["mean"]
    assert reached > untrained(*photographs, "nearfar") + 0.01
