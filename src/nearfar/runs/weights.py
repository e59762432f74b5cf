"""Weights of networks as safetensors."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from nearfar.errors import NearfarError
from nearfar.files import atomic_path
from nearfar.runs.folder import reading


def load_weights(module: nn.Module, tensors: Mapping[str, Tensor], where: Path) -> None:
    """Fill a module with weights that were read from a run.

    Raises
    ------
    NearfarError
        If they are the weights of another network, or not finite.
    """
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise NearfarError(
                f"run {str(where)!r} is damaged: its weights {name!r} hold NaN or infinity, so "
                "train it again"
            )
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
    path: str | os.PathLike[str],
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write tensors on the CPU and a few words as safetensors, atomically."""
    path = Path(path)
    with atomic_path(path) as temporary:
        try:
            save_file(dict(tensors), temporary, metadata={"format": "pt", **(metadata or {})})
        except SafetensorError as error:
            raise NearfarError(f"{str(path)!r} cannot be written: {error}") from error


def read_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read what `write_tensors` wrote."""
    path = Path(path)
    with reading(path.parent, path.name), safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
