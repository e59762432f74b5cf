"""Where in an image the cells of a feature map look."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import grid_sample

#: torchvision's name for what runs beside the convolutions of a residual block.
SHORTCUT = "downsample"


class FeatureGrid(NamedTuple):
    """The centers of the cells of a feature map; of pixels, if nothing is given.

    Parameters
    ----------
    stride : int
        How many pixels the centers of neighbors are apart.
    offset : tuple of float
        How many pixels the center of the first cell is below the upper, and right of the left edge
        of the image.
    """

    stride: int = 1
    offset: tuple[float, float] = (0.5, 0.5)

    def behind(self, module: nn.Module) -> FeatureGrid:
        """Return the cells that the convolutions and poolings of a module make of these."""
        stride, (down, right) = self
        for layer in _layers(module):
            (top, height, step), (left, width, _) = (_window(layer, axis) for axis in (0, 1))
            down += stride * ((height - 1) / 2 - top)
            right += stride * ((width - 1) / 2 - left)
            stride *= step
        return FeatureGrid(stride, (down, right))

    def sample(self, values: Tensor, at: FeatureGrid, size: Sequence[int]) -> Tensor:
        """Interpolate a map of these cells, float[b, k, h, w], at others, float[b, k, *size].

        Beyond the outermost centers are the values of the outermost cells.
        """
        places = []
        for axis, count in enumerate(size):
            centers = at.offset[axis] + at.stride * torch.arange(count, device=values.device)
            cells = (centers - self.offset[axis]) / self.stride
            # The edges of the map are at -1 and 1.
            places.append((2 * cells + 1) / values.shape[2 + axis] - 1)
        rows, columns = torch.meshgrid(*places, indexing="ij")
        grid = torch.stack([columns, rows], dim=-1).to(values).expand(len(values), -1, -1, -1)
        return grid_sample(values, grid, padding_mode="border", align_corners=False)


def _layers(module: nn.Module) -> Iterator[nn.Conv2d | nn.MaxPool2d | nn.ZeroPad2d]:
    """All that moves cells, one after the other."""
    if isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.ZeroPad2d):
        yield module
    for name, child in module.named_children():
        if name != SHORTCUT:
            yield from _layers(child)


def _window(layer: nn.Conv2d | nn.MaxPool2d | nn.ZeroPad2d, axis: int) -> tuple[int, int, int]:
    """How much of its first window is padding, how wide it is, and how far it is to the next."""
    if isinstance(layer, nn.ZeroPad2d):
        return layer.padding[2 - 2 * axis], 1, 1
    assert not isinstance(layer.padding, str)  # noqa: S101 - no backbone has "same"
    padding, size, stride, dilation = (
        each if isinstance(each, int) else each[axis]
        for each in (layer.padding, layer.kernel_size, layer.stride, layer.dilation)
    )
    return padding, dilation * (size - 1) + 1, stride
