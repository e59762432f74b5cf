"""The fully connected layers of a backbone, made to work on regions and on whole images."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn

from nearfar.models.backbones import Backbone

#: The grid that a region is pooled to, that of AlexNet's FC6 in images of 224 pixels.
GRID = 6


def region_head(backbone: Backbone) -> nn.Sequential:
    """Build the head from regions of the feature map, float[b, k, 6, 6], to float[b, d].

    A first layer that was trained on a smaller grid is spread over this one, so that at first it
    sees in each of its places the mean of those that take its part.
    """
    linear = _linear(backbone)
    if not linear:
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    # Pooling to the grid is the business of the pooling of regions.
    layers = list(backbone.head.children())
    before = layers[: layers.index(linear[0])]
    grid = [_pair(each.output_size) for each in before if isinstance(each, nn.AdaptiveAvgPool2d)]
    _, *rest = copy.deepcopy(layers[len(before) :])
    return nn.Sequential(nn.Flatten(), _spread(linear[0], (grid or [(1, 1)])[-1]), *rest)


def convolutional_head(backbone: Backbone) -> nn.Sequential:
    """Make a network of the head's weights from feature maps of any size to maps of embeddings.

    A linear layer becomes a convolution [1]_; pooling to a fixed size is left out.

    References
    ----------
    .. [1] J. Long, E. Shelhamer, T. Darrell, "Fully convolutional networks for semantic
       segmentation", CVPR 2015.
    """
    layers, grid = list[nn.Module](), (1, 1)
    for layer in backbone.head.children():
        if isinstance(layer, nn.AdaptiveAvgPool2d):
            grid = _pair(layer.output_size)
        elif isinstance(layer, nn.Linear):
            layers += [nn.ZeroPad2d(_around(grid)), _convolution(layer, grid)]
            grid = (1, 1)
        elif not isinstance(layer, nn.Flatten):
            layers.append(copy.deepcopy(layer))
    return nn.Sequential(*layers)


def _linear(backbone: Backbone) -> list[nn.Linear]:
    return [layer for layer in backbone.head.children() if isinstance(layer, nn.Linear)]


@torch.no_grad()
def _spread(layer: nn.Linear, grid: tuple[int, int]) -> nn.Linear:
    """The layer for a grid of 6×6 places, each of which gets its part of the weights."""
    channels = layer.in_features // math.prod(grid)
    weight = layer.weight.view(layer.out_features, channels, *grid)
    for axis, side in enumerate(grid, start=2):
        places = torch.arange(GRID) * side // GRID
        shares = torch.bincount(places, minlength=side)[places]
        shape = [GRID if each == axis else 1 for each in range(4)]
        weight = weight.index_select(axis, places) / shares.view(shape)
    made = nn.Linear(channels * GRID**2, layer.out_features)
    made.weight.copy_(weight.flatten(1))
    made.bias.copy_(layer.bias)
    return made


@torch.no_grad()
def _convolution(layer: nn.Linear, grid: tuple[int, int]) -> nn.Conv2d:
    """The layer as a convolution over windows of a grid."""
    channels = layer.in_features // math.prod(grid)
    made = nn.Conv2d(channels, layer.out_features, grid)
    made.weight.copy_(layer.weight.view(layer.out_features, channels, *grid))
    assert made.bias is not None  # noqa: S101 - for the type alone
    made.bias.copy_(layer.bias)
    return made


def _around(grid: tuple[int, int]) -> tuple[int, int, int, int]:
    """What has to lie left, right, above and below for as many windows as there were places."""
    height, width = grid
    return ((width - 1) // 2, width // 2, (height - 1) // 2, height // 2)


def _pair(size: int | tuple[int | None, ...] | None) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, int) else size or (1, 1)
    return int(height or 1), int(width or 1)
