"""A run on its way: what is needed to continue it, and the network as it was."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nearfar.errors import NearfarError
from nearfar.models import Autoencoder
from nearfar.runs.config import read_config
from nearfar.runs.folder import CHECKPOINT, SNAPSHOTS, reading
from nearfar.runs.weights import build, load_weights, read_tensors, to_write, write_tensors


def write_checkpoint(folder: Path, tensors: Mapping[str, Tensor], position: dict[str, Any]) -> None:
    """Write what is needed to continue training."""
    kept, text = to_write(tensors), json.dumps(position)
    metadata = {"position": text, "checksum": _checksum(kept, text)}
    write_tensors(folder / CHECKPOINT, kept, metadata)


def read_checkpoint(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `write_checkpoint` wrote.

    Raises
    ------
    NearfarError
        If there is none, or it is not as it was written.
    """
    if not (folder / CHECKPOINT).is_file():
        raise NearfarError(f"run {str(folder)!r} cannot be continued: it has no {CHECKPOINT}")
    tensors, metadata = read_tensors(folder / CHECKPOINT)
    with reading(folder, CHECKPOINT):
        if metadata["checksum"] != _checksum(tensors, metadata["position"]):
            raise NearfarError("it is not as it was written")
        return tensors, json.loads(metadata["position"])


def _checksum(tensors: Mapping[str, Tensor], position: str) -> str:
    """Of all that a checkpoint holds: training would go on from damaged numbers unnoticed."""
    total = zlib.crc32(position.encode())
    for name, tensor in sorted(tensors.items()):
        total = zlib.crc32(f"{name} {tensor.dtype} {list(tensor.shape)}".encode(), total)
        total = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, total)
    return f"{total:08x}"


def write_snapshot(folder: Path, epochs: int, weights: Mapping[str, Tensor]) -> None:
    """Keep the network as it is after so many epochs."""
    (folder / SNAPSHOTS).mkdir(exist_ok=True)
    write_tensors(_snapshot(folder, epochs), to_write(weights), {})


def has_snapshot(folder: Path, epochs: int) -> bool:
    """Whether a run kept the network as it was after so many epochs."""
    return _snapshot(folder, epochs).is_file()


def read_snapshot(
    folder: Path,
    epochs: int,
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
) -> Autoencoder:
    """Read a network as it was after so many epochs, see `nearfar.training.train.train`.

    Parameters
    ----------
    encoder, decoder : nn.Module, optional
        The network, if it was the caller's own; a copy of it is filled with the weights.

    Raises
    ------
    NearfarError
        If the run kept none, is damaged, or of another network.
    """
    config = read_config(folder)
    path = _snapshot(folder, epochs)
    if not has_snapshot(folder, epochs):
        raise NearfarError(f"run {str(folder)!r} has no snapshot after {epochs} epochs")
    network = build(config, encoder, decoder, where=folder)
    tensors, _ = read_tensors(path)
    load_weights(network, tensors, "", folder)
    return network.eval()


def _snapshot(folder: Path, epochs: int) -> Path:
    return folder / SNAPSHOTS / f"{epochs}.safetensors"
