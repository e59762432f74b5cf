"""Backbones with pre-trained weights in torchvision's format."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from nearfar.config import BackboneName
from nearfar.errors import NearfarError, reason
from nearfar.models.backbones import BackboneEncoder, build_encoder, default_widths

#: Weights that torchvision publishes.
PUBLISHED_WEIGHTS: dict[BackboneName, str] = {
    "alexnet": "AlexNet_Weights.DEFAULT",
    "resnet18": "ResNet18_Weights.DEFAULT",
    "resnet50": "ResNet50_Weights.DEFAULT",
}

#: Layers that identify the backbone of weights; the first match counts.
DISTINCTIVE_LAYERS: dict[BackboneName, set[str]] = {
    "alexnet": {"classifier.1.weight", "classifier.4.weight", "features.0.weight"},
    "resnet50": {"layer1.0.conv3.weight"},
    "resnet18": {"layer1.0.conv2.weight"},
    "vit-small": {"conv_proj.weight"},
}

#: Length of embeddings without AlexNet: channels of the feature map.
EMBEDDING_SIZES: dict[BackboneName, int] = {"resnet18": 512, "resnet50": 2048, "vit-small": 384}

#: Prefixes of torchvision's layers, and their prefixes in a `BackboneEncoder`.
PREFIXES: dict[BackboneName, dict[str, str]] = {
    "alexnet": {
        "classifier.1.": "head.fc6.",
        "classifier.4.": "head.fc7.",
        "features.": "features.",
    },
    "resnet18": {"": "features."},
    "resnet50": {"": "features."},
    "vit-small": {"": "features.transformer."},
}

#: Prefixes of the classification layers, which a `BackboneEncoder` lacks.
CLASSIFIERS = ("classifier.6.", "fc.", "heads.")


def pretrained_encoder(
    name: BackboneName, weights: str | os.PathLike[str] | None = None
) -> BackboneEncoder:
    """Load a pre-trained backbone by name, in evaluation mode.

    Parameters
    ----------
    name : {"alexnet", "resnet18", "resnet50", "vit-small"}
        Name of the backbone. Embeddings are layer FC7 of AlexNet (4096 numbers in torchvision's
        weights); for others, the mean of the feature map (512, 2048 and 384 numbers).
    weights : str or path, optional
        Safetensors file with torchvision's names. Default: torchvision's weights, downloaded.

    Raises
    ------
    NearfarError
        If weights are missing, or belong to another network.

    Examples
    --------
    >>> import tempfile
    >>> from safetensors.torch import save_file
    >>> from torchvision.models import resnet18
    >>> with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
    ...     save_file(resnet18().state_dict(), file.name)
    ...     pretrained_encoder("resnet18", file.name).embedding_size
    512
    """
    if weights is None and name not in PUBLISHED_WEIGHTS:
        raise NearfarError(f"torchvision publishes no weights of {name}: pass a safetensors file")
    source = PUBLISHED_WEIGHTS[name] if weights is None else str(weights)
    tensors = _download(source) if weights is None else _read(Path(weights))
    encoder = _build(tensors, source)
    if encoder.name != name:
        raise NearfarError(
            f"{source!r} holds torchvision's weights of {encoder.name}: expected those of {name}"
        )
    return encoder


def open_pretrained(weights: str) -> BackboneEncoder:
    """Load a pre-trained backbone, identified by its weights, in evaluation mode.

    Parameters
    ----------
    weights : str
        Safetensors file with torchvision's names; or name of torchvision's weights, such as
        "AlexNet_Weights.IMAGENET1K_V1", downloaded or cached.

    Raises
    ------
    NearfarError
        If weights are missing, or do not belong to a backbone.

    Examples
    --------
    >>> import tempfile
    >>> from safetensors.torch import save_file
    >>> from torchvision.models import resnet18
    >>> with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
    ...     save_file(resnet18().state_dict(), file.name)
    ...     open_pretrained(file.name).name
    'resnet18'
    """
    path = Path(weights)
    return _build(_read(path) if path.exists() else _download(weights), weights)


def _build(tensors: Mapping[str, Tensor], source: str) -> BackboneEncoder:
    """Build the backbone of the weights of a classifier."""
    name = next(
        (name for name, layers in DISTINCTIVE_LAYERS.items() if layers <= tensors.keys()), None
    )
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
        encoder.load_state_dict(_rename(name, tensors))
    except RuntimeError as error:
        raise NearfarError(
            f"{source!r} holds other weights than torchvision's of {name} ({reason(error)})"
        ) from error
    return encoder.eval()


def _rename(name: BackboneName, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights by their names in a `BackboneEncoder`, without classifiers."""
    renamed = {}
    for key, tensor in tensors.items():
        if not key.startswith(CLASSIFIERS):
            theirs = next((prefix for prefix in PREFIXES[name] if key.startswith(prefix)), None)
            ours = key if theirs is None else PREFIXES[name][theirs] + key.removeprefix(theirs)
            renamed[ours] = tensor
    return renamed


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
    """Download weights of torchvision by name, verified by their hash."""
    from torchvision.models import get_weight

    try:
        published = get_weight(name)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise NearfarError(
            f"weights {name!r} are no run folder, file or name: expected one of these, such as "
            "AlexNet_Weights.IMAGENET1K_V1, or random or kmeans"
        ) from error
    try:
        return dict(published.get_state_dict(progress=False, check_hash=True, weights_only=True))
    except Exception as error:  # no network, a damaged file, a full disk, …
        raise NearfarError(
            f"weights {name!r} cannot be downloaded ({reason(error)}): pass a safetensors file"
        ) from error
