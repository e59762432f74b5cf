"""Defaults that follow from the images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from nearfar.config import DEFAULT_ENCODER, PHOTOGRAPH_OPTIONS, recipe
from nearfar.data import ArrayImages, images_from_array
from nearfar.training import choose_defaults, open_with_defaults


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
    assert chosen.config.network.name == DEFAULT_ENCODER
    assert chosen.config.network.weights == "pretrained"
    assert chosen.size == 128
    assert not chosen.warning


@pytest.mark.parametrize(
    ("images", "options"),
    [
        (shapes(200), {}),
        (photographs(200, side=16), {}),
        (photographs(200), {"batch_norm": True}),
        (photographs(200), {"backbone": "alexnet"}),
        (photographs(200), {"objective": "contrastive"}),
    ],
)
def test_others_start_from_scratch(images, options):
    assert choose_defaults(images, options).recipe == "nearfar"


def test_photographs_from_scratch_have_their_own_options():
    """On 1,500 photographs, neighbors as positives once cost 6 points, and a hidden layer 5."""
    chosen = choose_defaults(photographs(200), {"neighbors": 3, "pixel_weight": 1.0}, "nearfar")
    network, objective = chosen.config.network, chosen.config.objective
    assert (network.hidden, objective.neighbor_prob) == (0, PHOTOGRAPH_OPTIONS["neighbor_prob"])
    assert objective.pixel_weight == 1.0, "options of the user take precedence"
    drawn = choose_defaults(shapes(200), {}, "nearfar").config
    assert (drawn.network.hidden, drawn.objective.neighbor_prob) == (512, 0.5)
    backbone = choose_defaults(photographs(200), {"backbone": "alexnet"}).config
    assert backbone.objective.neighbor_prob == PHOTOGRAPH_OPTIONS["neighbor_prob"]


@pytest.mark.parametrize(
    "options",
    [
        {"loss_weights": (0.6, 0.4, 0.0)},
        {"pretrain_epochs": 3},
        {"pretext": "denoising"},
        {"search": {"finder": "exact"}},
        {"objective": {"kind": "relational"}},
    ],
)
def test_options_of_the_paper_choose_its_recipe(options):
    chosen = choose_defaults(photographs(200), options)
    assert (chosen.recipe, chosen.size) == ("paper", None)
    assert chosen.config == recipe("paper", **options)


def test_features_have_the_training_of_the_paper():
    assert choose_defaults(ArrayImages(torch.rand(50, 1, 1, 30)), {}).recipe == "paper"


@pytest.mark.parametrize("count", [7, 20, 100, 600, 3_000, 10_000])
@pytest.mark.parametrize("name", ["nearfar", "continue"])
def test_every_number_of_images_has_steps_and_clusters(count, name):
    """600 images once had one step per epoch, and 120 were refused for 64 clusters."""
    chosen = choose_defaults(photographs(count), {}, name)
    objective, optim = chosen.config.objective, chosen.config.optim
    assert count / optim.batch_size >= 16 or optim.batch_size == 32
    assert objective.clusters is None or count / objective.clusters >= 6 or count < 12
    assert optim.epochs >= 3
    assert bool(chosen.warning) == (count < 100)


@pytest.mark.parametrize(
    ("options", "size", "side", "needed"),
    [
        ({}, None, 128, 128),
        ({}, 48, 48, 128),
        ({"backbone": DEFAULT_ENCODER, "weights": "pretrained"}, None, 224, 224),
        ({"backbone": DEFAULT_ENCODER}, None, 64, None),
        ({"pretrain_epochs": 1}, None, 64, None),
    ],
)
def test_images_are_opened_at_the_size_of_the_encoder(tmp_path, options, size, side, needed):
    """From scratch, images have the size that `open_images` chooses."""
    generator = np.random.default_rng(0)
    for number in range(3):
        pixels = generator.integers(0, 256, (150, 200 + number, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    images, chosen = open_with_defaults(str(tmp_path), options, size=size)
    assert images.shape == (3, side, side)
    assert chosen.size == needed


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
    assert "nearfar[photos]" in chosen.warning
