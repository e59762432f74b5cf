"""Where the weights come from: a run, a file, torchvision, or an initialization."""

from __future__ import annotations

from pathlib import Path

import torch

from nearfar.errors import NearfarError
from nearfar.models import Architecture
from nearfar.models.backbones import Backbone
from nearfar.models.kmeans_init import check_convolutional
from nearfar.models.pretrained import open_pretrained
from nearfar.runs import read_config, read_network

INITIALIZATIONS = ("random", "kmeans")
#: AlexNet as torchvision has it, for images of 224 pixels.
ALEXNET = Architecture((3, 224, 224), 4096, backbone="alexnet")


def describe(weights: str, like: Path | None = None) -> Architecture:
    """Return the architecture of weights, see `open_backbone`, as far as it is known before.

    Raises
    ------
    NearfarError
        If a run has no backbone, or is not there, or the weights are of a network themselves.
    """
    if like is not None and weights not in INITIALIZATIONS:
        raise NearfarError(
            f"like={str(like)!r} with the weights {weights!r}, which are of a network themselves: "
            "expected random or kmeans"
        )
    if like is not None and not like.is_dir():
        raise NearfarError(f"run {str(like)!r} does not exist: expected a folder from train")
    run = Path(weights) if weights not in INITIALIZATIONS else like
    if run is None or not run.is_dir():
        return ALEXNET
    architecture = read_config(run).architecture
    if architecture is None or architecture.backbone is None:
        raise NearfarError(
            f"run {str(run)!r} has no backbone to transfer: expected one trained with --backbone"
        )
    return architecture


def open_backbone(weights: str, *, like: Path | None = None, seed: int = 0) -> Backbone:
    """Return a backbone filled with weights, in evaluation mode.

    Parameters
    ----------
    weights : str
        A run folder; what `nearfar.models.pretrained.open_published` takes; "random"; or "kmeans",
        for random weights that `nearfar.models.kmeans_init` can take the place of.
    like : Path, optional
        A run whose network the last two take; torchvision's AlexNet if not given.
    seed : int
        Of the random weights.

    Raises
    ------
    NearfarError
        If there are no such weights, they are not of a backbone, or k-means is not for it.
    """
    architecture, path = describe(weights, like), Path(weights)
    if weights in INITIALIZATIONS:
        backbone = build(architecture, seed)
        if weights == "kmeans":
            check_convolutional(backbone)
        return backbone
    if path.is_dir():
        encoder = read_network(path).encoder
        assert isinstance(encoder, Backbone)  # noqa: S101 - what `describe` has checked
        return encoder
    return open_pretrained(weights)


def build(architecture: Architecture, seed: int) -> Backbone:
    """Make a backbone with fresh weights, in evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder = architecture.build().encoder
    assert isinstance(encoder, Backbone)  # noqa: S101 - for the type alone
    return encoder.eval()
