"""Heads of backbones, applied to regions or to whole images."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn

from nearfar.models import BackboneEncoder

#: Cells per side of a pooled region. AlexNet has as many before FC6 for images of 224 pixels.
REGION_GRID = 6


def pooling_grid(backbone: BackboneEncoder) -> tuple[int, int]:
    """Return the height and width of the output of the pooling layer in the head of a backbone.

    If the head has no pooling layer, the result is (1, 1).

    Examples
    --------
    >>> from nearfar.transfer import BackboneSpec
    >>> spec = BackboneSpec(name="alexnet", embedding_size=16, widths=(24,), image_size=(95, 63))
    >>> pooling_grid(spec.build())
    (2, 1)
    """
    pools = [each for each in backbone.head.children() if isinstance(each, nn.AdaptiveAvgPool2d)]
    return _pair(pools[-1].output_size) if pools else (1, 1)


def region_head(backbone: BackboneEncoder) -> nn.Sequential:
    """Build a version of the head of a backbone that is applied to regions of the feature map.

    It takes regions of 6×6 cells (float[b, k, 6, 6]) and returns embeddings (float[b, d]). If the
    first linear layer was trained on a smaller grid, it is expanded to 6×6 cells: each weight is
    copied to the cells that replace its cell and divided by their number, so the layer initially
    acts on their mean.

    Examples
    --------
    >>> from nearfar.transfer import BackboneSpec
    >>> spec = BackboneSpec(name="alexnet", embedding_size=16, widths=(24,), image_size=(63, 63))
    >>> region_head(spec.build())(torch.rand(2, 256, 6, 6)).shape
    torch.Size([2, 16])
    """
    linear = _linear(backbone)
    if not linear:
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    # Region pooling replaces the pooling of the head.
    layers = list(backbone.head.children())
    _, *rest = copy.deepcopy(layers[layers.index(linear[0]) :])
    return nn.Sequential(nn.Flatten(), _spread(linear[0], pooling_grid(backbone)), *rest)


def convolutional_head(backbone: BackboneEncoder) -> nn.Sequential:
    """Build a convolutional version of the head of a backbone, for feature maps of any size.

    Linear layers are converted to convolutions [1]_. Pooling to a fixed size is omitted.

    References
    ----------
    .. [1] J. Long, E. Shelhamer, T. Darrell, "Fully convolutional networks for semantic
       segmentation", CVPR 2015.

    Examples
    --------
    >>> from nearfar.transfer import BackboneSpec
    >>> spec = BackboneSpec(name="alexnet", embedding_size=16, widths=(24,), image_size=(63, 63))
    >>> convolutional_head(spec.build())(torch.rand(2, 256, 13, 9)).shape
    torch.Size([2, 16, 6, 4])
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


def _linear(backbone: BackboneEncoder) -> list[nn.Linear]:
    return [layer for layer in backbone.head.children() if isinstance(layer, nn.Linear)]


@torch.no_grad()
def _spread(layer: nn.Linear, grid: tuple[int, int]) -> nn.Linear:
    """Return a linear layer, expanded from a smaller grid to 6×6 cells, see `region_head`."""
    channels = layer.in_features // math.prod(grid)
    weight = layer.weight.view(layer.out_features, channels, *grid)
    for axis, side in enumerate(grid, start=2):
        places = torch.arange(REGION_GRID) * side // REGION_GRID
        shares = torch.bincount(places, minlength=side)[places]
        shape = [REGION_GRID if each == axis else 1 for each in range(4)]
        weight = weight.index_select(axis, places) / shares.view(shape)
    result = nn.Linear(channels * REGION_GRID**2, layer.out_features)
    result.weight.copy_(weight.flatten(1))
    result.bias.copy_(layer.bias)
    return result


@torch.no_grad()
def _convolution(layer: nn.Linear, grid: tuple[int, int]) -> nn.Conv2d:
    """Return a linear layer as a convolution with a kernel of the size of the grid."""
    channels = layer.in_features // math.prod(grid)
    result = nn.Conv2d(channels, layer.out_features, grid)
    result.weight.copy_(layer.weight.view(layer.out_features, channels, *grid))
    assert result.bias is not None  # noqa: S101 - for the type alone
    result.bias.copy_(layer.bias)
    return result


def _around(grid: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the padding (left, right, top, bottom) for a kernel of the size of the grid.

    With this padding, a convolution preserves the size of a feature map.
    """
    height, width = grid
    return ((width - 1) // 2, width // 2, (height - 1) // 2, height // 2)


def _pair(size: int | tuple[int | None, ...] | None) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, int) else size or (1, 1)
    return int(height or 1), int(width or 1)
