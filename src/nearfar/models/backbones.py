"""Backbones: AlexNet and timm models, each with a decoder."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nearfar.config import Backbone
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
from nearfar.models.timm_models import (
    build_model,
    describe_model,
    final_map,
    grids_of_model,
    is_timm,
)

#: Minimum image side for AlexNet, in pixels.
ALEXNET_MIN_SIDE = 63
#: Image side for AlexNet's pretrained weights, in pixels.
ALEXNET_SIDE = 224

#: Width of AlexNet's fully connected layers, as published.
FC6_UNITS = FC7_UNITS = 4096

#: Number of pooling layers at the start of a head.
_POOLING = 2

#: Mean and standard deviation of ImageNet's pixels, per color.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class BackboneEncoder(nn.Module):
    """Encoder with a known architecture, divided into features and a head.

    Parameters
    ----------
    name : str
        Name of the architecture, such as "alexnet".
    features : nn.Module
        Module that takes normalized images (float[b, 3, h, w]) and returns a feature map
        (float[b, k, h', w']). Some transfer tasks use the feature map without the head.
    head : nn.Sequential
        Module that takes a feature map and returns embeddings (float[b, d]).
    channels : int
        Number k of channels of the feature map.
    mean, std : sequence of float
        Mean and standard deviation of each color channel, used to normalize images. Default: the
        values of ImageNet.

    Attributes
    ----------
    grid : FeatureGrid
        Positions of the cells of the feature map in the image.
    freeze_batch_norm : bool
        Whether batch normalization stays in evaluation mode during training, see `train`.

    Examples
    --------
    >>> from torch import nn
    >>> head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    >>> backbone = BackboneEncoder("mine", nn.Conv2d(3, 8, 4, stride=4), head, channels=8)
    >>> backbone(torch.rand(2, 3, 32, 32)).shape, backbone.grid.stride
    (torch.Size([2, 8]), 4)
    """

    freeze_batch_norm = False

    def __init__(
        self,
        name: str,
        features: nn.Module,
        head: nn.Sequential,
        channels: int,
        *,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.name, self.features, self.head, self.channels = name, features, head, channels
        self.grid = FeatureGrid().after(features)
        for buffer, values in (("mean", mean), ("std", std)):
            self.register_buffer(buffer, torch.tensor(values).view(-1, 1, 1), persistent=False)

    @property
    def embedding_size(self) -> int:
        """Dimension d of the embeddings."""
        linear = [layer for layer in self.head.children() if isinstance(layer, nn.Linear)]
        return linear[-1].out_features if linear else self.channels

    def feature_map(self, images: Tensor) -> Tensor:
        """Return the feature map (float[b, k, h', w']) of a batch of images.

        The images are float[b, 1 or 3, h, w], with values in [0, 1]. They are first normalized with
        `mean` and `std`, as pretrained weights require.
        """
        features: Tensor = self.features(self._normalize(images))
        return features

    def feature_maps(self, images: Tensor) -> dict[FeatureGrid, Tensor]:
        """Return the feature maps (float[b, k', h', w']) of the images by grid, finest grid first.

        If several layers have the same grid, only the feature map of the last one is returned.
        """
        layers = self.features if isinstance(self.features, nn.Sequential) else [self.features]
        maps, grid, values = dict[FeatureGrid, Tensor](), FeatureGrid(), self._normalize(images)
        for layer in layers:
            grid, values = grid.after(layer), layer(values)
            maps[grid] = values
        return maps

    def train(self, mode: bool = True) -> Self:
        """Set training or evaluation mode.

        With `freeze_batch_norm`, batch normalization stays in evaluation mode.
        """
        super().train(mode)
        if self.freeze_batch_norm:
            for layer in self.modules():
                if isinstance(layer, _BatchNorm):
                    layer.eval()
        return self

    def _normalize(self, images: Tensor) -> Tensor:
        mean, std = self.get_buffer("mean"), self.get_buffer("std")
        if len(mean) == 1:
            images = images.mean(1, keepdim=True)
        return (images - mean) / std

    def forward(self, images: Tensor) -> Tensor:
        """Return the embeddings (float[b, d]) of a batch of images.

        The images are float[b, 1 or 3, h, w], with values in [0, 1].
        """
        embeddings: Tensor = self.head(self.feature_map(images))
        return embeddings


class TimmEncoder(BackboneEncoder):
    """Encoder that consists of a timm model [1]_ with its pooling layer but without its classifier.

    Parameters
    ----------
    name : str
        "timm:" followed by the name of the model in timm.
    embedding_size : int, optional
        Dimension d of the embeddings. Default: the output dimension of the model. For any other
        value, a linear layer and a ReLU are added.

    References
    ----------
    .. [1] R. Wightman, "PyTorch image models", github.com/huggingface/pytorch-image-models.

    Examples
    --------
    >>> encoder = TimmEncoder("timm:resnet18").eval()
    >>> encoder(torch.rand(2, 3, 64, 64)).shape, encoder.grid.stride
    (torch.Size([2, 512]), 32)
    """

    def __init__(self, name: str, embedding_size: int | None = None) -> None:
        about = describe_model(name)
        head = _mean(about.pooled, embedding_size or about.pooled)
        features = build_model(name).to(memory_format=torch.channels_last)  # faster, also on CPUs
        super().__init__(name, features, head, about.channels, mean=about.mean, std=about.std)
        self.pooled = about.pooled
        self.grids = grids_of_model(features)
        self.grid = self.grids[-1]  # of the last stage

    @property
    def embedding_size(self) -> int:
        """Dimension d of the embeddings."""
        return super().embedding_size if len(self.head) > _POOLING else self.pooled

    def feature_map(self, images: Tensor) -> Tensor:
        """See `BackboneEncoder.feature_map`.

        `head` averages this feature map; `forward` uses the pooling layer of the model instead.
        """
        return self.feature_maps(images)[self.grid]

    def feature_maps(self, images: Tensor) -> dict[FeatureGrid, Tensor]:
        """See `BackboneEncoder.feature_maps`."""
        last, stages = final_map(self.features, self._normalize(images))
        maps = {
            grid.stride: (grid, values)
            for grid, values in zip(self.grids, [*stages[:-1], last], strict=True)
        }
        return dict(maps.values())

    def forward(self, images: Tensor) -> Tensor:
        """See `BackboneEncoder.forward`."""
        embeddings: Tensor = self.head[_POOLING:](self.features(self._normalize(images)))
        return embeddings


def check_backbone(name: str, shape: Shape) -> None:
    """Check that images of shape (c, h, w) are large enough for a backbone.

    Raises
    ------
    NearfarError
        If the images are too small. The message states the minimum height and width.

    Examples
    --------
    >>> check_backbone("alexnet", (3, 64, 64))
    """
    _, height, width = shape
    least = describe_model(name).stride if is_timm(name) else ALEXNET_MIN_SIDE
    if min(height, width) < least:
        raise NearfarError(
            f"images of {height}x{width} pixels are too small for backbone={name!r}: expected "
            f"{least} or more per side; use a larger size or another backbone"
        )


def image_size(name: str) -> tuple[int, int]:
    """Return the height and width of the images that a backbone was designed for.

    Examples
    --------
    >>> image_size("alexnet")
    (224, 224)
    """
    return describe_model(name).size if is_timm(name) else (ALEXNET_SIDE, ALEXNET_SIDE)


def pretrained_size(network: Backbone) -> int | None:
    """Return the image side in pixels for which pretrained weights were trained.

    Return None if the configuration does not use pretrained weights.

    Examples
    --------
    >>> pretrained_size(Backbone(name="alexnet", weights="pretrained"))
    224
    """
    return max(image_size(network.name)) if network.pretrained else None


def default_embedding_size(network: Backbone) -> int:
    """Return the default embedding size of a backbone.

    Examples
    --------
    >>> default_embedding_size(Backbone(name="timm:resnet18"))
    512
    """
    if is_timm(network.name):
        return describe_model(network.name).pooled
    return FC7_UNITS if network.pretrained else 128


def default_widths(name: str) -> tuple[int, ...]:
    """Return the default of `Backbone.widths` for the backbone with the given name.

    Examples
    --------
    >>> default_widths("alexnet")
    (4096,)
    """
    if not is_timm(name):
        return (FC6_UNITS,)
    halvings = max(1, round(math.log2(describe_model(name).stride)))
    return tuple(min(16 * 2**i, 256) for i in range(halvings))


def build_encoder(
    name: str, shape: Shape, embedding_size: int, widths: Sequence[int]
) -> BackboneEncoder:
    """Build the encoder of a backbone with random weights.

    The weights are drawn from the global random generator of torch.

    Parameters
    ----------
    name : str
        "alexnet" or "timm:NAME". The embeddings of AlexNet are the outputs of layer FC7. For timm
        models, see `TimmEncoder`.
    shape : tuple of int
        Channels, height and width of the images, see `check_backbone`.
    embedding_size : int
        Dimension d of the embeddings.
    widths : sequence of int
        For AlexNet, the width of layer FC6, as a sequence of length 1. Unused for timm models.

    Examples
    --------
    >>> build_encoder("alexnet", (3, 64, 64), 16, (24,))(torch.rand(2, 3, 64, 64)).shape
    torch.Size([2, 16])
    """
    check_backbone(name, shape)
    if name == "alexnet":
        return _alexnet(shape, embedding_size, widths)
    encoder = TimmEncoder(name, embedding_size)
    init_embedding_bias(encoder.head)
    return encoder


def build_backbone(network: Backbone, shape: Shape) -> Autoencoder:
    """Build a backbone and a decoder with random weights.

    The weights are drawn from the global random generator of torch.

    Parameters
    ----------
    network : Backbone
        Configuration of the backbone. Pretrained weights are not loaded; use `load_pretrained`.
    shape : tuple of int
        Channels, height and width of the images, see `check_backbone`.

    Examples
    --------
    >>> backbone = Backbone(name="alexnet", embedding_size=8, widths=(16,))
    >>> build_backbone(backbone, (3, 64, 64))(torch.rand(1, 3, 64, 64)).reconstruction.shape
    torch.Size([1, 3, 64, 64])
    """
    size = network.embedding_size or default_embedding_size(network)
    widths = network.widths or default_widths(network.name)
    encoder = build_encoder(network.name, shape, size, widths)
    encoder.freeze_batch_norm = network.freeze_batch_norm
    mirror = deconvolutions if is_timm(network.name) else _alexnet_mirror
    decoder = mirror(shape, size, widths)
    initialize(decoder)
    init_output_layer(decoder)
    return Autoencoder(encoder, decoder)


def _alexnet_sides(shape: Shape) -> list[tuple[int, int]]:
    """Return the height and width of the feature map after conv1 and each pooling of AlexNet."""
    _, height, width = shape
    sides = [((height - 7) // 4 + 1, (width - 7) // 4 + 1)]
    for _ in range(3):
        height, width = sides[-1]
        sides.append(((height - 1) // 2, (width - 1) // 2))
    return sides


def _alexnet_grid(shape: Shape) -> tuple[int, int]:
    """Return the height and width of the input of layer FC6: at most 6×6, as in torchvision."""
    height, width = _alexnet_sides(shape)[-1]
    return min(height, 6), min(width, 6)


# torchvision takes seconds to import, so only the functions that need it import it.


def _alexnet(shape: Shape, embedding_size: int, widths: Sequence[int]) -> BackboneEncoder:
    """Build the torchvision version of AlexNet [1]_ up to layer FC7.

    .. [1] A. Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014.
    """
    from torchvision.models import alexnet

    if len(widths) != 1:
        raise NearfarError(f"widths={tuple(widths)}: expected one width, that of AlexNet's FC6")
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
    """Build a decoder that mirrors AlexNet.

    Transposed convolutions replace the convolutions, and upsampling replaces the pooling.
    """
    channels, height, width = shape
    first, second, third, _ = _alexnet_sides(shape)
    grid = _alexnet_grid(shape)
    # conv1, with stride 4, maps several sides to one; the output padding restores the original.
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


def _mean(channels: int, embedding_size: int) -> nn.Sequential:
    """Build a head that averages a feature map.

    If the number of channels differs from `embedding_size`, a linear layer and a ReLU follow.
    """
    pooling = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    if embedding_size == channels:
        return nn.Sequential(*pooling)
    linear = nn.Linear(channels, embedding_size)
    initialize(linear)
    return nn.Sequential(*pooling, linear, nn.ReLU())
