"""`Relational`: weights, pixel errors and external references."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from interruption import StopAt
from nearfar import runs
from nearfar.config import RelationalObjective, WeightSchedule, recipe
from nearfar.data import ArrayImages
from nearfar.errors import NearfarError
from nearfar.models import pretrained_encoder
from nearfar.training import Interrupted, train
from nearfar.training.objectives.reference_bank import ReferenceBank
from trainings import assert_same_weights, changed, quick, weights

# --- weights -------------------------------------------------------------------------------------


def test_weights_1_0_0_do_not_search(images, monkeypatch):
    def no_search(*arguments, **options):
        raise AssertionError("searched")

    monkeypatch.setattr("nearfar.neighbors.ClusteredFinder.search", no_search)
    line = train(images, quick(loss_weights=(1, 0, 0))).log[-1]
    assert "near" not in line
    assert line["loss"] == pytest.approx(line["own"])


def test_pixel_weight_holds_the_reconstruction(images):
    config = quick(pretrain_epochs=8, epochs=8, lr=3e-3)
    without = train(images, config).log[-1]["pixel"]
    held = train(images, changed(config, pixel_weight=10)).log[-1]["pixel"]
    assert held < without


def test_scheduled_weights_move_evenly_from_start_to_end(images, monkeypatch):
    progress = []
    at = WeightSchedule.at
    monkeypatch.setattr(WeightSchedule, "at", lambda s, p: progress.append(p) or at(s, p))
    moving = {"loss_weights": (1, 0, 0), "end_weights": (0, 1, 0), "weight_schedule": "linear"}
    log = train(images, quick(**moving)).log
    assert progress == pytest.approx(np.arange(15) / 15)
    first, last = log[2], log[-1]
    assert abs(first["loss"] - first["own"]) < abs(first["loss"] - first["near"])
    assert abs(last["loss"] - last["near"]) < abs(last["loss"] - last["own"])


# --- external references -------------------------------------------------------------------------


@pytest.fixture
def photos():
    return ArrayImages(np.random.default_rng(0).integers(0, 256, (24, 3, 32, 32), np.uint8))


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    from torchvision.models import resnet18

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    save_file(resnet18().state_dict(), path)
    return path


SMALL = recipe(
    "paper",
    pretrain_epochs=1,
    epochs=2,
    batch_size=8,
    embedding_size=12,
    clusters=2,
    device="cpu",
    lr=1e-3,
)


def test_bank_holds_the_embeddings_of_the_reference(photos, resnet, monkeypatch, tmp_path):
    banks = []
    make_bank = ReferenceBank._make_bank
    monkeypatch.setattr(
        ReferenceBank, "_make_bank", lambda self: banks.append(make_bank(self)) or banks[-1]
    )
    config = changed(SMALL, reference="timm:resnet18", reference_weights=str(resnet))
    run = train(photos, config, folder=tmp_path / "run")
    with torch.no_grad():
        pixels = photos.batch(range(24)).float() / 255
        right = pretrained_encoder("timm:resnet18", str(resnet))(pixels)
    torch.testing.assert_close(banks[0], right)
    assert run.embeddings.shape == (24, 12)
    read = runs.read_run(tmp_path / "run")
    assert read.embeddings.shape == (24, 12)
    assert read.config.train.objective.reference == "timm:resnet18"


def test_own_reference_stays_frozen_and_is_resumed(photos, tmp_path):
    torch.manual_seed(1)
    reference = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 7))
    before = {k: v.clone() for k, v in reference.state_dict().items()}
    config = changed(SMALL, reference=reference)
    train(photos, config, folder=tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(photos, config, folder=tmp_path / "parts", track=StopAt(5, phases=("train",)))
    train(photos, config, folder=tmp_path / "parts", resume=True)
    assert_same_weights(before, reference.state_dict())
    assert_same_weights(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    own, other = train(photos, SMALL).embeddings, train(photos, config).embeddings
    assert not np.array_equal(own, other)


def test_own_reference_must_be_passed_again(photos, tmp_path):
    reference = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 7))
    with pytest.raises(Interrupted):
        config = changed(SMALL, reference=reference)
        train(photos, config, folder=tmp_path / "run", track=StopAt(5))
    recorded = runs.read_config(tmp_path / "run").train
    with pytest.raises(NearfarError, match=r"your own torch\.nn\.modules\.container\.Sequential"):
        train(photos, recorded, folder=tmp_path / "run", resume=True)


def test_references_that_do_not_fit_are_refused(photos):
    def train_on(reference):
        train(photos, changed(SMALL, reference=reference))

    with pytest.raises(NearfarError, match="the reference does not take images"):
        train_on(nn.Conv2d(1, 2, 3))
    with pytest.raises(NearfarError, match="the reference does not take images"):
        train_on(nn.GRU(32, 5))
    with pytest.raises(NearfarError, match=r"embeddings \(1, 2, 30, 30\) of an image"):
        train_on(nn.Conv2d(3, 2, 3))
    with pytest.raises(NearfarError, match="too small for backbone='alexnet'"):
        train_on("alexnet")
    with pytest.raises(NearfarError, match=r"expected a name or an nn\.Module"):
        train_on(lambda images: images.flatten(1))
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 4))
    with pytest.raises(NearfarError, match="expected 0"):
        RelationalObjective(reference=encoder, refresh_reference_every=1)
