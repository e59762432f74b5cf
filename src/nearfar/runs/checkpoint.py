"""Checkpoints and snapshots of a run in training."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from nearfar.errors import NearfarError
from nearfar.models import Autoencoder
from nearfar.runs.folder import CHECKPOINT, SNAPSHOTS, reading
from nearfar.runs.network import read_network
from nearfar.runs.weights import read_tensors, to_cpu, write_tensors

Phase = Literal["pretrain", "train"]


class Cursor(NamedTuple):
    """The next step of a phase: its epoch, and its number within the epoch, from 0."""

    epoch: int = 0
    step: int = 0


@dataclass(frozen=True)
class Checkpoint:
    """Where a training was stopped, and what it needs to continue.

    Parameters
    ----------
    phase : {"pretrain", "train"}
        The phase.
    cursor : Cursor
        Its next step.
    tensors : mapping of str to Tensor
        State of the phase; empty before its first step.
    """

    phase: Phase = "pretrain"
    cursor: Cursor = Cursor()  # noqa: RUF009 - a tuple
    tensors: Mapping[str, Tensor] = field(default_factory=dict)

    def includes(self, line: Mapping[str, Any]) -> bool:
        """Whether the epoch of a log line is done at this checkpoint."""
        if line["phase"] != self.phase:
            return bool(self.phase == "train")
        return bool(line["epoch"] <= self.cursor.epoch)


def write_state(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], position: dict[str, Any]
) -> None:
    """Write tensors, and a position in training, with a checksum of both."""
    path = Path(path)
    kept, text = to_cpu(tensors), json.dumps(position)
    write_tensors(path, kept, {"position": text, "checksum": _checksum(kept, text)})


def read_state(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `write_state` wrote.

    Raises
    ------
    NearfarError
        If there is no such file, or it was changed since.
    """
    path = Path(path)
    folder = path.parent
    if not path.is_file():
        raise NearfarError(f"run {str(folder)!r} cannot be continued: it has no {path.name}")
    tensors, metadata = read_tensors(path)
    with reading(folder, path.name):
        if metadata["checksum"] != _checksum(tensors, metadata["position"]):
            raise NearfarError("it is not as it was written")
        return tensors, json.loads(metadata["position"])


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write the checkpoint of a run."""
    position = {"phase": checkpoint.phase, **checkpoint.cursor._asdict()}
    write_state(folder / CHECKPOINT, checkpoint.tensors, position)


def read_checkpoint(folder: str | os.PathLike[str]) -> Checkpoint:
    """Read the checkpoint of a run.

    Raises
    ------
    NearfarError
        If there is none, or it is damaged.
    """
    folder = Path(folder)
    tensors, position = read_state(folder / CHECKPOINT)
    with reading(folder, CHECKPOINT):
        cursor = Cursor(position["epoch"], position["step"])
        return Checkpoint(position["phase"], cursor, tensors)


def _checksum(tensors: Mapping[str, Tensor], position: str) -> str:
    """Checksum of all that a checkpoint holds: training would continue from damaged numbers."""
    total = zlib.crc32(position.encode())
    for name, tensor in sorted(tensors.items()):
        total = zlib.crc32(f"{name} {tensor.dtype} {list(tensor.shape)}".encode(), total)
        total = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, total)
    return f"{total:08x}"


def write_snapshot(folder: Path, epochs: int, weights: Mapping[str, Tensor]) -> None:
    """Keep the weights of the network after so many epochs over both phases."""
    (folder / SNAPSHOTS).mkdir(exist_ok=True)
    write_tensors(_snapshot(folder, epochs), to_cpu(weights), {})


def has_snapshot(folder: str | os.PathLike[str], epochs: int) -> bool:
    """Whether a run kept its network after so many epochs."""
    folder = Path(folder)
    return _snapshot(folder, epochs).is_file()


def read_snapshot(
    folder: str | os.PathLike[str], epochs: int, network: Autoencoder | None = None
) -> Autoencoder:
    """Read a network as it was after so many epochs, see `nearfar.training.Snapshots`.

    Parameters
    ----------
    network : Autoencoder, optional
        Your own, if the run was trained with it; a copy is filled with the weights.

    Raises
    ------
    NearfarError
        If there is no such snapshot, it is damaged, or holds the weights of another network.
    """
    folder = Path(folder)
    if not has_snapshot(folder, epochs):
        raise NearfarError(f"run {str(folder)!r} has no snapshot after {epochs} epochs")
    return read_network(folder, _snapshot(folder, epochs), "", network)


def _snapshot(folder: Path, epochs: int) -> Path:
    return folder / SNAPSHOTS / f"{epochs}.safetensors"
