"""Networks: a convolutional autoencoder, or a standard backbone with a decoder."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from nearfar.errors import NearfarError
from nearfar.fields import check_fields, check_ranges

#: Prefix of timm backbones.
TIMM = "timm:"
#: Encoder whose pretrained weights are small, and also available as a package.
DEFAULT_ENCODER = "timm:tf_efficientnet_lite0"


@dataclass(frozen=True, kw_only=True)
class ConvNet:
    """Convolutional autoencoder.

    It is fully connected for feature vectors and for images with a side below 8 pixels.

    Parameters
    ----------
    embedding_size : int
        Length d of an embedding.
    widths : tuple of int, optional
        Number of channels of each encoder layer. The decoder mirrors the encoder. Default: 16 in
        the first layer, and twice as many each time the image size is halved.
    batch_norm : bool
        Whether to use batch normalization, two convolutions per layer, and no ReLU on embeddings.
    hidden : int
        Width of a hidden layer between convolutions and embeddings, or 0 for none. A hidden layer
        requires `batch_norm`.

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
    """Standard encoder (AlexNet or a timm model) with a decoder.

    Parameters
    ----------
    name : str
        "alexnet", with a mirrored decoder as in Table 2 of the paper; or "timm:NAME" for any image
        model of timm, such as "timm:resnet18".
    weights : str
        Initial weights of the encoder: "random"; "kmeans", k-means centers of image patches, scaled
        so that each output channel has unit variance (plain convolutions only); "pretrained", from
        torchvision for AlexNet, otherwise from timm; or a file, either .safetensors or a state dict
        saved with torch.save.
    freeze_batch_norm : bool
        Whether to keep the batch normalization statistics of the initial weights.
    embedding_size : int, optional
        Length d of an embedding. Default: the model's own length for pretrained weights and for
        timm models; 128 for AlexNet with other weights. If another length is given, a linear layer
        and a ReLU are added to timm models.
    widths : tuple of int, optional
        For AlexNet, the width of FC6 (one number); for other backbones, the number of channels of
        each decoder layer.

    Examples
    --------
    >>> Backbone(name="timm:resnet18").weights
    'random'
    >>> Backbone(name="resnet18")
    Traceback (most recent call last):
    nearfar.errors.NearfarError: backbone='resnet18': expected alexnet or timm:resnet18
    """

    kind: ClassVar[str] = "backbone"

    name: str = field(metadata={"option": "backbone"})
    weights: str = "random"
    freeze_batch_norm: bool = False
    embedding_size: int | None = None
    widths: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        check_backbone_name(self.name)
        check_ranges(self, embedding_size=">= 1", widths=">= 1")

    @property
    def pretrained(self) -> bool:
        """Whether the initial weights are pretrained."""
        return self.weights not in ("random", "kmeans")


NetworkConfig = ConvNet | Backbone


def check_backbone_name(name: str, option: str = "backbone") -> None:
    """Check the form of a backbone's name. Whether timm has the model is not checked.

    Raises
    ------
    NearfarError
        If the name is not "alexnet" and does not begin with "timm:".

    Examples
    --------
    >>> check_backbone_name("timm:resnet18")
    """
    if name != "alexnet" and not name.startswith(TIMM):
        raise NearfarError(f"{option}={name!r}: expected alexnet or {TIMM}{name or 'NAME'}")
