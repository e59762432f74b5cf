"""Backbones with weights that others trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from nearfar.errors import NearfarError
from nearfar.models.backbones import Backbone, BackboneName, build_encoder, default_widths

#: Length of the codes: AlexNet's layer FC7; else the channels of the feature map.
CODE_SIZES: dict[BackboneName, int] = {
    "alexnet": 4096,
    "resnet18": 512,
    "resnet50": 2048,
    "vit-small": 384,
}

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


def published_encoder(name: BackboneName, weights: Path | None = None) -> Backbone:
    """Return a backbone as others trained it, in evaluation mode.

    Parameters
    ----------
    name : {"alexnet", "resnet18", "resnet50", "vit-small"}
        Its codes are the 4096 numbers of AlexNet's layer FC7; of others, the mean of the feature
        map: 512, 2048 and 384 numbers.
    weights : Path, optional
        A safetensors file with torchvision's names; if not given, torchvision downloads what it
        publishes.

    Raises
    ------
    NearfarError
        If the weights cannot be had, or are of another network.
    """
    tensors = _download(name) if weights is None else _read(weights)
    encoder = build_encoder(name, (3, 224, 224), CODE_SIZES[name], default_widths(name))
    try:
        encoder.load_state_dict(_placed(name, tensors))
    except RuntimeError as error:
        raise NearfarError(
            f"{str(weights)!r} does not hold torchvision's weights of {name}: "
            f"{str(error).splitlines()[-1].strip()}"
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
            f"weights {str(path)!r} cannot be read: expected a safetensors file ({error})"
        ) from error


def _download(name: BackboneName) -> Mapping[str, Tensor]:
    """What torchvision publishes, checked by its hash."""
    from torchvision.models import get_model_weights

    try:
        weights = get_model_weights(name)["DEFAULT"]
    except (KeyError, ValueError) as error:
        raise NearfarError(
            f"torchvision publishes no weights of {name}: give them as a safetensors file"
        ) from error
    try:
        return weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise NearfarError(
            f"torchvision's weights of {name} cannot be downloaded ({error}): give them as a "
            "safetensors file"
        ) from error
