"""Backbones with weights that others trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from nearfar.config import BackboneName
from nearfar.errors import NearfarError, reason
from nearfar.models.backbones import Backbone, build_encoder, default_widths

#: torchvision's names of the weights that it publishes.
PUBLISHED: dict[BackboneName, str] = {
    "alexnet": "AlexNet_Weights.DEFAULT",
    "resnet18": "ResNet18_Weights.DEFAULT",
    "resnet50": "ResNet50_Weights.DEFAULT",
}

#: Layers by which weights are known; the first that fit count.
MARKS: dict[BackboneName, set[str]] = {
    "alexnet": {"classifier.1.weight", "classifier.4.weight", "features.0.weight"},
    "resnet50": {"layer1.0.conv3.weight"},
    "resnet18": {"layer1.0.conv2.weight"},
    "vit-small": {"conv_proj.weight"},
}

#: Length of the embeddings, other than AlexNet's: the channels of the feature map.
EMBEDDING_SIZES: dict[BackboneName, int] = {"resnet18": 512, "resnet50": 2048, "vit-small": 384}

#: Where torchvision's layers are in a `Backbone`, by the beginnings of their names.
PLACES: dict[BackboneName, dict[str, str]] = {
    "alexnet": {
        "classifier.1.": "head.fc6.",
        "classifier.4.": "head.fc7.",
        "features.": "features.",
    },
    "resnet18": {"": "features."},
    "resnet50": {"": "features."},
    "vit-small": {"": "features.transformer."},
}

#: Layers that tell classes apart, which a `Backbone` does not have.
CLASSIFIERS = ("classifier.6.", "fc.", "heads.")


def pretrained_encoder(name: BackboneName, weights: Path | None = None) -> Backbone:
    """Return a backbone as others trained it, in evaluation mode.

    Parameters
    ----------
    name : {"alexnet", "resnet18", "resnet50", "vit-small"}
        Its embeddings are the numbers of AlexNet's layer FC7, 4096 as published; of others, the
        mean of the feature map: 512, 2048 and 384 numbers.
    weights : Path, optional
        A safetensors file with torchvision's names; if not given, torchvision downloads what it
        publishes.

    Raises
    ------
    NearfarError
        If the weights cannot be had, or are of another network.
    """
    if weights is None and name not in PUBLISHED:
        raise NearfarError(
            f"torchvision publishes no weights of {name}: give them as a safetensors file"
        )
    source = PUBLISHED[name] if weights is None else str(weights)
    encoder = _filled(_download(source) if weights is None else _read(weights), source)
    if encoder.name != name:
        raise NearfarError(
            f"{source!r} holds torchvision's weights of {encoder.name}: expected those of {name}"
        )
    return encoder


def open_pretrained(weights: str) -> Backbone:
    """Return the backbone that others trained, in evaluation mode, whichever it is.

    Parameters
    ----------
    weights : str
        A safetensors file with torchvision's names, or the name of such weights, as
        "AlexNet_Weights.IMAGENET1K_V1", which torchvision downloads or finds in its cache.

    Raises
    ------
    NearfarError
        If there are none, they cannot be had, or they are not of a backbone.
    """
    path = Path(weights)
    return _filled(_read(path) if path.exists() else _download(weights), weights)


def _filled(tensors: Mapping[str, Tensor], source: str) -> Backbone:
    """The backbone that the weights of a classifier are of, filled with them."""
    name = next((name for name, marks in MARKS.items() if marks <= tensors.keys()), None)
    if name is None:
        raise NearfarError(
            f"{source!r} holds no weights of torchvision's AlexNet, ResNet-18 or ResNet-50, or of "
            "its VisionTransformer in the size of ViT-S/16"
        )
    if name == "alexnet":
        size = len(tensors["classifier.4.weight"])
        widths: tuple[int, ...] = (len(tensors["classifier.1.weight"]),)
    else:
        size, widths = EMBEDDING_SIZES[name], default_widths(name)
    encoder = build_encoder(name, (3, 224, 224), size, widths)
    try:
        encoder.load_state_dict(_placed(name, tensors))
    except RuntimeError as error:
        raise NearfarError(
            f"{source!r} holds other weights than torchvision's of {name} ({reason(error)})"
        ) from error
    return encoder.eval()


def _placed(name: BackboneName, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights by the names that they have in a `Backbone`."""
    placed = {}
    for key, tensor in tensors.items():
        if not key.startswith(CLASSIFIERS):
            theirs = next((t for t in PLACES[name] if key.startswith(t)), None)
            ours = key if theirs is None else PLACES[name][theirs] + key.removeprefix(theirs)
            placed[ours] = tensor
    return placed


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise NearfarError(
            f"weights {str(path)!r} cannot be read: expected a safetensors file, as "
            "safetensors.torch.save_file(model.state_dict(), 'weights.safetensors') makes it "
            f"({reason(error)})"
        ) from error


def _download(name: str) -> Mapping[str, Tensor]:
    """What torchvision publishes by a name, checked by its hash."""
    from torchvision.models import get_weight

    try:
        found = get_weight(name)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise NearfarError(
            f"weights {name!r} are no run folder, file or name: expected one of these, such as "
            "AlexNet_Weights.IMAGENET1K_V1, or random or kmeans"
        ) from error
    try:
        return dict(found.get_state_dict(progress=False, check_hash=True, weights_only=True))
    except Exception as error:  # no network, a damaged file, a full disk, …
        raise NearfarError(
            f"weights {name!r} cannot be downloaded ({reason(error)}): give them as a safetensors "
            "file"
        ) from error
