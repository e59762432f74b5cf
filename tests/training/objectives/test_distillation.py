"""Distillation: the teacher is the encoder that training starts from, on enlarged whole images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from sklearn.datasets import load_sample_image

from nearfar.config import ConvNet, TrainConfig, recipe
from nearfar.data import ArrayImages
from nearfar.errors import NearfarError
from nearfar.models import pretrained_encoder
from nearfar.training import Context, train
from nearfar.training.objectives.distillation import Distillation

LITE0 = "timm:tf_efficientnet_lite0"
SHORT = {"epochs": 10, "lr": 1e-3, "batch_size": 8, "clusters": 2, "device": "cpu"}


@pytest.fixture(scope="module")
def photos() -> ArrayImages:
    china = load_sample_image("china.jpg")
    parts = [china[y : y + 96, x : x + 64] for y in range(0, 384, 96) for x in range(0, 256, 64)]
    return ArrayImages(np.stack(parts)[:, ::2, ::2].transpose(0, 3, 1, 2).copy())


def context(images: ArrayImages, config: TrainConfig) -> Context:
    return Context(images, config, Fabric(accelerator="cpu", devices=1))


@pytest.fixture(scope="module")
def teacher(photos: ArrayImages) -> Distillation:
    made = Distillation(context(photos, recipe("continue", backbone=LITE0)))
    made.setup()
    return made


def test_teacher_sees_images_at_the_size_of_its_weights(
    photos: ArrayImages, teacher: Distillation
) -> None:
    images = photos.batch(range(16)).float() / 255
    large = torch.nn.functional.interpolate(
        images, (336, 224), mode="bicubic", antialias=True
    ).clamp(0, 1)
    with torch.no_grad():
        expected = pretrained_encoder(LITE0)(large)
    torch.testing.assert_close(teacher.bank, expected, rtol=1e-3, atol=1e-3)


def test_loss_is_the_distance_to_the_embeddings_of_the_same_image(teacher: Distillation) -> None:
    rows = torch.arange(16)
    assert float(teacher(teacher.bank, rows)) == pytest.approx(0, abs=1e-5)
    assert float(teacher(2 * teacher.center - teacher.bank, rows)) == pytest.approx(2, abs=1e-4)
    assert float(teacher(teacher.bank, rows.roll(1))) > 0.3


def test_training_brings_embeddings_closer_to_the_teacher(photos: ArrayImages) -> None:
    log = train(photos, recipe("continue", backbone=LITE0, distill_weight=20.0, **SHORT)).log
    assert log[-1]["distillation"] < 0.9 * log[0]["distillation"]
    assert (
        "distillation"
        not in train(
            photos,
            recipe("continue", backbone=LITE0, **SHORT | {"distill_weight": 0.0, "epochs": 1}),
        ).log[0]
    )


def test_an_encoder_of_random_weights_is_no_teacher(photos: ArrayImages) -> None:
    config = recipe("nearfar", distill_weight=1.0, clusters=2)
    assert isinstance(config.network, ConvNet)
    with pytest.raises(NearfarError, match="distill_weight"):
        train(photos, config)


def test_footprint_counts_the_embeddings_of_the_teacher(
    photos: ArrayImages, teacher: Distillation
) -> None:
    assert teacher.footprint(pretrained_encoder(LITE0)).memory == 4 * 16 * 1280
