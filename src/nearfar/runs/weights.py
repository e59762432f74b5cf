"""Weights of networks as safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from nearfar.errors import NearfarError
from nearfar.files import atomic_path
from nearfar.runs.folder import reading


def load_weights(module: nn.Module, tensors: Mapping[str, Tensor], where: Path) -> None:
    """Fill a module with weights that were read from a run.

    Raises
    ------
    NearfarError
        If they are the weights of another network.
    """
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        raise NearfarError(
            f"run {str(where)!r} holds the weights of another network than the one described, or "
            f"given, to read it ({str(error).splitlines()[-1].strip()})"
        ) from error


def strip_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names start with a prefix, without it.

    Examples
    --------
    >>> list(strip_prefix("network.", {"network.bias": None, "adam.0.step": None}))
    ['bias']
    """
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def add_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors with a prefix before their names.

    Examples
    --------
    >>> list(add_prefix("network.", {"bias": None}))
    ['network.bias']
    """
    return {prefix + name: tensor for name, tensor in tensors.items()}


def to_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return copies on the CPU, none of which shares memory with another."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors on the CPU and a few words as safetensors, atomically."""
    content = save(dict(tensors), metadata={"format": "pt", **(metadata or {})})
    with atomic_path(path) as temporary:  # save_file has a temporary file of its own
        temporary.write_bytes(content)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read what `write_tensors` wrote."""
    with reading(path.parent, path.name), safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
