"""Positions of feature map cells in images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import grid_sample

#: Name of the shortcut of a residual block.
SHORTCUT = "downsample"
#: timm's layers with dynamic padding, so that sides are divided by the stride.
_PADDED_TO_SIZE = ("Conv2dSame", "MaxPool2dSame", "AvgPool2dSame")
_WINDOWED = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, nn.ZeroPad2d)


class FeatureGrid(NamedTuple):
    """Positions of the cells of a feature map in the image. Default: one cell per pixel.

    Parameters
    ----------
    stride : int
        Distance between the centers of neighboring cells, in pixels.
    offset : tuple of float
        Distances of the center of the first cell from the top and the left edge of the image, in
        pixels.

    Examples
    --------
    >>> FeatureGrid().after(nn.Conv2d(3, 8, kernel_size=4, stride=4))
    FeatureGrid(stride=4, offset=(2.0, 2.0))
    """

    stride: int = 1
    offset: tuple[float, float] = (0.5, 0.5)

    def after(self, module: nn.Module) -> FeatureGrid:
        """Return the grid of a module's output, given that this is the grid of its input."""
        return self.after_each(module)[""]

    def after_each(self, module: nn.Module) -> dict[str, FeatureGrid]:
        """Return the grid of the output of each submodule, by name; "" is the whole module."""
        grids = dict[str, FeatureGrid]()
        grid = self
        for name, layer in _finished(module):
            if isinstance(layer, _WINDOWED):
                grid = grid._after_layer(layer)
            grids[name] = grid
        return grids

    def _after_layer(self, layer: nn.Module) -> FeatureGrid:
        stride, (down, right) = self
        (top, height, step), (left, width, _) = (_window(layer, axis) for axis in (0, 1))
        down += stride * ((height - 1) / 2 - top)
        right += stride * ((width - 1) / 2 - left)
        return FeatureGrid(stride * step, (down, right))

    def sample(self, values: Tensor, target: FeatureGrid, size: Sequence[int]) -> Tensor:
        """Return a feature map on this grid, interpolated at the cell centers of another grid.

        Parameters
        ----------
        values : float[b, k, h, w]
            Feature map on this grid. Beyond the outermost cell centers, values are constant.
        target : FeatureGrid
            Grid of the result.
        size : sequence of int
            Height and width of the result, in cells of `target`.

        Returns
        -------
        float[b, k, *size]
            Interpolated feature map.
        """
        places = []
        for axis, count in enumerate(size):
            centers = target.offset[axis] + target.stride * torch.arange(
                count, device=values.device
            )
            cells = (centers - self.offset[axis]) / self.stride
            # The edges of the map are -1 and 1.
            places.append((2 * cells + 1) / values.shape[2 + axis] - 1)
        rows, columns = torch.meshgrid(*places, indexing="ij")
        grid = torch.stack([columns, rows], dim=-1).to(values).expand(len(values), -1, -1, -1)
        return grid_sample(values, grid, padding_mode="border", align_corners=False)


def _finished(module: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield the submodules of a module and the module itself, by name, except for shortcuts.

    Each module follows its submodules.
    """
    for child, layer in module.named_children():
        if child != SHORTCUT:
            yield from _finished(layer, f"{name}.{child}" if name else child)
    yield name, module


def _window(layer: Any, axis: int) -> tuple[float, int, int]:
    """Return the padding, the kernel size and the stride of a layer along one axis."""
    if isinstance(layer, nn.ZeroPad2d):
        return layer.padding[2 - 2 * axis], 1, 1
    padding, size, stride, dilation = (
        each if isinstance(each, int) else each[axis]
        for each in (
            layer.padding,
            layer.kernel_size,
            layer.stride,
            getattr(layer, "dilation", 1),
        )
    )
    size = dilation * (size - 1) + 1
    if type(layer).__name__ in _PADDED_TO_SIZE:
        padding = max(size - stride, 0) // 2
    return padding, size, stride
