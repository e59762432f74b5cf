"""Networks of `ConvNet` fit images of any size."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nearfar.config import ConvNet
from nearfar.data import ArrayImages
from nearfar.errors import NearfarError
from nearfar.models import apply_to_all, build_network, is_convolutional, resolve_network


@settings(max_examples=25, deadline=None)
@given(
    channels=st.sampled_from([1, 3]),
    height=st.integers(8, 70),
    width=st.integers(8, 70),
    embedding_size=st.integers(1, 40),
)
def test_network_reconstructs_images_at_their_size(channels, height, width, embedding_size):
    shape = (channels, height, width)
    images = torch.rand(2, *shape)
    network = build_network(ConvNet(embedding_size=embedding_size), shape)
    embeddings, reconstruction = network(images)
    assert embeddings.shape == (2, embedding_size)
    assert reconstruction.shape == images.shape
    assert (embeddings >= 0).all(), "embeddings pass a ReLU, as §3.1 says"
    assert ((reconstruction >= 0) & (reconstruction <= 1)).all()


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 9, 17)])
def test_batch_norm_network_has_a_hidden_layer(shape):
    network = ConvNet(embedding_size=6, batch_norm=True, hidden=20)
    encoder = build_network(network, shape).encoder
    kinds = [type(layer) for layer in encoder[-4:]]
    assert kinds == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]
    assert encoder[-1].in_features == 20
    embeddings = encoder(torch.rand(64, *shape))
    assert embeddings.shape == (64, 6)
    assert (embeddings < 0).any()


def test_features_get_a_dense_network():
    images = torch.rand(2, 1, 1, 10)
    assert not is_convolutional((1, 1, 10))
    network = build_network(ConvNet(embedding_size=4), (1, 1, 10))
    assert not any(isinstance(layer, nn.Conv2d) for layer in network.modules())
    assert network(images).reconstruction.shape == images.shape


def test_widths_are_the_channels_of_the_encoder():
    network = build_network(ConvNet(embedding_size=16, widths=(5, 7)), (1, 28, 28))
    convolutions = [m for m in network.encoder if isinstance(m, nn.Conv2d)]
    assert [c.out_channels for c in convolutions] == [5, 7]


@pytest.mark.parametrize(
    ("shape", "widths"),
    [((1, 28, 28), (16, 32, 64)), ((3, 64, 64), (16, 32, 64, 128)), ((3, 8, 8), (16, 32))],
)
def test_default_widths_leave_about_four_pixels(shape, widths):
    assert resolve_network(ConvNet(), shape).widths == widths


@pytest.mark.parametrize("options", [{}, {"batch_norm": True, "hidden": 5}], ids=str)
def test_resolved_configuration_builds_the_same_network(options):
    network = ConvNet(embedding_size=6, **options)
    resolved = resolve_network(network, (3, 9, 12))
    assert resolve_network(resolved, (3, 9, 12)) == resolved
    first, second = (build_network(each, (3, 9, 12)) for each in (network, resolved))
    second.load_state_dict(first.state_dict())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"hidden": -1, "batch_norm": True}, "hidden=-1: expected at least 0"),
        ({"hidden": 9}, "hidden=9 without batch_norm"),
        ({"embedding_size": 0}, "embedding_size=0: expected at least 1"),
        ({"widths": (16, 0)}, r"widths=\(16, 0\): expected at least 1"),
    ],
)
def test_convnet_rejects_impossible_sizes(wrong, message):
    with pytest.raises(NearfarError, match=message):
        ConvNet(**wrong)


def test_network_beyond_memory_is_one_error():
    with pytest.raises(NearfarError, match="no memory for a network with embedding_size=10000000"):
        build_network(ConvNet(embedding_size=10**17), (1, 28, 28))


def test_embeddings_beyond_memory_are_one_error():
    images = ArrayImages(torch.zeros(3, 1, 8, 8))
    with pytest.raises(NearfarError, match="no memory for the results of 3 images: 5587935.4 GiB"):
        apply_to_all(
            lambda batch: torch.zeros(1).expand(len(batch), 5 * 10**14),
            images,
            device=torch.device("cpu"),
        )
