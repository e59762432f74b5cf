"""Building blocks of networks: convolutional decoders and weight initialization."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from nearfar.data import Shape
from nearfar.errors import NearfarError

#: Scale factor for the initial weights of the last layer.
OUTPUT_SCALE = 0.1


def stride_two_sizes(height: int, width: int, times: int) -> list[tuple[int, int]]:
    """Return the height and width at the input and after each of `times` stride-2 convolutions."""
    sizes = [(height, width)]
    for _ in range(times):
        sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
    return sizes


def deconvolutions(shape: Shape, embedding_size: int, widths: Sequence[int]) -> nn.Sequential:
    """Build a decoder that consists of a linear layer and stride-2 transposed convolutions.

    Parameters
    ----------
    shape : tuple of int
        Channels, height and width of the images.
    embedding_size : int
        Dimension d of the embeddings.
    widths : sequence of int
        Numbers of channels of the hidden layers, starting with the layer next to the image.
    """
    channels, height, width = shape
    sizes = stride_two_sizes(height, width, len(widths))
    top = (widths[-1], *sizes[-1])
    layers: list[nn.Module] = [nn.Linear(embedding_size, math.prod(top)), nn.Unflatten(1, top)]
    for (outer, inner), (rows, columns) in zip(
        reversed(list(pairwise((channels, *widths)))), reversed(sizes[:-1]), strict=True
    ):
        # Stride 2 maps sides 2k−1 and 2k to k; the output padding restores the original side.
        padding = ((rows + 1) % 2, (columns + 1) % 2)
        layers += [
            nn.ReLU(),
            nn.ConvTranspose2d(inner, outer, 3, stride=2, padding=1, output_padding=padding),
        ]
    return nn.Sequential(*layers, nn.Sigmoid())


@torch.no_grad()
def initialize(module: nn.Module) -> None:
    """Initialize every layer with He-normal weights [1]_ and zero biases.

    .. [1] K. He et al., "Delving deep into rectifiers", ICCV 2015.
    """
    for layer in _layers(module):
        # A transposed convolution stores inputs and outputs in reverse order, and each output
        # depends on one in stride² of the kernel weights.
        transposed = isinstance(layer, nn.ConvTranspose2d)
        nn.init.kaiming_normal_(layer.weight, mode="fan_out" if transposed else "fan_in")
        if isinstance(layer, nn.ConvTranspose2d):
            layer.weight *= math.sqrt(math.prod(layer.stride))
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


@torch.no_grad()
def init_embedding_bias(encoder: nn.Module) -> None:
    """Set the biases of the embedding layer (the last linear layer) to 1.

    With this bias, units are initially active. With a bias of 0, half of the units would stay dead.
    """
    linear = [layer for layer in _layers(encoder) if isinstance(layer, nn.Linear)]
    if linear:
        nn.init.ones_(linear[-1].bias)


@torch.no_grad()
def init_output_layer(decoder: nn.Module) -> None:
    """Scale down the weights of the last layer, so that no output is initially saturated."""
    _layers(decoder)[-1].weight *= OUTPUT_SCALE


def initialize_autoencoder(encoder: nn.Module, decoder: nn.Module) -> None:
    """Initialize the weights of an encoder that ends with a linear layer, and of a decoder.

    Weights are He-normal. The biases of the last linear layer of the encoder are 1, so that its
    units are initially active. The weights of the last layer of the decoder are scaled down, so
    that no pixel is initially saturated.

    Examples
    --------
    >>> encoder, decoder = nn.Linear(4, 2), nn.Linear(2, 4)
    >>> initialize_autoencoder(encoder, decoder)
    >>> encoder.bias.tolist()
    [1.0, 1.0]
    """
    initialize(encoder)
    initialize(decoder)
    init_embedding_bias(encoder)
    init_output_layer(decoder)


@torch.no_grad()
def check_batchnorm(network: nn.Module, shape: Shape) -> None:
    """Check that a network can be trained on a batch of one image.

    Parameters
    ----------
    network : nn.Module
        Network to check. The network itself is not changed.
    shape : tuple of int
        Channels, height and width of the image.

    Raises
    ------
    NearfarError
        If batch normalization receives a single value per channel.

    Examples
    --------
    >>> check_batchnorm(nn.Conv2d(1, 4, 3), (1, 8, 8))
    """
    trial = copy.deepcopy(network).cpu().train()
    try:
        trial(torch.zeros(1, *shape))
    except ValueError as error:
        raise NearfarError(
            f"batch normalization cannot train on a single image of {shape[1]}x{shape[2]} pixels: "
            "expected a larger batch_size, or a smaller accumulate"
        ) from error


def _layers(module: nn.Module) -> list[nn.Conv2d | nn.ConvTranspose2d | nn.Linear]:
    kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
    return [layer for layer in module.modules() if isinstance(layer, kinds)]
