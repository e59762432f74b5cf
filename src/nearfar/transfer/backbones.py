"""Backbones with weights from a run, a file, timm or torchvision, or with initial weights."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from nearfar.config import Backbone, check_backbone_name
from nearfar.data import Images, Shape
from nearfar.errors import NearfarError
from nearfar.fields import check_fields, check_ranges
from nearfar.models import (
    BackboneEncoder,
    build_encoder,
    build_network,
    check_convolutional,
    default_widths,
    draw_kmeans_rows,
    initialize_by_kmeans,
    open_pretrained,
)
from nearfar.progress import Track, silent
from nearfar.runs import read_config, read_trained_network
from nearfar.transfer.heads import pooling_grid

INITIALIZATIONS = ("random", "kmeans")
#: torchvision's AlexNet, and its image size.
ALEXNET = Backbone(name="alexnet", embedding_size=4096), (3, 224, 224)


def backbone_of(weights: str, like: str | os.PathLike[str] | None = None) -> tuple[Backbone, Shape]:
    """Return the architecture and the image shape of the backbone that `weights` belongs to.

    For the arguments, see `open_backbone`. The weights themselves are not read. If they do not come
    from a run, AlexNet is assumed.

    Raises
    ------
    NearfarError
        If a run is missing or has no backbone, or `like` is given although the weights determine
        the network.

    Examples
    --------
    >>> backbone_of("random")[0].name
    'alexnet'
    """
    like = None if like is None else Path(like)
    if like is not None and weights not in INITIALIZATIONS:
        raise NearfarError(
            f"like={str(like)!r} with the weights {weights!r}, which determine the network: "
            "expected random or kmeans"
        )
    if like is not None and not like.is_dir():
        raise NearfarError(f"run {str(like)!r} does not exist: expected a folder from train")
    run = Path(weights) if weights not in INITIALIZATIONS else like
    if run is None or not run.is_dir():
        return ALEXNET
    config = read_config(run)
    network = config.train.network
    if not isinstance(network, Backbone):
        raise NearfarError(
            f"run {str(run)!r} has no backbone to transfer: expected one trained with --backbone"
        )
    return network, config.data.shape


def open_backbone(
    weights: str, *, like: str | os.PathLike[str] | None = None, seed: int = 0
) -> BackboneEncoder:
    """Return a backbone with the given weights, in evaluation mode.

    Parameters
    ----------
    weights : str
        One of the following: a run folder; "timm:NAME" for pretrained weights; the path of a file
        with torchvision weights of AlexNet, ResNet-18 or ResNet-50, or the name of such weights in
        torchvision; "random"; or "kmeans" for random weights, which `initialize_backbone` replaces
        later.
    like : path, optional
        Folder of a run with the architecture for "random" and "kmeans". Default: the AlexNet of
        torchvision.
    seed : int
        Seed of the random weights.

    Raises
    ------
    NearfarError
        If the weights are missing or do not belong to a known backbone, or k-means is requested for
        a backbone that does not consist of plain convolutions.

    Examples
    --------
    >>> import tempfile
    >>> from safetensors.torch import save_file
    >>> from torchvision.models import resnet18
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_file(resnet18().state_dict(), f"{folder}/weights.safetensors")
    ...     open_backbone(f"{folder}/weights.safetensors").name
    'timm:resnet18'
    """
    (network, shape), path = backbone_of(weights, like), Path(weights)
    if weights in INITIALIZATIONS:
        backbone = new_backbone(network, shape, seed)
        if weights == "kmeans":
            check_convolutional(backbone)
        return backbone
    if path.is_dir():
        encoder = read_trained_network(path).encoder
        assert isinstance(encoder, BackboneEncoder)  # noqa: S101 - `backbone_of` has checked
        return encoder
    return open_pretrained(weights)


def initialize_backbone(
    backbone: BackboneEncoder,
    weights: str,
    n: int,
    choose: Callable[[list[int]], Images],
    *,
    seed: int = 0,
    track: Track = silent,
) -> None:
    """Initialize a backbone by k-means, in place, if `weights` is "kmeans".

    Parameters
    ----------
    backbone : BackboneEncoder
        Backbone to initialize.
    weights : str
        See `open_backbone`. For any value other than "kmeans", nothing is done.
    n : int
        Number of training images.
    choose : callable
        Function that returns the training images with the given row numbers; called with at most
        500 random ones.
    seed : int
        Seed for the random row numbers and for k-means.
    track : Track
        Progress display, see `nearfar.progress.Track`.
    """
    if weights == "kmeans":
        initialize_by_kmeans(backbone, choose(draw_kmeans_rows(n, seed)), seed, track)


def new_backbone(network: Backbone, shape: Shape, seed: int = 0) -> BackboneEncoder:
    """Build a backbone for images of shape (c, h, w) with random weights, in evaluation mode.

    Examples
    --------
    >>> network = Backbone(name="alexnet", embedding_size=16, widths=(24,))
    >>> new_backbone(network, (3, 64, 64)).name
    'alexnet'
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder = build_network(network, shape).encoder
    assert isinstance(encoder, BackboneEncoder)  # noqa: S101 - for the type alone
    return encoder.eval()


@dataclass(frozen=True, kw_only=True)
class BackboneSpec:
    """Architecture of a backbone without weights, from which the backbone can be rebuilt.

    Parameters
    ----------
    name : str
        Name of the architecture, "alexnet" or "timm:NAME".
    embedding_size : int
        Dimension of the embeddings.
    widths : tuple of int
        For AlexNet, the width of layer FC6. Unused for timm models.
    image_size : tuple of int
        Height and width of the images for which the network is built.

    Examples
    --------
    >>> spec = BackboneSpec(
    ...     name="alexnet", embedding_size=16, widths=(24,), image_size=(63, 63)
    ... )
    >>> BackboneSpec.of(spec.build()) == spec
    True
    """

    name: str
    embedding_size: int
    widths: tuple[int, ...]
    image_size: tuple[int, int]

    def __post_init__(self) -> None:
        check_fields(self)
        check_backbone_name(self.name)
        check_ranges(self, embedding_size=">= 1", widths=">= 1", image_size=">= 16")

    @classmethod
    def of(cls, backbone: BackboneEncoder) -> BackboneSpec:
        """Return the specification of a backbone, which must still have its original head."""
        widths, sides = default_widths(backbone.name), (224, 224)
        if backbone.name == "alexnet":
            fc6 = backbone.get_submodule("head.fc6")
            assert isinstance(fc6, nn.Linear)  # noqa: S101 - for the type alone
            # Sides of the smallest images that give this grid before FC6.
            height, width = (63 + 32 * (side - 1) for side in pooling_grid(backbone))
            widths, sides = (fc6.out_features,), (height, width)
        return cls(
            name=backbone.name,
            embedding_size=backbone.embedding_size,
            widths=widths,
            image_size=sides,
        )

    def build(self) -> BackboneEncoder:
        """Build the backbone with random weights, in evaluation mode.

        Raises
        ------
        NearfarError
            If the network does not fit in memory.
        """
        try:
            with torch.random.fork_rng():
                return build_encoder(
                    self.name, (3, *self.image_size), self.embedding_size, self.widths
                ).eval()
        except RuntimeError as error:
            raise NearfarError(f"no memory for the network {self}") from error
