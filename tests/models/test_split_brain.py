"""Split-brain networks: each half of an image predicted from the other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nearfar import NRE
from nearfar.config import ConvNet, recipe
from nearfar.data import ArrayImages
from nearfar.errors import NearfarError
from nearfar.models import Autoencoder, build_network, first_half, second_half
from nearfar.training import train

QUICK = {"pretrain_epochs": 2, "epochs": 2, "batch_size": 64, "clusters": 4, "device": "cpu"}


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
def test_split_network_predicts_each_half_from_the_other_alone(
    channels, height, width, embedding_size
):
    torch.manual_seed(height)
    shape = (channels, height, width)
    network = build_network(ConvNet(embedding_size=embedding_size), shape, split_brain=True)
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
def test_pixel_error_is_the_sum_of_the_errors_of_both_halves(channels, seed):
    torch.manual_seed(seed)
    images, guess = torch.rand(2, 4, channels, 9, 10)
    torch.testing.assert_close(
        (guess - images).square().sum(),
        sum((half(guess) - half(images)).square().sum() for half in (first_half, second_half)),
    )
    torch.testing.assert_close(first_half(images) + second_half(images), images)


@pytest.mark.parametrize("options", [{}, {"batch_norm": True, "hidden": 99}], ids=str)
def test_split_network_is_no_larger_than_the_whole(options):
    network = ConvNet(**options)
    whole, split = (build_network(network, (1, 28, 28), split_brain=s) for s in (False, True))
    sizes = [sum(p.numel() for p in network.parameters()) for network in (whole, split)]
    assert sizes[1] < sizes[0]


def test_split_brain_rejects_what_cannot_be_split(images):
    with pytest.raises(NearfarError, match="embedding_size=1: expected at least 2"):
        train(images, recipe("paper", **QUICK, pretext="split-brain", embedding_size=1))
    network = Autoencoder(torch.nn.Flatten(), torch.nn.Unflatten(1, (1, 8, 8)))
    for other in ({"network": network}, {"backbone": "timm:resnet18"}):
        with pytest.raises(NearfarError, match="split-brain"):
            recipe("paper", **QUICK, pretext="split-brain", **other)


def test_features_can_be_split():
    features = np.random.default_rng(0).random((60, 11)).astype(np.float32)
    config = recipe("paper", pretext="split-brain", pretrain_epochs=1, epochs=1, clusters=2)
    assert NRE(config=config).fit(features).embeddings_.shape == (60, 128)
