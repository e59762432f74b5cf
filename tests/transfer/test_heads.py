"""Heads on regions and on whole images."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nearfar.config import Backbone
from nearfar.data import ArrayImages
from nearfar.transfer import (
    new_backbone,
)
from nearfar.transfer.heads import convolutional_head, region_head

SMALL = Backbone(name="alexnet", embedding_size=16, widths=(24,)), (3, 64, 64)
LARGE = Backbone(name="alexnet", embedding_size=16, widths=(24,)), (3, 224, 224)


VIT = "timm:vit_tiny_patch16_224"


def images(count: int, size: int = 64) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def as_images(pixels: torch.Tensor) -> ArrayImages:
    return ArrayImages(pixels.numpy())


@pytest.mark.parametrize("name", ["alexnet", "timm:resnet18", VIT])
def test_last_feature_map_is_feature_map(name):
    backbone = new_backbone(Backbone(name=name, embedding_size=16), (3, 64, 64)).eval()
    maps = backbone.feature_maps(images(2))
    sides = [each.shape[-1] for each in maps.values()]
    assert sides == {"alexnet": [15, 7, 3], "timm:resnet18": [32, 16, 8, 4, 2], VIT: [4]}[name]
    assert torch.equal(maps[backbone.grid], backbone.feature_map(images(2)))


def test_convolutional_head_equals_head_at_its_size():
    for architecture, size in ((SMALL, 64), (LARGE, 224)):
        backbone = new_backbone(*architecture).eval()
        feature_map = backbone.feature_map(images(2, size))
        made = convolutional_head(backbone)(feature_map)
        middle = made[:, :, made.shape[2] // 2 - (made.shape[2] == 6), :]
        column = middle[:, :, made.shape[3] // 2 - (made.shape[3] == 6)]
        assert torch.allclose(column, backbone.head(feature_map), atol=1e-4)


def test_region_head_equals_head_on_its_grid():
    backbone = new_backbone(*LARGE).eval()
    pooled = torch.rand(3, 256, 6, 6)
    behind = backbone.head[list(dict(backbone.head.named_children())).index("flatten") :]
    assert torch.allclose(region_head(backbone)(pooled), behind(pooled), atol=1e-5)


@pytest.mark.parametrize("size", [(63, 63), (64, 64), (127, 127), (127, 63), (64, 128)])
def test_region_head_averages_over_smaller_grid(size):
    backbone = new_backbone(
        Backbone(name="alexnet", embedding_size=16, widths=(24,)), (3, *size)
    ).eval()
    grid = backbone.head.grid.output_size
    pooled = torch.rand(3, 256, 6, 6)
    smaller = nn.functional.adaptive_avg_pool2d(pooled, grid)
    behind = backbone.head[list(dict(backbone.head.named_children())).index("flatten") :]
    assert torch.allclose(region_head(backbone)(pooled), behind(smaller), atol=1e-5)


def test_heads_without_fully_connected_layers():
    backbone = new_backbone(Backbone(name="timm:resnet18", embedding_size=512), (3, 64, 64)).eval()
    assert backbone.embedding_size == 512
    pooled = torch.rand(2, 512, 6, 6)
    assert torch.allclose(region_head(backbone)(pooled), pooled.mean((2, 3)), atol=1e-6)
    assert torch.equal(convolutional_head(backbone)(pooled), pooled)
