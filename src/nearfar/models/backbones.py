"""Backbones: AlexNet, ResNets and a vision transformer, each with a decoder."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from nearfar.config import BackboneName
from nearfar.data import Shape
from nearfar.errors import NearfarError
from nearfar.models.autoencoder import Autoencoder
from nearfar.models.layers import (
    deconvolutions,
    init_embedding_bias,
    init_output_layer,
    initialize,
)
from nearfar.models.receptive_field import FeatureGrid

#: Smallest side of an image per backbone, in pixels.
BACKBONE_MIN_SIDES: dict[BackboneName, int] = {
    "alexnet": 63,
    "resnet18": 32,
    "resnet50": 32,
    "vit-small": 16,
}

#: Default units of AlexNet's first fully connected layer.
FC6_UNITS = 4096

#: Mean and standard deviation of ImageNet's pixels, per color.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class BackboneEncoder(nn.Module):
    """Well-known encoder in two parts: features, which tasks may use alone, and a head.

    Parameters
    ----------
    name : {"alexnet", "resnet18", "resnet50", "vit-small"}
        Name of the architecture.
    features : nn.Module
        From normalized images, float[b, 3, h, w], to a feature map, float[b, k, h', w'].
    head : nn.Module
        From a feature map to embeddings, float[b, d].
    channels : int
        k, channels of the feature map.

    Attributes
    ----------
    grid : FeatureGrid
        Centers of the cells of the feature map in the image.

    Examples
    --------
    >>> from torch import nn
    >>> head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    >>> backbone = BackboneEncoder("resnet18", nn.Conv2d(3, 8, 4, stride=4), head, channels=8)
    >>> backbone(torch.rand(2, 3, 32, 32)).shape, backbone.grid.stride
    (torch.Size([2, 8]), 4)
    """

    def __init__(
        self, name: BackboneName, features: nn.Module, head: nn.Module, channels: int
    ) -> None:
        super().__init__()
        self.name, self.features, self.head, self.channels = name, features, head, channels
        self.grid = FeatureGrid().behind(features)
        for buffer, values in (("mean", IMAGENET_MEAN), ("deviation", IMAGENET_STD)):
            self.register_buffer(buffer, torch.tensor(values).view(3, 1, 1), persistent=False)

    @property
    def embedding_size(self) -> int:
        """Length d of an embedding."""
        linear = [layer for layer in self.head.children() if isinstance(layer, nn.Linear)]
        return linear[-1].out_features if linear else self.channels

    def feature_map(self, images: Tensor) -> Tensor:
        """Compute the feature map, float[b, k, h', w'], of images, float[b, 1 or 3, h, w] in 0…1.

        Images are normalized by ImageNet's mean and deviation, as pre-trained weights expect.
        """
        features: Tensor = self.features(self._normalize(images))
        return features

    def feature_maps(self, images: Tensor) -> dict[FeatureGrid, Tensor]:
        """Compute the last feature map per stride, float[b, k', h', w'], by grid, finest first."""
        layers = self.features if isinstance(self.features, nn.Sequential) else [self.features]
        maps, grid, values = dict[FeatureGrid, Tensor](), FeatureGrid(), self._normalize(images)
        for layer in layers:
            grid, values = grid.behind(layer), layer(values)
            maps[grid] = values
        return maps

    def _normalize(self, images: Tensor) -> Tensor:
        return (images - self.get_buffer("mean")) / self.get_buffer("deviation")

    def forward(self, images: Tensor) -> Tensor:
        """Compute embeddings, float[b, d], of images, float[b, 1 or 3, h, w] in 0…1."""
        embeddings: Tensor = self.head(self.feature_map(images))
        return embeddings


def check_backbone(name: BackboneName, shape: Shape) -> None:
    """Check that images of a shape (c, h, w) are large enough for a backbone.

    Raises
    ------
    NearfarError
        If they are too small; the message names the smallest side.

    Examples
    --------
    >>> check_backbone("resnet18", (3, 64, 64))
    """
    _, height, width = shape
    if min(height, width) < BACKBONE_MIN_SIDES[name]:
        raise NearfarError(
            f"images of {height}x{width} pixels are too small for backbone={name!r}: expected "
            f"{BACKBONE_MIN_SIDES[name]} or more per side; use a larger size or another backbone"
        )


def default_widths(name: BackboneName) -> tuple[int, ...]:
    """Return the default widths of `build_backbone`."""
    if name == "alexnet":
        return (FC6_UNITS,)
    halvings = 4 if name == "vit-small" else 5
    return tuple(min(16 * 2**i, 256) for i in range(halvings))


def build_encoder(
    name: BackboneName, shape: Shape, embedding_size: int, widths: Sequence[int]
) -> BackboneEncoder:
    """Build a backbone with weights drawn from torch's global generator.

    Parameters
    ----------
    name : {"alexnet", "resnet18", "resnet50", "vit-small"}
        Name of the architecture. Embeddings are layer FC7 of AlexNet; for others, the mean of the
        feature map, followed by a linear layer and a ReLU unless `embedding_size` is the number
        of channels.
    shape : tuple of int
        Channels, height, width of the images, see `check_backbone`.
    embedding_size : int
        Length d of an embedding.
    widths : sequence of int
        Units of AlexNet's FC6; unused for others.
    """
    check_backbone(name, shape)
    if name == "alexnet":
        return _alexnet(shape, embedding_size, widths)
    encoder = (
        _vit_small(shape, embedding_size) if name == "vit-small" else _resnet(name, embedding_size)
    )
    init_embedding_bias(encoder.head)
    return encoder


def build_backbone(
    name: BackboneName, shape: Shape, embedding_size: int, widths: Sequence[int]
) -> Autoencoder:
    """Build a backbone with a decoder.

    Parameters
    ----------
    name, shape, embedding_size
        See `build_encoder`.
    widths : sequence of int
        Units of AlexNet's FC6, mirrored in the decoder; channels of the decoder for others.

    Examples
    --------
    >>> network = build_backbone("alexnet", (3, 64, 64), embedding_size=8, widths=[16])
    >>> network(torch.rand(1, 3, 64, 64)).reconstruction.shape
    torch.Size([1, 3, 64, 64])
    """
    encoder = build_encoder(name, shape, embedding_size, widths)
    mirror = _alexnet_mirror if name == "alexnet" else deconvolutions
    decoder = mirror(shape, embedding_size, widths)
    initialize(decoder)
    init_output_layer(decoder)
    return Autoencoder(encoder, decoder)


def _alexnet_sides(shape: Shape) -> list[tuple[int, int]]:
    """Return height and width of an image after AlexNet's conv1 and its three poolings."""
    _, height, width = shape
    sides = [((height - 7) // 4 + 1, (width - 7) // 4 + 1)]
    for _ in range(3):
        height, width = sides[-1]
        sides.append(((height - 1) // 2, (width - 1) // 2))
    return sides


def _alexnet_grid(shape: Shape) -> tuple[int, int]:
    """Return height and width of the input of FC6: 6×6, as in torchvision, or less."""
    height, width = _alexnet_sides(shape)[-1]
    return min(height, 6), min(width, 6)


# torchvision takes seconds to import, so only the functions that need it do.


def _alexnet(shape: Shape, embedding_size: int, widths: Sequence[int]) -> BackboneEncoder:
    """Build AlexNet [1]_ up to FC7, in torchvision's version.

    .. [1] A. Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014.
    """
    from torchvision.models import alexnet

    if len(widths) != 1:
        raise NearfarError(f"widths={tuple(widths)}: expected one, the units of AlexNet's FC6")
    with torch.device("meta"):
        layers = alexnet().features
    layers.to_empty(device="cpu")
    grid = _alexnet_grid(shape)
    head = OrderedDict[str, nn.Module](
        pool=layers[12],
        grid=nn.AdaptiveAvgPool2d(grid),
        flatten=nn.Flatten(),
        fc6=nn.Linear(256 * math.prod(grid), widths[0]),
        relu6=nn.ReLU(),
        fc7=nn.Linear(widths[0], embedding_size),
        relu7=nn.ReLU(),
    )
    encoder = BackboneEncoder("alexnet", layers[:12], nn.Sequential(head), channels=256)
    initialize(encoder)
    init_embedding_bias(encoder)
    return encoder


def _alexnet_mirror(shape: Shape, embedding_size: int, widths: Sequence[int]) -> nn.Sequential:
    """Build the mirror of AlexNet: transposed convolutions, and up-sampling for pooling."""
    channels, height, width = shape
    first, second, third, _ = _alexnet_sides(shape)
    grid = _alexnet_grid(shape)
    # conv1, of stride 4, maps several sides to one: the padding restores the right one.
    padding = ((height - 7) % 4, (width - 7) % 4)
    return nn.Sequential(
        nn.Linear(embedding_size, widths[0]),
        nn.ReLU(),
        nn.Linear(widths[0], 256 * math.prod(grid)),
        nn.ReLU(),
        nn.Unflatten(1, (256, *grid)),
        nn.Upsample(third),
        *(nn.ConvTranspose2d(256, 256, 3, padding=1), nn.ReLU()),
        *(nn.ConvTranspose2d(256, 384, 3, padding=1), nn.ReLU()),
        *(nn.ConvTranspose2d(384, 192, 3, padding=1), nn.ReLU()),
        nn.Upsample(second),
        *(nn.ConvTranspose2d(192, 64, 5, padding=2), nn.ReLU()),
        nn.Upsample(first),
        nn.ConvTranspose2d(64, channels, 11, stride=4, padding=2, output_padding=padding),
        nn.Sigmoid(),
    )


def _resnet(name: BackboneName, embedding_size: int) -> BackboneEncoder:
    """Build a residual network [1]_ up to its last block.

    .. [1] K. He et al., "Deep residual learning for image recognition", CVPR 2016.
    """
    from torchvision.models import get_model

    layers = OrderedDict(get_model(name).named_children())
    channels = layers.pop("fc").in_features
    del layers["avgpool"]
    return BackboneEncoder(name, nn.Sequential(layers), _mean(channels, embedding_size), channels)


def _vit_small(shape: Shape, embedding_size: int) -> BackboneEncoder:
    """Build ViT-S/16, the vision transformer [1]_ of the size "small" in [2]_.

    .. [1] A. Dosovitskiy et al., "An image is worth 16x16 words", ICLR 2021.
    .. [2] H. Touvron et al., "Training data-efficient image transformers", ICML 2021.
    """
    features = PatchTransformer(max(shape[1:]))
    return BackboneEncoder("vit-small", features, _mean(384, embedding_size), channels=384)


def _mean(channels: int, embedding_size: int) -> nn.Sequential:
    """Build a head: the mean of a feature map, mapped to another length if needed."""
    pooled = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    if embedding_size == channels:
        return nn.Sequential(*pooled)
    linear = nn.Linear(channels, embedding_size)
    initialize(linear)
    return nn.Sequential(*pooled, linear, nn.ReLU())


class PatchTransformer(nn.Module):
    """Vision transformer of torchvision that returns a feature map of patches.

    Parameters
    ----------
    side : int
        Side of the images, in pixels; positions are interpolated for others.
    """

    def __init__(self, side: int) -> None:
        from torchvision.models import VisionTransformer

        super().__init__()
        self.patches = side // 16
        self.transformer = VisionTransformer(
            image_size=16 * self.patches,
            patch_size=16,
            num_layers=12,
            num_heads=6,
            hidden_dim=384,
            mlp_dim=1536,
        )
        self.transformer.heads = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """Map normalized images, float[b, 3, h, w], to float[b, 384, h // 16, w // 16]."""
        grid = self.transformer.conv_proj(images)
        size = grid.shape[2:]
        first = self.transformer.class_token.expand(len(images), -1, -1)
        tokens = torch.cat([first, grid.flatten(2).mT], dim=1) + self._positions(size)
        encoder = self.transformer.encoder
        tokens = encoder.ln(encoder.layers(encoder.dropout(tokens)))
        return tokens[:, 1:].mT.unflatten(2, size)

    def _positions(self, size: torch.Size) -> Tensor:
        """Return position embeddings of class token and patches, float[1, 1 + h' · w', 384]."""
        positions: Tensor = self.transformer.encoder.pos_embedding
        if tuple(size) == (self.patches, self.patches):
            return positions
        grid = positions[:, 1:].mT.unflatten(2, (self.patches, self.patches))
        grid = interpolate(grid, tuple(size), mode="bicubic", align_corners=False)
        return torch.cat([positions[:, :1], grid.flatten(2).mT], dim=1)
