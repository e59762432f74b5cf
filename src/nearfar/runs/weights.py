"""Weights of networks as safetensors."""

from __future__ import annotations

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
        If they are the weights of another network.

    Examples
    --------
    >>> import torch
    >>> load_weights(nn.Linear(1, 1), {"weight": torch.ones(1, 1)}, Path("run"))
    Traceback (most recent call last):
    nearfar.errors.NearfarError: run 'run' holds the weights of another network ...
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
    """Return copies on the CPU, none of which shares memory with another.

    Examples
    --------
    >>> import torch
    >>> to_cpu({"bias": torch.ones(2, requires_grad=True)})
    {'bias': tensor([1., 1.])}
    """
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors on the CPU and a few words as safetensors, atomically.

    Examples
    --------
    >>> import tempfile, torch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_tensors(Path(folder, "a.safetensors"), {"a": torch.ones(2)}, {"epoch": "3"})
    ...     tensors, metadata = read_tensors(Path(folder, "a.safetensors"))
    >>> tensors, metadata["epoch"]
    ({'a': tensor([1., 1.])}, '3')
    """
    with atomic_path(path) as temporary:
        try:
            save_file(dict(tensors), temporary, metadata={"format": "pt", **(metadata or {})})
        except SafetensorError as error:
            raise NearfarError(f"{str(path)!r} cannot be written: {error}") from error


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read what `write_tensors` wrote.

    Examples
    --------
    >>> import tempfile, torch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_tensors(Path(folder, "a.safetensors"), {"a": torch.ones(2)}, {"epoch": "3"})
    ...     tensors, metadata = read_tensors(Path(folder, "a.safetensors"))
    >>> tensors, metadata["epoch"]
    ({'a': tensor([1., 1.])}, '3')
    """
    with reading(path.parent, path.name), safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
