"""Well-known encoders fit images of any size, and come with a decoder."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from averaging import averaging
from nearfar.config import Backbone, recipe
from nearfar.errors import NearfarError
from nearfar.models import BackboneEncoder, build_network
from nearfar.models.backbones import image_size

VIT = "timm:vit_tiny_patch16_224"
LITE0 = "timm:tf_efficientnet_lite0"
#: Smallest side, stride and channels of the feature map.
MAPS = {
    "alexnet": (63, 16, 256),
    "timm:resnet18": (32, 32, 512),
    "timm:resnet50": (32, 32, 2048),
    LITE0: (32, 32, 1280),
    "timm:convnext_atto": (32, 32, 320),
    VIT: (16, 16, 192),
}
#: The head takes the mean of the feature map, and no other layer.
POOLED_BY_MEAN = ["alexnet", "timm:resnet18", "timm:resnet50", LITE0]


def backbone(name: str, *sides: int, embedding_size: int = 8, channels: int = 3) -> nn.Module:
    widths = (16,) if name == "alexnet" else None
    network = Backbone(name=name, embedding_size=embedding_size, widths=widths)
    return build_network(network, (channels, sides[0], sides[-1])).eval()


@pytest.mark.parametrize("name", MAPS)
@torch.no_grad()
def test_backbone_reconstructs_images_at_their_size(name):
    least, more = MAPS[name][0], 16 if name == VIT else 6
    for shape in ((3, least, least + more), (1, least + 3 * more, least)):
        network = backbone(name, *shape[1:], channels=shape[0])
        images = torch.rand(2, *shape)
        embeddings, reconstruction = network(images)
        assert reconstruction.shape == images.shape
        assert embeddings.shape == (2, 8)
        assert (embeddings >= 0).all()


@pytest.mark.parametrize("name", MAPS)
@torch.no_grad()
def test_feature_map_and_head_make_the_embedding(name):
    encoder = backbone(name, 128).encoder
    assert isinstance(encoder, BackboneEncoder)
    assert (encoder.grid.stride, encoder.channels) == MAPS[name][1:]
    images = torch.rand(2, 3, 128, 128)
    features = encoder.feature_map(images)
    assert features.shape[1] == encoder.channels
    assert abs(features.shape[2] - 128 / encoder.grid.stride) < 1.5
    assert encoder.head(features).shape == encoder(images).shape
    if name in POOLED_BY_MEAN:
        torch.testing.assert_close(encoder.head(features), encoder(images))
    other = encoder.feature_map(torch.rand(1, 3, 160, 96))  # as detectors give it
    assert abs(other.shape[2] - 160 / encoder.grid.stride) < 1.5
    assert abs(other.shape[3] - 96 / encoder.grid.stride) < 1.5


@torch.no_grad()
@pytest.mark.parametrize("name", ["alexnet", "timm:resnet18", LITE0])
def test_feature_grid_gives_the_places_of_cells(name):
    """Averages of an image whose pixels are their own places are the places of the cells."""
    encoder = averaging(backbone(name, 64).encoder)
    ramp = (torch.arange(480) + 0.5).expand(
        1, 3, 480, 480
    ) / 1e6  # sums stay below the 6 of a ReLU6
    places = encoder.feature_maps(ramp)
    shares = encoder.feature_maps(torch.full_like(ramp, 1e-6))
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
def test_gray_and_color_images_fit_any_number_of_input_channels():
    encoder = backbone("timm:resnet18", 32, embedding_size=512).encoder
    gray = torch.rand(2, 1, 32, 32)
    torch.testing.assert_close(encoder(gray), encoder(gray.expand(-1, 3, -1, -1)))
    encoder.mean, encoder.std = encoder.mean[:1], encoder.std[:1]
    encoder.features.conv1 = nn.Conv2d(1, 64, 7, stride=2, padding=3)
    assert encoder(torch.rand(2, 3, 32, 32)).shape == (2, 512)


def test_frozen_batch_norm_keeps_its_statistics_and_learns_its_scale():
    network = build_network(Backbone(name=LITE0, freeze_batch_norm=True), (3, 32, 32)).train()
    before = {k: v.clone() for k, v in network.encoder.named_buffers()}
    network(torch.rand(4, 3, 32, 32)).embeddings.sum().backward()
    for name, value in network.encoder.named_buffers():
        assert torch.equal(value, before[name]), name
    assert network.encoder.features.bn1.weight.grad is not None
    free = build_network(Backbone(name=LITE0), (3, 32, 32)).train()
    free(torch.rand(4, 3, 32, 32))
    assert free.encoder.features.bn1.num_batches_tracked == 1


def test_image_size_is_that_of_the_published_weights():
    assert image_size(LITE0) == (224, 224)
    assert image_size("timm:vit_small_patch14_dinov2.lvd142m") == (518, 518)


def test_embedding_of_the_pooled_size_needs_no_linear_layer():
    head = backbone("timm:resnet18", 32, embedding_size=512).encoder.head
    assert not list(head.parameters())


@pytest.mark.parametrize("name", MAPS)
def test_every_weight_learns(name):
    network = backbone(name, 64).train()
    network(torch.rand(2, 3, 64, 64)).reconstruction.square().mean().backward()
    assert [n for n, p in network.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("name", MAPS)
def test_backbone_rejects_too_small_images(name):
    side = MAPS[name][0] - 1
    with pytest.raises(NearfarError, match=f"images of {side}x{side} pixels are too small"):
        backbone(name, side)


@pytest.mark.parametrize("wrong", [{"batch_norm": True}, {"hidden": 512}])
def test_backbone_rejects_options_of_the_convnet(wrong):
    with pytest.raises(NearfarError, match="belongs to network convnet"):
        recipe("paper", backbone="timm:resnet18", **wrong)


def test_alexnet_takes_one_width():
    with pytest.raises(NearfarError, match=r"widths=\(8, 8\): expected one"):
        build_network(Backbone(name="alexnet", widths=(8, 8)), (3, 64, 64))
