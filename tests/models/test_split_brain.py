"""Split-brain networks: each half of an image predicted from the other."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nearfar import NRE
from nearfar.data import ArrayImages
from nearfar.errors import NearfarError
from nearfar.models import Architecture, first_half, second_half
from nearfar.training.config import TrainConfig
from nearfar.training.train import train

QUICK = TrainConfig(
    pretrain_epochs=2, epochs=2, batch_size=64, embedding_size=13, clusters=4, device="cpu", lr=1e-3
)


@pytest.fixture
def images(digits):
    return ArrayImages(digits[:300, None])


@given(
    channels=st.sampled_from([1, 3]),
    height=st.integers(8, 40),
    width=st.integers(8, 40),
    embedding_size=st.integers(2, 20),
)
@settings(max_examples=25, deadline=None)
def test_each_half_is_predicted_from_the_other_alone(channels, height, width, embedding_size):
    torch.manual_seed(height)
    network = Architecture((channels, height, width), embedding_size, split_brain=True).build()
    image, other = torch.rand(2, 1, channels, height, width)
    mixed = first_half(image) + second_half(other)
    embeddings, reconstruction = network(image)
    assert embeddings.shape == (1, embedding_size)
    assert reconstruction.shape == image.shape
    from_mixed, from_other = network(mixed).reconstruction, network(other).reconstruction
    torch.testing.assert_close(second_half(from_mixed), second_half(reconstruction))
    torch.testing.assert_close(first_half(from_mixed), first_half(from_other))


@given(channels=st.sampled_from([1, 3]), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_the_pixel_error_is_the_sum_of_the_errors_of_both_halves(channels, seed):
    torch.manual_seed(seed)
    images, guess = torch.rand(2, 4, channels, 9, 10)
    torch.testing.assert_close(
        (guess - images).square().sum(),
        sum((half(guess) - half(images)).square().sum() for half in (first_half, second_half)),
    )
    torch.testing.assert_close(first_half(images) + second_half(images), images)


@pytest.mark.parametrize("choices", [{}, {"normalized": True, "hidden": 99}], ids=str)
def test_halves_are_half_as_wide_and_costs_do_not_grow(choices):
    architecture = Architecture((1, 28, 28), 128, **choices)
    whole, split = (replace(architecture, split_brain=s).build() for s in (False, True))
    sizes = [sum(p.numel() for p in network.parameters()) for network in (whole, split)]
    assert sizes[1] < sizes[0]


def test_architecture_without_split_brain_is_read():
    architecture = Architecture((1, 9, 9), 6, split_brain=True)
    saved = json.loads(json.dumps(asdict(architecture)))
    assert Architecture(**saved) == architecture
    del saved["split_brain"]
    assert not Architecture(**saved).split_brain


def test_split_brain_refuses_other_networks(images):
    with pytest.raises(NearfarError, match="embedding_size=1: expected at least 2"):
        train(images, replace(QUICK, pretext="split-brain", embedding_size=1))
    network = {"encoder": torch.nn.Flatten(), "decoder": torch.nn.Unflatten(1, (1, 8, 8))}
    with pytest.raises(NearfarError, match="split-brain"):
        train(images, replace(QUICK, pretext="split-brain"), **network)


def test_plain_features_can_be_split_too():
    features = np.random.default_rng(0).random((60, 11)).astype(np.float32)
    embeddings = (
        NRE(pretext="split-brain", pretrain_epochs=1, epochs=1, clusters=2).fit(features).codes_
    )
    assert embeddings.shape == (60, 128)
