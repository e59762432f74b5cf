"""Checkpoints and snapshots of a run during training."""

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
from nearfar.runs.layout import CHECKPOINT, SNAPSHOTS, explain_damage
from nearfar.runs.network import read_network
from nearfar.runs.weights import read_tensors, to_cpu, write_tensors

Phase = Literal["pretrain", "train"]


class Cursor(NamedTuple):
    """Position in a training phase: the next epoch and the next step, both numbered from 0.

    Examples
    --------
    >>> Cursor(epoch=2)
    Cursor(epoch=2, step=0)
    """

    epoch: int = 0
    step: int = 0


@dataclass(frozen=True)
class Checkpoint:
    """State from which training can be resumed.

    Parameters
    ----------
    phase : {"pretrain", "train"}
        Training phase.
    cursor : Cursor
        Next epoch and step of the phase.
    tensors : mapping of str to Tensor
        State of the network, the optimizer and the objective, by name. Empty before training.

    Examples
    --------
    >>> Checkpoint("train", Cursor(2)).includes({"phase": "train", "epoch": 3})
    False
    """

    phase: Phase = "pretrain"
    cursor: Cursor = Cursor()  # noqa: RUF009 - a tuple
    tensors: Mapping[str, Tensor] = field(default_factory=dict)

    def includes(self, line: Mapping[str, Any]) -> bool:
        """Return whether the epoch of a log line was complete when this checkpoint was written."""
        if line["phase"] != self.phase:
            return bool(self.phase == "train")
        return bool(line["epoch"] <= self.cursor.epoch)


def write_state(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], position: dict[str, Any]
) -> None:
    """Write tensors and a position in training to a safetensors file, with a checksum.

    Parameters
    ----------
    path : str or path
        Output file.
    tensors : mapping of str to Tensor
        Tensors by name, on any device.
    position : dict
        Position in training, such as phase, epoch and step, as JSON types.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_state(Path(folder, "state.safetensors"), {"a": torch.ones(2)}, {"epoch": 3})
    ...     read_state(Path(folder, "state.safetensors"))
    ({'a': tensor([1., 1.])}, {'epoch': 3})
    """
    path = Path(path)
    kept, text = to_cpu(tensors), json.dumps(position)
    write_tensors(path, kept, {"position": text, "checksum": _checksum(kept, text)})


def read_state(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the position from a file written by `write_state`.

    Raises
    ------
    NearfarError
        If the file is missing or damaged.

    Examples
    --------
    >>> read_state(Path("run", "state.safetensors"))
    Traceback (most recent call last):
    nearfar.errors.NearfarError: run 'run' cannot be continued: it has no state.safetensors
    """
    path = Path(path)
    folder = path.parent
    if not path.is_file():
        raise NearfarError(f"run {str(folder)!r} cannot be continued: it has no {path.name}")
    tensors, metadata = read_tensors(path)
    with explain_damage(folder, path.name):
        if metadata["checksum"] != _checksum(tensors, metadata["position"]):
            raise NearfarError("it has changed since it was written")
        return tensors, json.loads(metadata["position"])


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write the checkpoint of a run."""
    position = {"phase": checkpoint.phase, **checkpoint.cursor._asdict()}
    write_state(folder / CHECKPOINT, checkpoint.tensors, position)


def has_checkpoint(folder: Path) -> bool:
    """Return whether a run has a checkpoint."""
    return (folder / CHECKPOINT).is_file()


def read_checkpoint(folder: str | os.PathLike[str]) -> Checkpoint:
    """Return the checkpoint of a run.

    Raises
    ------
    NearfarError
        If the run has no checkpoint, or the checkpoint is damaged.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_checkpoint(Path(folder), Checkpoint("train", Cursor(2, 5)))
    ...     read_checkpoint(Path(folder)).cursor
    Cursor(epoch=2, step=5)
    """
    folder = Path(folder)
    tensors, position = read_state(folder / CHECKPOINT)
    with explain_damage(folder, CHECKPOINT):
        cursor = Cursor(position["epoch"], position["step"])
        return Checkpoint(position["phase"], cursor, tensors)


def _checksum(tensors: Mapping[str, Tensor], position: str) -> str:
    """Return a checksum of tensors and position, with which damaged values are detected."""
    total = zlib.crc32(position.encode())
    for name, tensor in sorted(tensors.items()):
        total = zlib.crc32(f"{name} {tensor.dtype} {list(tensor.shape)}".encode(), total)
        total = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, total)
    return f"{total:08x}"


def write_snapshot(
    folder: str | os.PathLike[str], epochs: int, weights: Mapping[str, Tensor]
) -> None:
    """Write the weights of a network after `epochs` epochs to a run folder, as a snapshot.

    Epochs are counted over both phases of training.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_snapshot(Path(folder), 10, {"bias": torch.zeros(2)})
    ...     has_snapshot(Path(folder), 10)
    True
    """
    folder = Path(folder)
    (folder / SNAPSHOTS).mkdir(exist_ok=True)
    write_tensors(_snapshot(folder, epochs), to_cpu(weights), {})


def has_snapshot(folder: str | os.PathLike[str], epochs: int) -> bool:
    """Return whether a run has a snapshot of the network after `epochs` epochs.

    Epochs are counted over both phases of training.

    Examples
    --------
    >>> has_snapshot(Path("run"), 10)
    False
    """
    folder = Path(folder)
    return _snapshot(folder, epochs).is_file()


def read_snapshot(
    folder: str | os.PathLike[str], epochs: int, network: Autoencoder | None = None
) -> Autoencoder:
    """Return the network of a run after `epochs` epochs, see `nearfar.training.Snapshots`.

    Parameters
    ----------
    folder : str or path
        Run folder.
    epochs : int
        Number of epochs, counted over both phases.
    network : Autoencoder, optional
        Required if the run was trained with a custom network: a network of the same architecture.
        The weights are loaded into a copy.

    Returns
    -------
    Autoencoder
        Network in evaluation mode, on the CPU.

    Raises
    ------
    NearfarError
        If the snapshot is missing or damaged, or contains the weights of a different network.

    Examples
    --------
    >>> import tempfile, torch
    >>> from nearfar import recipe, train
    >>> from nearfar.training import Snapshots
    >>> from nearfar.data import ArrayImages
    >>> images = ArrayImages(torch.rand(20, 1, 8, 8))
    >>> config = recipe("paper", pretrain_epochs=1, epochs=1, clusters=3)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = train(images, config, folder=folder + "/run", callbacks=[Snapshots([1])])
    ...     network = read_snapshot(Path(folder, "run"), 1)
    >>> network(torch.rand(1, 1, 8, 8)).embeddings.shape
    torch.Size([1, 128])
    """
    folder = Path(folder)
    if not has_snapshot(folder, epochs):
        raise NearfarError(f"run {str(folder)!r} has no snapshot after {epochs} epochs")
    return read_network(folder, _snapshot(folder, epochs), "", network)


def _snapshot(folder: Path, epochs: int) -> Path:
    return folder / SNAPSHOTS / f"{epochs}.safetensors"
