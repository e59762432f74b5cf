"""Backbones: parity with torchvision, any image size, and decoders."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import get_args, get_type_hints

import pytest
import torch
from torch import nn

from averaging import averaging
from nearfar.config import BACKBONES
from nearfar.errors import NearfarError
from nearfar.models import Architecture, Backbone
from nearfar.models.backbones import BACKBONE_MIN_SIDES
from nearfar.training.config import TrainConfig

#: Stride and channels of the feature map.
MAPS = {"alexnet": (16, 256), "resnet18": (32, 512), "resnet50": (32, 2048), "vit-small": (16, 384)}


def backbone(name: str, side: int, embedding_size: int = 8, channels: int = 3) -> nn.Module:
    widths = (16,) if name == "alexnet" else ()
    return (
        Architecture((channels, side, side), embedding_size, widths, backbone=name).build().eval()
    )


def test_training_knows_every_backbone():
    hint = get_type_hints(TrainConfig)["backbone"]
    assert get_args(get_args(hint)[0]) == BACKBONES


@pytest.mark.parametrize("name", BACKBONES)
@torch.no_grad()
def test_images_come_back_at_their_size(name):
    least = BACKBONE_MIN_SIDES[name]
    for shape in ((3, least, least + 6), (1, least + 17, least)):
        architecture = Architecture(shape, 8, (16,) if name == "alexnet" else (), backbone=name)
        network = architecture.build().eval()
        images = torch.rand(2, *shape)
        embeddings, reconstruction = network(images)
        assert reconstruction.shape == images.shape
        assert embeddings.shape == (2, 8)
        assert (embeddings >= 0).all()


@pytest.mark.parametrize("name", BACKBONES)
@torch.no_grad()
def test_feature_map_and_head_compute_the_embeddings(name):
    encoder = backbone(name, 128).encoder
    assert isinstance(encoder, Backbone)
    assert (encoder.grid.stride, encoder.channels) == MAPS[name]
    images = torch.rand(2, 3, 128, 128)
    features = encoder.feature_map(images)
    assert features.shape[1] == encoder.channels
    assert abs(features.shape[2] - 128 / encoder.grid.stride) < 1.5
    assert torch.equal(encoder.head(features), encoder(images))
    other = encoder.feature_map(torch.rand(1, 3, 160, 96))  # as detectors give it
    assert abs(other.shape[2] - 160 / encoder.grid.stride) < 1.5
    assert abs(other.shape[3] - 96 / encoder.grid.stride) < 1.5


@torch.no_grad()
@pytest.mark.parametrize("name", ["alexnet", "resnet18"])
def test_grid_cells_are_centered_where_they_say(name):
    """Averages of an image whose pixels are their own places are the places of the cells."""
    encoder = averaging(backbone(name, 64).encoder)
    ramp = (torch.arange(480) + 0.5).expand(1, 3, 480, 480)
    places = encoder.feature_maps(ramp)
    shares = encoder.feature_maps(torch.ones_like(ramp))
    assert list(places)[-1] == encoder.grid
    for cells, values in places.items():
        middle = values.shape[-1] // 2
        place = (values / shares[cells])[0, 0, middle, middle].item()
        assert place == pytest.approx(cells.offset[1] + cells.stride * middle, abs=1)


@torch.no_grad()
def test_alexnet_is_torchvisions():
    from torchvision.models import alexnet
    from torchvision.transforms.functional import normalize

    theirs = alexnet().eval()
    encoder = Architecture((3, 224, 224), 4096, backbone="alexnet").build().eval().encoder
    encoder.features.load_state_dict(theirs.features[:12].state_dict())
    encoder.head.fc6.load_state_dict(theirs.classifier[1].state_dict())
    encoder.head.fc7.load_state_dict(theirs.classifier[4].state_dict())
    images = torch.rand(2, 3, 224, 224)
    normalized = normalize(images, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    right = theirs.classifier[:6](theirs.avgpool(theirs.features(normalized)).flatten(1))
    torch.testing.assert_close(encoder(images), right)


@torch.no_grad()
def test_a_transformer_is_torchvisions():
    encoder = backbone("vit-small", 64).encoder
    theirs = encoder.features.transformer
    images = torch.randn(2, 3, 64, 64)
    tokens = torch.cat([theirs.class_token.expand(2, -1, -1), theirs._process_input(images)], dim=1)
    right = theirs.encoder(tokens)[:, 1:].mT.unflatten(2, (4, 4))
    torch.testing.assert_close(encoder.features(images), right)


def test_embeddings_as_long_as_the_channels_need_no_linear_layer():
    head = backbone("resnet18", 32, embedding_size=512).encoder.head
    assert not list(head.parameters())


@pytest.mark.parametrize("name", BACKBONES)
def test_every_weight_learns(name):
    network = backbone(name, 64).train()
    network(torch.rand(2, 3, 64, 64)).reconstruction.square().mean().backward()
    assert [n for n, p in network.named_parameters() if p.grad is None] == []


def test_descriptions_with_and_without_a_backbone_are_read():
    architecture = Architecture((3, 64, 64), 8, (16,), backbone="alexnet")
    assert Architecture(**json.loads(json.dumps(asdict(architecture)))) == architecture
    old = asdict(Architecture((3, 64, 64)))
    del old["backbone"]
    assert Architecture(**old) == Architecture((3, 64, 64))


@pytest.mark.parametrize("name", BACKBONES)
def test_too_small_images_are_refused(name):
    side = BACKBONE_MIN_SIDES[name] - 1
    with pytest.raises(NearfarError, match=f"images of {side}x{side} pixels are too small"):
        Architecture((3, side, side), backbone=name)


@pytest.mark.parametrize(
    "wrong", [{"pretext": "split-brain"}, {"network": "normalized"}, {"network": "deep"}]
)
def test_choices_of_another_network_are_refused(wrong):
    with pytest.raises(NearfarError, match="with backbone='resnet18': expected"):
        TrainConfig(backbone="resnet18", **wrong)


def test_alexnet_takes_one_width():
    with pytest.raises(NearfarError, match=r"widths=\(8, 8\): expected one"):
        Architecture((3, 64, 64), 8, (8, 8), backbone="alexnet").build()
