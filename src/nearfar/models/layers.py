"""What the networks here are built from: convolutions up to an image, and weights to begin with."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from nearfar.data import Shape
from nearfar.errors import NearfarError

#: How much smaller than the others the last layer begins.
LAST_SCALE = 0.1


def stride_two_sizes(height: int, width: int, times: int) -> list[tuple[int, int]]:
    """Height and width, and what convolutions of stride 2 make of them, one after the other."""
    sizes = [(height, width)]
    for _ in range(times):
        sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
    return sizes


def deconvolutions(shape: Shape, embedding_size: int, widths: Sequence[int]) -> nn.Sequential:
    """Make a linear layer from the embeddings, and transposed convolutions that double the sides.

    Parameters
    ----------
    shape : tuple of int
        Channels, height, width of the images to make, in 0…1.
    widths : sequence of int
        Channels of the layers, from the image inwards.
    """
    channels, height, width = shape
    sizes = stride_two_sizes(height, width, len(widths))
    top = (widths[-1], *sizes[-1])
    layers: list[nn.Module] = [nn.Linear(embedding_size, math.prod(top)), nn.Unflatten(1, top)]
    for (outer, inner), (rows, columns) in zip(
        reversed(list(pairwise((channels, *widths)))), reversed(sizes[:-1]), strict=True
    ):
        # A side of 2k−1 and one of 2k are both halved to k: the padding says which to restore.
        padding = ((rows + 1) % 2, (columns + 1) % 2)
        layers += [
            nn.ReLU(),
            nn.ConvTranspose2d(inner, outer, 3, stride=2, padding=1, output_padding=padding),
        ]
    return nn.Sequential(*layers, nn.Sigmoid())


@torch.no_grad()
def initialize(module: nn.Module) -> None:
    """Draw He-normal weights [1]_ for every layer, with biases of zero.

    .. [1] K. He et al., "Delving deep into rectifiers", ICCV 2015.
    """
    for layer in _layers(module):
        # A transposed convolution is stored the other way round, and each of its outputs sees
        # one in stride² of the places of the kernel.
        transposed = isinstance(layer, nn.ConvTranspose2d)
        nn.init.kaiming_normal_(layer.weight, mode="fan_out" if transposed else "fan_in")
        if isinstance(layer, nn.ConvTranspose2d):
            layer.weight *= math.sqrt(math.prod(layer.stride))
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


@torch.no_grad()
def init_embedding_bias(encoder: nn.Module) -> None:
    """Start every embedding unit active: torch's default leaves half of them dead for good."""
    linear = [layer for layer in _layers(encoder) if isinstance(layer, nn.Linear)]
    if linear:
        nn.init.ones_(linear[-1].bias)


@torch.no_grad()
def init_output_layer(decoder: nn.Module) -> None:
    """Let the last layer begin small, so that no pixel begins saturated."""
    _layers(decoder)[-1].weight *= LAST_SCALE


@torch.no_grad()
def check_batchnorm(network: nn.Module, shape: Shape) -> None:
    """Refuse a network that cannot learn from one image at a time.

    Raises
    ------
    NearfarError
        If batch normalization has a single value of an image to take the mean of.
    """
    trial = copy.deepcopy(network).cpu().train()
    try:
        trial(torch.zeros(1, *shape))
    except ValueError as error:
        raise NearfarError(
            f"batch normalization cannot learn from one image of {shape[1]}x{shape[2]} pixels "
            "alone: expected a larger batch_size, or fewer parts of it"
        ) from error


def _layers(module: nn.Module) -> list[nn.Conv2d | nn.ConvTranspose2d | nn.Linear]:
    kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
    return [layer for layer in module.modules() if isinstance(layer, kinds)]
