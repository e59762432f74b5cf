"""The table of recipes, and the methods of lightly in it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cosine_similarity

from interruption import StopAt
from nearfar.config import ConvNet, TrainConfig, recipe
from nearfar.data import ArrayImages, open_images
from nearfar.errors import MissingExtraError, NearfarError
from nearfar.evaluation import scores
from nearfar.experiments import recipes, run
from nearfar.experiments.baselines import METHODS, MOMENTUM
from nearfar.experiments.metrics import task_on
from nearfar.experiments.rows import train_for
from nearfar.experiments.runner import Runner
from nearfar.models import build_network
from nearfar.runs import Run
from nearfar.training import Interrupted, train
from trainings import assert_same_weights

SMALL = {"batch_size": 64, "embedding_size": 12, "device": "cpu"}


@pytest.fixture
def images(digits):
    return ArrayImages(digits[:300, None])


def config_of(row: str, epochs: int, **options: Any) -> TrainConfig:
    return train_for(recipes.ROWS[row].config, epochs, **options)


def learn(method: str, images: Any, **options: Any) -> Run:
    return train(images, config_of(method, 3, **SMALL), **options)  # five steps per epoch


# --- the methods ---------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_resumed_baseline_is_bit_for_bit_the_same(method, images, tmp_path):
    whole = learn(method, images, folder=tmp_path / "whole")
    with pytest.raises(Interrupted):
        learn(method, images, folder=tmp_path / "parts", track=StopAt(7))
    resumed = learn(method, images, folder=tmp_path / "parts", resume=True)
    weights = whole.network.state_dict()
    assert_same_weights(resumed.network.state_dict(), weights)
    assert [line["loss"] for line in resumed.log] == [line["loss"] for line in whole.log]
    untrained = whole.initial.state_dict()
    assert not torch.equal(weights["encoder.0.weight"], untrained["encoder.0.weight"])
    assert torch.equal(weights["decoder.0.weight"], untrained["decoder.0.weight"])


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_baseline_lowers_its_loss_and_beats_an_untrained_encoder(method):
    learned, tested = (open_images(f"mnist5k:{part}") for part in ("train", "test"))
    # With the hidden layer, BYOL's teacher takes longer than two epochs to know anything.
    options = {"hidden": 0, "batch_size": 128, "embedding_size": 32, "device": "cpu"}
    trained = train(learned, config_of(method, 2, **options))
    assert trained.log[-1]["loss"] < trained.log[0]["loss"]
    after, before = (
        scores.linear_svm(task_on(network.eval().encoder, learned, tested, 0)).mean
        for network in (trained.network, trained.initial)
    )
    assert after > before


def make(method: str, images: int = 300) -> torch.nn.Module:
    torch.manual_seed(0)
    network = build_network(ConvNet(embedding_size=12, batch_norm=True), (1, 8, 8))
    return METHODS[method].heads(network.encoder, 12, images).train()


def test_teacher_follows_the_student_without_a_gradient(images):
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


def test_byol_predicts_the_teachers_projection_of_the_other_view():
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
def test_settings_are_those_of_the_heads(name):
    method, settings = make(name), METHODS[name].heads.settings(SMALL["embedding_size"])
    assert json.loads(json.dumps(settings)).keys() == settings.keys()
    for head in {"project", "predict"} & settings.keys():
        layers = [m for m in getattr(method, head).modules() if isinstance(m, torch.nn.Linear)]
        first, hidden, last = settings[head]
        assert (layers[0].in_features, layers[-1].out_features) == (first, last)
        assert all(layer.out_features == hidden for layer in layers[:-1])


def test_nnclr_bank_holds_at_most_half_of_the_images():
    assert make("NNCLR", 300).nearest.bank.shape == (150, 128)
    assert make("NNCLR", 60_000).nearest.bank.shape == (4096, 128)


# --- the table -----------------------------------------------------------------------------------


def test_rows_share_what_the_table_says():
    ours = config_of("nearfar", 7)
    for name in ("autoencoder", *METHODS):
        config = config_of(name, 7)
        assert config.optim.pretrain_epochs + config.optim.epochs == 7
        assert config.network == ours.network
        for option in ("batch_size", "weight_decay", "lr_schedule"):
            assert getattr(config.optim, option) == getattr(ours.optim, option)
        assert (
            config.optim.lr if config.optim.epochs else config.optim.pretrain_lr
        ) == ours.optim.lr
    for name in METHODS:
        assert config_of(name, 7).method == name
        settings = METHODS[name].heads.settings(256)
        assert settings.get("temperature", 0.2) == ours.objective.temperature == 0.2
    assert ours.objective.augmentation == "auto"
    assert config_of("nearfar", 60) == recipe("nearfar")


@pytest.mark.parametrize(
    ("choices", "culprit"),
    [
        ({"rows": ["nearfar", "MoCo"]}, "'MoCo' is unknown"),
        ({"seeds": 0}, "seeds=0"),
        ({"epochs": 0}, "nothing to train"),
        ({"epochs": -1}, "epochs=-1"),
        (
            {"table": recipes.PHOTOGRAPHS_COMPARISON["caltech"], "data_root": Path("nowhere")},
            "nowhere",
        ),
    ],
)
def test_recipes_report_mistakes_before_writing(choices, culprit, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(NearfarError, match=culprit) as refused:
        run(
            **{"table": recipes.RECIPE_COMPARISON, "quick": True, "rows": ["nearfar"], **choices},
            out=out,
        )
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_recipes_name_the_extra_of_lightly(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lightly", None)
    message = r"^lightly is not installed: run pip install 'nearfar\[baselines\]'$"
    with pytest.raises(MissingExtraError, match=message):
        run(recipes.RECIPE_COMPARISON, tmp_path / "out", quick=True)
    assert not (tmp_path / "out").exists()
    with pytest.raises(NearfarError, match="nowhere"):
        run(
            recipes.RECIPE_COMPARISON,
            tmp_path,
            rows=["paper", "nearfar"],
            data_root=Path("nowhere"),
        )


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def untrained(learned: Any, tested: Any, row: str) -> float:
    """Accuracy of a linear SVM on embeddings of the encoder that a row begins with, by seed 0."""
    torch.manual_seed(0)
    network = build_network(recipes.ROWS[row].config.network, learned.shape).eval()
    return scores.linear_svm(task_on(network.encoder, learned, tested, 0)).mean


@pytest.mark.slow
def test_recipes_of_digits(tmp_path):
    text = run(recipes.RECIPE_COMPARISON, tmp_path, quick=True, seeds=1)
    written = read(tmp_path / "recipes.json")
    assert list(written["summary"]) == [*recipes.ROWS]
    assert {"linear_svm", "rbf_svm", "knn"} <= written["settings"].keys()
    digits = recipes.RECIPE_COMPARISON.splits(Runner(tmp_path, "recipes", quick=True)).of(0)
    for row in ("autoencoder", "paper", "nearfar"):  # others need more epochs: see above
        assert written["summary"][row]["linear_svm"]["mean"] > untrained(*digits, row)
    for row, found in written["summary"].items():
        assert ("pixel_error" in found) == (row in ("autoencoder", "paper", "nearfar"))
    assert "BYOL" in text
    ours = read(tmp_path / "cells" / "nearfar-seed-0.json")["settings"]["config"]
    searched = ours["objective"]["refresh_neighbors_every"]
    assert searched < ours["optim"]["epochs"], "neighbors are searched for"
    assert (tmp_path / "recipes.md").read_text() == text
    assert (tmp_path / "recipes.png").stat().st_size > 1000
    begun = {path: path.stat().st_mtime_ns for path in (tmp_path / "cells").iterdir()}
    run(recipes.RECIPE_COMPARISON, tmp_path, quick=True, seeds=1, rows=["SimCLR"])
    assert {path: path.stat().st_mtime_ns for path in begun} == begun, "nothing measured again"
    with pytest.raises(NearfarError, match="epochs=2, not 3"):
        run(recipes.RECIPE_COMPARISON, tmp_path, quick=True, seeds=1, epochs=3)


def test_each_seed_holds_out_other_photographs(data_root):
    runner = Runner(Path("photographs"), "recipes", data_root=data_root, quick=True)
    opened = recipes.PHOTOGRAPHS_COMPARISON["caltech"].splits(runner)
    (train, test), (_, other) = (opened.of(seed) for seed in range(2))
    assert not opened.fixed
    assert len(set(train.labels)) == len(set(test.labels)) == 9
    assert set(train.rows.tolist()).isdisjoint(test.rows.tolist())
    assert set(test.rows.tolist()) != set(other.rows.tolist())


@pytest.mark.slow
def test_recipes_of_photographs(data_root, tmp_path):
    options = {"data_root": data_root, "quick": True, "rows": ["nearfar"], "seeds": 1, "epochs": 20}
    run(recipes.PHOTOGRAPHS_COMPARISON["caltech"], tmp_path, **options)
    written = read(tmp_path / "recipes.json")
    assert len(written["settings"]["classes"]) == 9
    runner = Runner(tmp_path, "recipes", data_root=data_root, quick=True)
    photographs = recipes.PHOTOGRAPHS_COMPARISON["caltech"].splits(runner).of(0)
    reached = written["summary"]["nearfar"]["linear_svm"]["mean"]
    assert reached > untrained(*photographs, "nearfar") + 0.01
