"""Networks, and their weights in safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from nearfar.errors import NearfarError
from nearfar.files import atomic_path
from nearfar.models import Autoencoder
from nearfar.run_config import RunConfig
from nearfar.runs.folder import reading


def build(
    config: RunConfig,
    encoder: nn.Module | None,
    decoder: nn.Module | None,
    where: Path | str = "this configuration",
) -> Autoencoder:
    """Make the network of a run, or copy the caller's own."""
    if (encoder is None) != (decoder is None):
        raise NearfarError("encoder and decoder go together: give both or neither")
    if encoder is not None and decoder is not None:
        return Autoencoder(*deepcopy((encoder, decoder)))  # at once: they may share weights
    if config.architecture is None:
        raise NearfarError(
            f"{str(where)!r} was trained with a network of the caller's own: "
            "give its encoder and decoder"
        )
    try:
        return config.architecture.build()
    except (RuntimeError, TypeError) as error:  # the latter of numbers beyond 64 bits
        raise NearfarError(
            f"no memory for a network with embedding_size={config.architecture.embedding_size} and "
            f"widths={config.architecture.widths} on images {config.data.shape}"
        ) from error


def load_weights(
    module: nn.Module, tensors: Mapping[str, Tensor], prefix: str, where: Path
) -> None:
    """Fill a module with the tensors whose names start with `prefix`."""
    state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise NearfarError(
            f"run {str(where)!r} holds the weights of another network than the one described, or "
            f"given, to read it ({str(error).splitlines()[-1].strip()})"
        ) from error


def to_write(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return copies on the CPU, none of which shares memory with another."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors and a few words as safetensors, whole or not at all."""
    with atomic_path(path) as temporary:
        try:
            save_file(dict(tensors), temporary, metadata={"format": "pt", **(metadata or {})})
        except SafetensorError as error:
            raise NearfarError(f"{str(path)!r} cannot be written: {error}") from error


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read what `write_tensors` wrote."""
    with reading(path.parent, path.name), safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
