"""Networks: our own convolutional autoencoder, or a well-known backbone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

from nearfar.errors import NearfarError
from nearfar.fields import check_fields, check_ranges

BackboneName = Literal["alexnet", "resnet18", "resnet50", "vit-small"]
BACKBONES: tuple[BackboneName, ...] = get_args(BackboneName)


@dataclass(frozen=True, kw_only=True)
class ConvNet:
    """Convolutional autoencoder; fully connected for features and for sides below 8 pixels.

    Parameters
    ----------
    embedding_size : int
        Length d of an embedding.
    widths : tuple of int, optional
        Channels of each layer of the encoder, mirrored in the decoder. Default: doubled from 16
        for each halving of the image.
    batch_norm : bool
        Batch normalization and two convolutions per layer; embeddings are not rectified.
    hidden : int
        Units of a layer between convolutions and embeddings; 0 for none. Needs `batch_norm`.

    Examples
    --------
    >>> ConvNet(embedding_size=64, widths=(16, 32)).widths
    (16, 32)
    """

    kind: ClassVar[str] = "convnet"

    embedding_size: int = 128
    widths: tuple[int, ...] | None = None
    batch_norm: bool = False
    hidden: int = 0

    def __post_init__(self) -> None:
        check_fields(self)
        check_ranges(self, embedding_size=">= 1", widths=">= 1", hidden=">= 0")
        if self.hidden and not self.batch_norm:
            raise NearfarError(f"hidden={self.hidden} without batch_norm: expected batch_norm")


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """Well-known encoder with a decoder.

    Parameters
    ----------
    name : {"alexnet", "resnet18", "resnet50", "vit-small"}
        Well-known encoder. AlexNet's decoder is its mirror, as in the paper's Table 2.
    embedding_size : int
        Length d of an embedding.
    widths : tuple of int, optional
        Units of AlexNet's FC6, or channels of another backbone's decoder.
    initialization : {"random", "kmeans"}
        Initial weights: random, or centers of typical patches for convolutional backbones, scaled
        so that each unit has variance 1.

    Examples
    --------
    >>> Backbone(name="resnet18", embedding_size=512).initialization
    'random'
    """

    kind: ClassVar[str] = "backbone"

    name: BackboneName = field(metadata={"option": "backbone"})
    embedding_size: int = 128
    widths: tuple[int, ...] | None = None
    initialization: Literal["random", "kmeans"] = "random"

    def __post_init__(self) -> None:
        check_fields(self)
        check_ranges(self, embedding_size=">= 1", widths=">= 1")
        if self.initialization == "kmeans" and self.name == "vit-small":
            raise NearfarError(
                "initialization='kmeans' with backbone='vit-small': expected a convolutional "
                "backbone, or initialization='random'"
            )
