"""Training that starts from pretrained weights."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch

from interruption import StopAt
from nearfar.config import Backbone, ContrastiveObjective, configure, recipe
from nearfar.data import ArrayImages
from nearfar.errors import NearfarError
from nearfar.models import pretrained_encoder, timm_state_dict
from nearfar.runs import read_run
from nearfar.training import Interrupted, train
from trainings import assert_same_weights, weights

LITE0 = "timm:tf_efficientnet_lite0"
SHORT = {"epochs": 2, "batch_size": 8, "clusters": 2, "device": "cpu"}


@pytest.fixture
def photos() -> ArrayImages:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 3, 32, 32), np.uint8)
    return ArrayImages(pixels)


def test_published_weights_are_continued_by_their_own_recipe():
    given = {"backbone": LITE0, "weights": "pretrained"}
    config = configure(given)
    assert config == recipe("continue", backbone=LITE0)
    assert config.network == Backbone(name=LITE0, weights="pretrained", freeze_batch_norm=True)
    assert isinstance(config.objective, ContrastiveObjective)
    assert config.optim.pretrain_epochs == 0
    assert configure(given, recipe="paper").optim == recipe("paper").optim
    assert configure({"backbone": LITE0}) == recipe("paper", backbone=LITE0)


def test_training_starts_from_published_weights_and_keeps_their_statistics(photos, tmp_path):
    run = train(photos, recipe("continue", backbone=LITE0, **SHORT), folder=tmp_path / "run")
    published = pretrained_encoder(LITE0)
    assert_same_weights(run.initial.encoder.state_dict(), published.state_dict())
    for name, value in published.named_buffers():
        assert torch.equal(run.network.encoder.get_buffer(name), value), name
    changes = [
        (name, float((run.network.encoder.get_parameter(name) - value).abs().max()))
        for name, value in published.named_parameters()
    ]
    assert [name for name, change in changes if not 0 < change < 0.01] == []
    assert run.embeddings.shape == (24, 1280)
    assert run.initial_method == "pretrained"
    assert "pixel" not in run.log[-1]


def test_continued_encoder_loads_into_plain_timm(photos, tmp_path):
    train(photos, recipe("continue", backbone=LITE0, **SHORT), folder=tmp_path / "run")
    run = read_run(tmp_path / "run")
    model = timm.create_model("tf_efficientnet_lite0", num_classes=0)
    model.load_state_dict(timm_state_dict(run.network.encoder), strict=True)
    with torch.no_grad():
        embeddings = model.eval()(2 * photos.batch(range(24)).float() / 255 - 1)
    np.testing.assert_allclose(embeddings, run.embeddings, rtol=1e-3, atol=1e-3)


def test_continued_training_resumes_bit_for_bit(photos, tmp_path):
    config = recipe("continue", backbone=LITE0, **SHORT)
    train(photos, config, folder=tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(photos, config, folder=tmp_path / "parts", track=StopAt(5))
    train(photos, config, folder=tmp_path / "parts", resume=True)
    assert_same_weights(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


def test_missing_weights_are_an_error_before_anything_is_written(photos, tmp_path):
    config = recipe("continue", backbone="timm:resnet18", weights="nowhere.pth", **SHORT)
    with pytest.raises(NearfarError, match="nowhere.pth"):
        train(photos, config, folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()
