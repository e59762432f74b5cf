"""Where the weights come from: a run, a file, torchvision, or an initialization."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from nearfar.artifacts import read_config, read_network
from nearfar.data.reasons import reason
from nearfar.errors import NearfarError
from nearfar.models import Architecture
from nearfar.models.backbones import Backbone, BackboneName
from nearfar.transfer.initialization import initialize_by_kmeans

INITIALIZATIONS = ("random", "kmeans")
#: AlexNet as torchvision has it, for images of 224 pixels.
ALEXNET = Architecture((3, 224, 224), 4096, backbone="alexnet")

#: The layers of torchvision's AlexNet that a backbone has, other than its features.
RENAMED = {"classifier.1.": "head.fc6.", "classifier.4.": "head.fc7."}

Sample = Callable[[], Tensor]


def describe(weights: str, like: Path | None = None) -> Architecture:
    """Return the architecture of weights, see `open_backbone`, as far as it is known before.

    Raises
    ------
    NearfarError
        If a run has no backbone, or is not there.
    """
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


def open_backbone(
    weights: str, *, like: Path | None = None, sample: Sample | None = None, seed: int = 0
) -> Backbone:
    """Make a backbone and fill it with weights.

    Parameters
    ----------
    weights : str
        A run folder; a .safetensors file of torchvision's AlexNet, ResNet-18 or ResNet-50; the
        name of such weights, such as "AlexNet_Weights.IMAGENET1K_V1", which are downloaded;
        "random"; or "kmeans", see `nearfar.transfer.initialization`.
    like : Path, optional
        A run whose network the last two take; torchvision's AlexNet if not given.
    sample : callable, optional
        Gives images, float[b, 3, h, w], for "kmeans".
    seed : int
        For "random" and "kmeans".

    Raises
    ------
    NearfarError
        If there are no such weights, or they are not of a backbone.
    """
    if weights in INITIALIZATIONS:
        if weights == "kmeans" and sample is None:
            raise NearfarError("weights 'kmeans' need images to learn from")
        backbone = build(describe(weights, like), seed)
        if weights == "kmeans" and sample is not None:
            initialize_by_kmeans(backbone, sample(), seed)
        return backbone
    path = Path(weights)
    if path.is_dir():
        describe(weights)
        encoder = read_network(path).encoder
        assert isinstance(encoder, Backbone)  # noqa: S101 - what `describe` has checked
        return encoder
    return _from_torchvision(_read(path) if path.exists() else _download(weights), weights)


def build(architecture: Architecture, seed: int) -> Backbone:
    """Make a backbone with fresh weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder = architecture.build().encoder
    assert isinstance(encoder, Backbone)  # noqa: S101 - for the type alone
    return encoder


def _read(path: Path) -> dict[str, Tensor]:
    """Read tensors by name."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise NearfarError(
            f"{str(path)!r} is no safetensors file ({reason(error)}): convert a state dict by "
            "safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')"
        ) from error


def _download(name: str) -> dict[str, Tensor]:
    """Fetch weights by the name that torchvision gives them, or find them in its cache."""
    from torchvision.models import get_weight

    try:
        found = get_weight(name)
    except (ValueError, LookupError, AttributeError) as error:
        raise NearfarError(
            f"weights {name!r} are no run folder, file or name: expected one of these, such as "
            "AlexNet_Weights.IMAGENET1K_V1, or random or kmeans"
        ) from error
    try:
        return dict(found.get_state_dict(progress=False, check_hash=True, weights_only=True))
    except Exception as error:  # no network, a damaged file, a full disk, …
        raise NearfarError(f"weights {name!r} cannot be downloaded ({reason(error)})") from error


def _from_torchvision(tensors: Mapping[str, Tensor], weights: str) -> Backbone:
    """Fill a backbone with the weights of a classifier of torchvision."""
    name: BackboneName
    if all(f"classifier.{place}.weight" in tensors for place in (1, 4, 6)):
        name, codes = "alexnet", len(tensors["classifier.4.weight"])
        widths: tuple[int, ...] = (len(tensors["classifier.1.weight"]),)
        state = {_renamed(key): value for key, value in tensors.items()}
    elif "layer1.0.conv1.weight" in tensors:
        deep = "layer1.0.conv3.weight" in tensors
        name, codes, widths = ("resnet50", 2048, ()) if deep else ("resnet18", 512, ())
        state = {f"features.{key}": value for key, value in tensors.items()}
    else:
        raise NearfarError(
            f"{weights!r} holds no weights of torchvision's AlexNet, ResNet-18 or ResNet-50"
        )
    backbone = build(Architecture((3, 224, 224), codes, widths, backbone=name), seed=0)
    last = ("classifier.", "features.fc.")
    try:
        backbone.load_state_dict({k: v for k, v in state.items() if not k.startswith(last)})
    except RuntimeError as error:
        raise NearfarError(
            f"{weights!r} holds other weights than those of torchvision's {name} "
            f"({str(error).splitlines()[-1].strip()})"
        ) from error
    return backbone


def _renamed(key: str) -> str:
    for theirs, ours in RENAMED.items():
        if key.startswith(theirs):
            return ours + key.removeprefix(theirs)
    return key
