"""The networks that nearfar builds itself, from a description that fits in JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import nn

from nearfar.config import BackboneName
from nearfar.data import Shape
from nearfar.data.sizes import MIN_SIDE
from nearfar.errors import NearfarError
from nearfar.fields import check_fields
from nearfar.models.autoencoder import Autoencoder
from nearfar.models.backbones import (
    build_backbone,
    check_backbone,
    default_widths,
)
from nearfar.models.layers import (
    deconvolutions,
    init_embedding_bias,
    init_output_layer,
    initialize,
    stride_two_sizes,
)
from nearfar.models.split_brain import join_halves

MAX_WIDTH = 256


@dataclass(frozen=True)
class Architecture:
    """What is needed to build an autoencoder again.

    Parameters
    ----------
    shape : tuple of int
        Channels, height, width of an image. Convolutional for sides of at least 8 pixels; fully
        connected for anything smaller, such as feature vectors given as (1, 1, n).
    embedding_size : int
        Length d of an embedding.
    widths : tuple of int
        Channels (or units) of each layer of the encoder; mirrored in the decoder. Of a backbone,
        see `nearfar.models.backbones.build_backbone`.
    split_brain : bool
        Whether the network is two of half the widths and half the embedding, each of which predicts
        the half of the image that the other sees.
    normalized : bool
        Whether the encoder has batch normalization, two convolutions where the plain one has one,
        and embeddings without a ReLU.
    hidden : int
        Units of a layer between the convolutions of a normalized encoder and its embeddings; 0 for
        none.
    backbone : {"alexnet", "resnet18", "resnet50", "vit-small"}, optional
        A well-known encoder in place of these.
    """

    shape: Shape
    embedding_size: int = 128
    widths: tuple[int, ...] = ()
    split_brain: bool = False
    normalized: bool = False
    hidden: int = 0
    backbone: BackboneName | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.embedding_size < 1:
            raise NearfarError(f"embedding_size={self.embedding_size}: expected at least 1")
        if self.split_brain and self.embedding_size < 2:
            raise NearfarError("embedding_size=1: expected at least 2, to split between two halves")
        if self.hidden < 0 or (self.hidden and not self.normalized):
            raise NearfarError(
                f"hidden={self.hidden} with normalized={self.normalized}: expected 0, or units "
                "of a normalized encoder"
            )
        if any(width < 1 for width in self.widths):
            raise NearfarError(f"widths={self.widths}: expected whole numbers of at least 1")
        if self.backbone is not None:
            if self.split_brain or self.normalized:
                raise NearfarError(
                    f"backbone={self.backbone!r} is neither split nor normalized: expected "
                    "split_brain=False and normalized=False"
                )
            check_backbone(self.backbone, self.shape)
        if not self.widths:
            object.__setattr__(self, "widths", self._default_widths())

    @property
    def convolutional(self) -> bool:
        """Whether the images are large enough for convolutions."""
        return min(self.shape[1:]) >= MIN_SIDE

    def _default_widths(self) -> tuple[int, ...]:
        """Halve the sides until they are about 4 pixels, doubling the channels from 16."""
        if self.backbone is not None:
            return default_widths(self.backbone)
        if not self.convolutional:
            return (256,)
        halvings = max(2, round(math.log2(min(self.shape[1:]) / 4)))
        return tuple(min(16 * 2**i, MAX_WIDTH) for i in range(halvings))

    def build(self) -> Autoencoder:
        """Make the network, with fresh weights drawn from torch's global generator."""
        if self.split_brain:
            return join_halves(*(half.build() for half in self._halves()))
        if self.backbone is not None:
            return build_backbone(self.backbone, self.shape, self.embedding_size, self.widths)
        network = _convolutional(self) if self.convolutional else _dense(self)
        initialize(network)
        init_embedding_bias(network.encoder)
        init_output_layer(network.decoder)
        if self.normalized:  # faster, on CPUs, too
            network.to(memory_format=torch.channels_last)
        return network

    def _halves(self) -> tuple[Architecture, Architecture]:
        """What the halves of a split-brain network are, each on images of the whole shape."""
        widths = tuple(-(-width // 2) for width in self.widths)
        smaller = self.embedding_size // 2
        sizes = self.embedding_size - smaller, smaller
        first, second = (
            replace(
                self,
                embedding_size=size,
                widths=widths,
                split_brain=False,
                hidden=-(-self.hidden // 2),
            )
            for size in sizes
        )
        return first, second


def _convolutional(spec: Architecture) -> Autoencoder:
    """Convolutions that halve the sides, linear layers to the embeddings, and a decoder back."""
    channels, height, width = spec.shape
    rows, columns = stride_two_sizes(height, width, len(spec.widths))[-1]
    encoder: list[nn.Module] = []
    for inner, outer in pairwise((channels, *spec.widths)):
        if not spec.normalized:
            encoder += [nn.Conv2d(inner, outer, 3, stride=2, padding=1), nn.ReLU()]
        elif not encoder:
            encoder += _normalized(inner, outer, stride=2)
        else:
            encoder += [*_normalized(inner, outer), *_normalized(outer, outer, stride=2)]
    encoder.append(nn.Flatten())
    features = spec.widths[-1] * rows * columns
    if spec.hidden:
        encoder += [nn.Linear(features, spec.hidden), nn.BatchNorm1d(spec.hidden), nn.ReLU()]
        features = spec.hidden
    encoder.append(nn.Linear(features, spec.embedding_size))
    if not spec.normalized:
        encoder.append(nn.ReLU())
    decoder = deconvolutions(spec.shape, spec.embedding_size, spec.widths)
    return Autoencoder(nn.Sequential(*encoder), decoder)


def _normalized(inner: int, outer: int, stride: int = 1) -> list[nn.Module]:
    """A 3×3 convolution with batch normalization and a ReLU."""
    convolution = nn.Conv2d(inner, outer, 3, stride=stride, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(outer), nn.ReLU()]


def _dense(spec: Architecture) -> Autoencoder:
    """Fully connected layers, mirrored."""
    widths = (math.prod(spec.shape), *spec.widths, spec.embedding_size)
    encoder = _layers(widths)
    if spec.normalized:
        encoder[1:1] = [nn.BatchNorm1d(widths[1])]
    else:
        encoder.append(nn.ReLU())
    return Autoencoder(
        nn.Sequential(nn.Flatten(), *encoder),
        nn.Sequential(*_layers(widths[::-1]), nn.Sigmoid(), nn.Unflatten(1, spec.shape)),
    )


def _layers(widths: Sequence[int]) -> list[nn.Module]:
    """Linear layers with a ReLU between each two."""
    layers: list[nn.Module] = []
    for inner, outer in pairwise(widths):
        layers += [nn.ReLU(), nn.Linear(inner, outer)]
    return layers[1:]
