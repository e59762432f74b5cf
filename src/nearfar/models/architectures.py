"""Construction of autoencoders from their configuration."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from nearfar.config import Backbone, ConvNet, NetworkConfig
from nearfar.data import MIN_SIDE, Shape
from nearfar.errors import NearfarError
from nearfar.models.autoencoder import Autoencoder
from nearfar.models.backbones import (
    build_backbone,
    check_backbone,
    default_embedding_size,
    default_widths,
)
from nearfar.models.layers import (
    deconvolutions,
    initialize_autoencoder,
    stride_two_sizes,
)
from nearfar.models.split_brain import join_halves

MAX_WIDTH = 256


def resolve_network(network: NetworkConfig, shape: Shape) -> NetworkConfig:
    """Return a copy of `network` in which missing sizes are replaced by defaults.

    The defaults of the embedding size and the layer widths depend on the backbone and on the image
    shape (c, h, w).

    Raises
    ------
    NearfarError
        If the images are too small for the backbone.

    Examples
    --------
    >>> resolve_network(ConvNet(), (1, 28, 28)).widths
    (16, 32, 64)
    """
    if isinstance(network, Backbone):
        check_backbone(network.name, shape)
        return replace(
            network,
            embedding_size=network.embedding_size or default_embedding_size(network),
            widths=network.widths or default_widths(network.name),
        )
    if network.widths:
        return network
    if not is_convolutional(shape):
        return replace(network, widths=(256,))
    halvings = max(2, round(math.log2(min(shape[1:]) / 4)))
    return replace(network, widths=tuple(min(16 * 2**i, MAX_WIDTH) for i in range(halvings)))


def is_convolutional(shape: Shape) -> bool:
    """Return whether images of shape (c, h, w) are large enough for convolutions.

    Examples
    --------
    >>> is_convolutional((1, 28, 28)), is_convolutional((1, 1, 64))
    (True, False)
    """
    return min(shape[1:]) >= MIN_SIDE


def build_network(
    network: NetworkConfig, shape: Shape, *, split_brain: bool = False
) -> Autoencoder:
    """Build an autoencoder with random weights.

    The weights are drawn from the global random generator of torch.

    Parameters
    ----------
    network : ConvNet or Backbone
        Configuration of the network.
    shape : tuple of int
        Channels, height and width of an image.
    split_brain : bool
        Whether to build a split-brain network: two networks with half the layer widths and half the
        embedding size. Each network encodes one half of the image and predicts the other half.

    Raises
    ------
    NearfarError
        If the images are too small for the backbone, or the network does not fit in memory.

    Examples
    --------
    >>> autoencoder = build_network(ConvNet(embedding_size=8), (1, 16, 16))
    >>> autoencoder(torch.rand(2, 1, 16, 16)).embeddings.shape
    torch.Size([2, 8])
    """
    network = resolve_network(network, shape)
    try:
        if isinstance(network, Backbone):
            return build_backbone(network, shape)
        if split_brain:
            return join_halves(*(_build(half, shape) for half in _halves(network)))
        return _build(network, shape)
    except (RuntimeError, TypeError) as error:  # the latter for sizes beyond 64 bits
        raise NearfarError(
            f"no memory for a network with embedding_size={network.embedding_size} and "
            f"widths={network.widths} on images {shape}"
        ) from error


def _build(network: ConvNet, shape: Shape) -> Autoencoder:
    autoencoder = (_convolutional if is_convolutional(shape) else _dense)(network, shape)
    initialize_autoencoder(autoencoder.encoder, autoencoder.decoder)
    if network.batch_norm:  # faster, also on CPUs
        autoencoder.to(memory_format=torch.channels_last)
    return autoencoder


def _halves(network: ConvNet) -> tuple[ConvNet, ConvNet]:
    """Return the configurations of the two halves of a split-brain network."""
    if network.embedding_size < 2:
        raise NearfarError("embedding_size=1: expected at least 2, to split between two halves")
    smaller = network.embedding_size // 2
    common: dict[str, Any] = {
        "widths": tuple(-(-width // 2) for width in network.widths or ()),
        "hidden": -(-network.hidden // 2),
    }
    first = replace(network, embedding_size=network.embedding_size - smaller, **common)
    return first, replace(network, embedding_size=smaller, **common)


def _convolutional(network: ConvNet, shape: Shape) -> Autoencoder:
    """Return an autoencoder; the encoder consists of stride-2 convolutions and linear layers."""
    channels, height, width = shape
    widths = network.widths or ()
    rows, columns = stride_two_sizes(height, width, len(widths))[-1]
    encoder: list[nn.Module] = []
    for inner, outer in pairwise((channels, *widths)):
        if not network.batch_norm:
            encoder += [nn.Conv2d(inner, outer, 3, stride=2, padding=1), nn.ReLU()]
        elif not encoder:
            encoder += _normalized(inner, outer, stride=2)
        else:
            encoder += [*_normalized(inner, outer), *_normalized(outer, outer, stride=2)]
    encoder.append(nn.Flatten())
    features = widths[-1] * rows * columns
    if network.hidden:
        hidden = network.hidden
        encoder += [nn.Linear(features, hidden), nn.BatchNorm1d(hidden), nn.ReLU()]
        features = hidden
    encoder.append(nn.Linear(features, network.embedding_size))
    if not network.batch_norm:
        encoder.append(nn.ReLU())
    decoder = deconvolutions(shape, network.embedding_size, widths)
    return Autoencoder(nn.Sequential(*encoder), decoder)


def _normalized(inner: int, outer: int, stride: int = 1) -> list[nn.Module]:
    """Return the layers of a block: 3×3 convolution, batch normalization and ReLU."""
    convolution = nn.Conv2d(inner, outer, 3, stride=stride, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(outer), nn.ReLU()]


def _dense(network: ConvNet, shape: Shape) -> Autoencoder:
    """Return an autoencoder of fully connected layers, with a mirrored decoder."""
    widths = (math.prod(shape), *(network.widths or ()), network.embedding_size)
    encoder = _layers(widths)
    if network.batch_norm:
        encoder[1:1] = [nn.BatchNorm1d(widths[1])]
    else:
        encoder.append(nn.ReLU())
    return Autoencoder(
        nn.Sequential(nn.Flatten(), *encoder),
        nn.Sequential(*_layers(widths[::-1]), nn.Sigmoid(), nn.Unflatten(1, shape)),
    )


def _layers(widths: Sequence[int]) -> list[nn.Module]:
    """Return linear layers with the given widths, with a ReLU between consecutive layers."""
    layers: list[nn.Module] = []
    for inner, outer in pairwise(widths):
        layers += [nn.ReLU(), nn.Linear(inner, outer)]
    return layers[1:]
