"""Networks that only average, so that they tell where they look."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

M = TypeVar("M", bound=nn.Module)


def _average(layer: nn.MaxPool2d, given: tuple[Tensor], made: Tensor) -> Tensor:
    """What pooling by the mean makes."""
    window = (layer.kernel_size, layer.stride, layer.padding)
    return avg_pool2d(given[0], *window, count_include_pad=False)


@torch.no_grad()
def averaging(network: M) -> M:
    """Let all layers of a network on a backbone take means, in place, and return it."""
    for module in list(network.modules()):
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.weight.fill_(1 / module.weight[0].numel())
            if module.bias is not None:
                module.bias.zero_()
        if isinstance(module, nn.MaxPool2d):
            module.register_forward_hook(_average)
        for name, buffer in module.named_buffers(recurse=False):
            if name in ("mean", "std"):
                buffer.fill_(name == "std")
    return network
