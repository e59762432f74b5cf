"""Networks fit any image, and come back from their description."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nearfar.data import ArrayImages
from nearfar.errors import NearfarError
from nearfar.models import Architecture, apply_to_all


@settings(max_examples=25, deadline=None)
@given(
    channels=st.sampled_from([1, 3]),
    height=st.integers(8, 70),
    width=st.integers(8, 70),
    embedding_size=st.integers(1, 40),
)
def test_any_size_is_reconstructed_at_its_size(channels, height, width, embedding_size):
    shape = (channels, height, width)
    images = torch.rand(2, *shape)
    embeddings, reconstruction = Architecture(shape, embedding_size).build()(images)
    assert embeddings.shape == (2, embedding_size)
    assert reconstruction.shape == images.shape
    assert (embeddings >= 0).all(), "embeddings pass a ReLU, as §3.1 says"
    assert ((reconstruction >= 0) & (reconstruction <= 1)).all()


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 9, 17)])
def test_a_normalized_encoder_may_have_a_hidden_layer(shape):
    encoder = Architecture(shape, 6, normalized=True, hidden=20).build().encoder
    kinds = [type(layer) for layer in encoder[-4:]]
    assert kinds == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]
    assert encoder[-1].in_features == 20
    embeddings = encoder(torch.rand(64, *shape))
    assert embeddings.shape == (64, 6)
    assert (embeddings < 0).any()


def test_small_or_flat_inputs_get_a_dense_network():
    images = torch.rand(2, 1, 1, 10)
    architecture = Architecture((1, 1, 10), 4)
    assert not architecture.convolutional
    assert architecture.build()(images).reconstruction.shape == images.shape


def test_widths_are_the_channels_of_the_encoder():
    network = Architecture((1, 28, 28), 16, (5, 7)).build()
    convolutions = [m for m in network.encoder if isinstance(m, torch.nn.Conv2d)]
    assert [c.out_channels for c in convolutions] == [5, 7]


def test_default_widths_leave_about_four_pixels():
    assert Architecture((1, 28, 28)).widths == (16, 32, 64)
    assert Architecture((3, 64, 64)).widths == (16, 32, 64, 128)
    assert Architecture((3, 8, 8)).widths == (16, 32)


@pytest.mark.parametrize("choices", [{}, {"normalized": True, "hidden": 5}], ids=str)
def test_a_description_builds_the_same_network_again(choices):
    architecture = Architecture((3, 9, 12), 6, (4, 8), **choices)
    again = Architecture(**json.loads(json.dumps(asdict(architecture))))
    assert again == architecture
    again.build().load_state_dict(architecture.build().state_dict())


@pytest.mark.parametrize("wrong", [{"hidden": -1, "normalized": True}, {"hidden": 9}])
def test_a_hidden_layer_of_what_has_none_is_refused(wrong):
    with pytest.raises(NearfarError, match=f"hidden={wrong['hidden']} with normalized="):
        Architecture((1, 28, 28), **wrong)


def test_codes_that_memory_has_no_room_for_are_refused():
    images = ArrayImages(torch.zeros(3, 1, 8, 8))
    with pytest.raises(NearfarError, match="no memory for the results of 3 images: 5587935.4 GiB"):
        apply_to_all(
            lambda batch: torch.zeros(1).expand(len(batch), 5 * 10**14),
            images,
            device=torch.device("cpu"),
        )


@pytest.mark.parametrize("wrong", [{"embedding_size": 0}, {"widths": (16, 0)}])
def test_sizes_below_one_are_refused(wrong):
    with pytest.raises(NearfarError, match="at least 1"):
        Architecture((1, 28, 28), **wrong)
