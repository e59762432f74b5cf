"""The network whose open settings are searched."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nearfar.config import ConvNet
from nearfar.experiments.plain_network import PlainNetwork
from nearfar.experiments.protocol import PROTOCOL
from nearfar.models import build_network


def layers(network: nn.Module, kind: type) -> list[nn.Module]:
    return [layer for layer in network.modules() if isinstance(layer, kind)]


def test_default_has_the_layers_of_our_default_network():
    ours, plain = build_network(ConvNet(), (1, 28, 28)), PlainNetwork()
    assert [tuple(each.shape) for each in plain.state_dict().values()] == [
        tuple(each.shape) for each in ours.state_dict().values()
    ]


@pytest.mark.parametrize(
    "options",
    [{"kernel": 5}, {"pooling": True}, {"hidden": 40}, {"signed": True}, {"embedding_size": 7}],
)
def test_every_setting_changes_the_network_and_keeps_the_shapes(options):
    images, changed = torch.rand(3, 1, 28, 28), PlainNetwork(**options)
    embeddings, reconstruction = changed(images)
    assert embeddings.shape == (3, options.get("embedding_size", 128))
    assert embeddings.min() >= 0
    assert reconstruction.shape == images.shape
    assert 0 <= reconstruction.min() <= reconstruction.max() <= 1
    assert str(changed) != str(PlainNetwork())


def test_scale_is_that_of_embeddings_and_leaves_the_function():
    images = torch.rand(3, 1, 28, 28)
    torch.manual_seed(0)
    plain = PlainNetwork()(images)
    torch.manual_seed(0)
    scaled = PlainNetwork(embedding_scale=4.0)(images)
    torch.testing.assert_close(scaled.embeddings, 4 * plain.embeddings)
    torch.testing.assert_close(scaled.reconstruction, plain.reconstruction)


def test_glorot_is_uniform_with_biases_of_zero():
    layer = PlainNetwork(glorot=True).encoder[-2]
    assert (layer.bias == 0).all()
    assert layer.weight.abs().max() <= (6 / (1024 + 128)) ** 0.5


def test_each_row_differs_from_the_default_in_one_setting():
    default = PROTOCOL.rows["default"]
    for label, row in PROTOCOL.rows.items():
        whole = row.network is not default.network  # another network altogether
        changed = 1 if whole else len(row.options) + (row.config != default.config)
        assert changed == (label != "default")
