"""Network weights in safetensors files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from nearfar.errors import NearfarError
from nearfar.files import atomic_path
from nearfar.runs.layout import explain_damage


def load_weights(
    module: nn.Module, tensors: Mapping[str, Tensor], where: str | os.PathLike[str]
) -> None:
    """Load the weights of a run into a module.

    Parameters
    ----------
    module : nn.Module
        Module into which to load the weights.
    tensors : mapping of str to Tensor
        Weights by name.
    where : Path
        Run folder, for the error message.

    Raises
    ------
    NearfarError
        If the weights belong to a different network, or contain NaN or infinity.

    Examples
    --------
    >>> import torch
    >>> load_weights(nn.Linear(1, 1), {"weight": torch.ones(1, 1)}, Path("run"))
    Traceback (most recent call last):
    nearfar.errors.NearfarError: run 'run' holds the weights of another network ...
    """
    where = Path(where)
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
            f"run {str(where)!r} holds the weights of another network than expected "
            f"({str(error).splitlines()[-1].strip()})"
        ) from error


def strip_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names start with a prefix, with the prefix removed.

    Examples
    --------
    >>> list(strip_prefix("network.", {"network.bias": None, "adam.0.step": None}))
    ['bias']
    """
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def add_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors with a prefix added to their names.

    Examples
    --------
    >>> list(add_prefix("network.", {"bias": None}))
    ['network.bias']
    """
    return {prefix + name: tensor for name, tensor in tensors.items()}


def to_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return copies of tensors on the CPU. No two copies share memory.

    Examples
    --------
    >>> import torch
    >>> to_cpu({"bias": torch.ones(2, requires_grad=True)})
    {'bias': tensor([1., 1.])}
    """
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}


def write_tensors(
    path: str | os.PathLike[str],
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write tensors on the CPU and text metadata to a safetensors file, atomically.

    Examples
    --------
    >>> import tempfile, torch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_tensors(Path(folder, "a.safetensors"), {"a": torch.ones(2)}, {"epoch": "3"})
    ...     tensors, metadata = read_tensors(Path(folder, "a.safetensors"))
    >>> tensors, metadata["epoch"]
    ({'a': tensor([1., 1.])}, '3')
    """
    content = save(dict(tensors), metadata={"format": "pt", **(metadata or {})})
    with atomic_path(Path(path)) as temporary:  # save_file uses a temporary file of its own
        temporary.write_bytes(content)


def read_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and the metadata of a safetensors file.

    Raises
    ------
    NearfarError
        If the file is missing or damaged.

    Examples
    --------
    >>> import tempfile, torch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_tensors(Path(folder, "a.safetensors"), {"a": torch.ones(2)}, {"epoch": "3"})
    ...     tensors, metadata = read_tensors(Path(folder, "a.safetensors"))
    >>> tensors, metadata["epoch"]
    ({'a': tensor([1., 1.])}, '3')
    """
    path = Path(path)
    with explain_damage(path.parent, path.name), safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
