"""Well-known encoders are torchvision's, fit images of any size, and come with a decoder."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from averaging import averaging
from nearfar.config import BACKBONES, Backbone, recipe
from nearfar.errors import NearfarError
from nearfar.models import BackboneEncoder, build_network
from nearfar.models.backbones import BACKBONE_MIN_SIDES

#: Stride and channels of the feature map.
MAPS = {"alexnet": (16, 256), "resnet18": (32, 512), "resnet50": (32, 2048), "vit-small": (16, 384)}


def backbone(name: str, *sides: int, embedding_size: int = 8, channels: int = 3) -> nn.Module:
    widths = (16,) if name == "alexnet" else None
    network = Backbone(name=name, embedding_size=embedding_size, widths=widths)
    return build_network(network, (channels, sides[0], sides[-1])).eval()


@pytest.mark.parametrize("name", BACKBONES)
@torch.no_grad()
def test_backbone_reconstructs_images_at_their_size(name):
    least = BACKBONE_MIN_SIDES[name]
    for shape in ((3, least, least + 6), (1, least + 17, least)):
        network = backbone(name, *shape[1:], channels=shape[0])
        images = torch.rand(2, *shape)
        embeddings, reconstruction = network(images)
        assert reconstruction.shape == images.shape
        assert embeddings.shape == (2, 8)
        assert (embeddings >= 0).all()


@pytest.mark.parametrize("name", BACKBONES)
@torch.no_grad()
def test_feature_map_and_head_make_the_embedding(name):
    encoder = backbone(name, 128).encoder
    assert isinstance(encoder, BackboneEncoder)
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
def test_feature_grid_gives_the_places_of_cells(name):
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
    network = Backbone(name="alexnet", embedding_size=4096)
    encoder = build_network(network, (3, 224, 224)).eval().encoder
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


def test_embedding_of_the_pooled_size_needs_no_linear_layer():
    head = backbone("resnet18", 32, embedding_size=512).encoder.head
    assert not list(head.parameters())


@pytest.mark.parametrize("name", BACKBONES)
def test_every_weight_learns(name):
    network = backbone(name, 64).train()
    network(torch.rand(2, 3, 64, 64)).reconstruction.square().mean().backward()
    assert [n for n, p in network.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("name", BACKBONES)
def test_backbone_rejects_too_small_images(name):
    side = BACKBONE_MIN_SIDES[name] - 1
    with pytest.raises(NearfarError, match=f"images of {side}x{side} pixels are too small"):
        backbone(name, side)


@pytest.mark.parametrize("wrong", [{"batch_norm": True}, {"hidden": 512}])
def test_backbone_rejects_options_of_the_convnet(wrong):
    with pytest.raises(NearfarError, match="belongs to network convnet"):
        recipe("paper", backbone="resnet18", **wrong)


def test_alexnet_takes_one_width():
    with pytest.raises(NearfarError, match=r"widths=\(8, 8\): expected one"):
        build_network(Backbone(name="alexnet", widths=(8, 8)), (3, 64, 64))
