"""Defaults that follow from the images."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nearfar.config import configure
from nearfar.data import ArrayImages, images_from_array
from nearfar.training import ENCODER, choose_defaults


def photographs(count: int, side: int = 32):
    return images_from_array(np.random.default_rng(0).integers(0, 256, (count, side, side, 3)))


def shapes(count: int):
    drawn = np.zeros((count, 28, 28), np.uint8)
    drawn[:, 8:20, 12:16] = 255
    return images_from_array(drawn)


def test_photographs_continue_a_published_encoder():
    chosen = choose_defaults(photographs(621), {})
    assert chosen.description == (
        "photographs; 621 images: from a pretrained EfficientNet-lite0, batch 32, "
        "20 steps per epoch, 32 epochs"
    )
    config = configure({}, chosen.options, recipe=chosen.recipe)
    assert config.network.name == ENCODER
    assert config.network.weights == "pretrained"
    assert not chosen.caution


@pytest.mark.parametrize(
    ("images", "given"),
    [
        (shapes(200), {}),
        (photographs(200, side=16), {}),
        (photographs(200), {"batch_norm": True}),
        (photographs(200), {"backbone": "alexnet"}),
        (photographs(200), {"objective": "contrastive"}),
    ],
)
def test_others_start_from_scratch(images, given):
    assert choose_defaults(images, given).recipe == "nearfar"


@pytest.mark.parametrize(
    "given",
    [
        {"loss_weights": (0.6, 0.4, 0.0)},
        {"pretrain_epochs": 3},
        {"pretext": "denoising"},
        {"search": {"finder": "exact"}},
        {"objective": {"kind": "relational"}},
    ],
)
def test_options_of_the_paper_choose_its_recipe(given):
    chosen = choose_defaults(photographs(200), given)
    assert (chosen.recipe, chosen.options) == ("paper", {})


def test_features_have_the_training_of_the_paper():
    assert choose_defaults(ArrayImages(torch.rand(50, 1, 1, 30)), {}).recipe == "paper"


@pytest.mark.parametrize("count", [7, 20, 100, 600, 3_000, 10_000])
@pytest.mark.parametrize("recipe", ["nearfar", "continue"])
def test_every_number_of_images_has_steps_and_clusters(count, recipe):
    """600 images once had one step per epoch, and 120 were refused for 64 clusters."""
    chosen = choose_defaults(photographs(count), {}, recipe)
    options = chosen.options
    steps = count / options["batch_size"]
    assert steps >= 16 or options["batch_size"] == 32
    assert count / options["clusters"] >= 6 or count < 12
    assert options["epochs"] >= 3
    assert bool(chosen.caution) == (count < 100)


def test_description_has_the_options_of_the_user():
    chosen = choose_defaults(photographs(640), {"batch_size": 64, "epochs": 2})
    assert chosen.description.endswith("batch 64, 10 steps per epoch, 2 epochs")


def test_options_in_sections_count_like_flat_ones():
    chosen = choose_defaults(photographs(640), {"optim": {"batch_size": 64, "epochs": 2}})
    assert chosen.description.endswith("batch 64, 10 steps per epoch, 2 epochs")


def test_photographs_from_scratch_are_warned_of(monkeypatch):
    """Without the extra; find_spec is what the check asks."""
    monkeypatch.setattr("nearfar.models.pretrained.find_spec", lambda name: None)
    chosen = choose_defaults(photographs(200), {})
    assert chosen.recipe == "nearfar"
    assert "nearfar[photos]" in chosen.caution
