"""A run folder while a training writes to it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from nearfar.config import TrainConfig, flatten, name_of
from nearfar.errors import NearfarError
from nearfar.models import Autoencoder
from nearfar.runs.checkpoint import Checkpoint, read_checkpoint, read_snapshot, write_checkpoint
from nearfar.runs.checkpoint import write_snapshot as _write_snapshot
from nearfar.runs.config import RunConfig, read_config, write_config
from nearfar.runs.folder import (
    bank_folder,
    claim_folder,
    hold,
    is_finished,
    remove_checkpoint,
    remove_unfinished,
)
from nearfar.runs.records import append_log, read_log, write_log, write_skipped
from nearfar.runs.run import Run, write_run
from nearfar.runs.weights import add_prefix

#: Settings that may change between the start of a run and its continuation.
CHANGEABLE = {"pretrain_epochs", "epochs", "pretrain_lr", "lr", "device"}


class RunFolder:
    """Where a training keeps its log, checkpoints and result; without a path, in memory only.

    Parameters
    ----------
    path : Path, optional
        The folder.
    config : RunConfig
        Images and settings.
    checkpoint : Checkpoint
        Where to continue.
    log : list of dict
        Metrics of the epochs before.
    writes : bool
        Whether this process is the one that writes.

    Attributes
    ----------
    resumed : bool
        Whether an earlier training is continued.
    """

    def __init__(
        self,
        path: Path | None,
        config: RunConfig,
        *,
        checkpoint: Checkpoint | None = None,
        log: list[dict[str, Any]] | None = None,
        writes: bool = True,
    ) -> None:
        self.path, self.config, self.writes = path, config, writes
        self.resumed = checkpoint is not None
        self.checkpoint = checkpoint or Checkpoint()
        self.log = log or []

    @classmethod
    @contextmanager
    def open(
        cls,
        path: str | os.PathLike[str] | None,
        config: RunConfig,
        *,
        resume: bool = False,
        overwrite: bool = False,
        writes: bool = True,
        skipped: Sequence[str] = (),
    ) -> Iterator[Self]:
        """Hold the folder of a new run, or of one to resume; `skipped` is a line per unused file.

        Raises
        ------
        NearfarError
            If the folder is taken, or its run cannot be resumed with this configuration.
        """
        if path is None:
            yield cls(None, config, writes=writes)
            return
        path = Path(path)
        if not writes:
            yield cls(path, config, writes=False, **(_resumable(path, config) if resume else {}))
            return
        if resume:
            read_config(path)
        with hold(path):
            if resume:
                run = cls(path, config, **_resumable(path, config))
                remove_unfinished(path)
            else:
                run = cls(path, config)
                claim_folder(path, overwrite=overwrite)
            write_config(path, config)
            write_skipped(path, skipped)
            write_log(path, run.log)
            yield run

    @property
    def bank(self) -> Path | None:
        """Folder for embeddings on disk."""
        return None if self.path is None else bank_folder(self.path)

    def append_log(self, line: dict[str, Any]) -> None:
        """Add the metrics of an epoch."""
        self.log.append(line)
        if self.path is not None and self.writes:
            append_log(self.path, line)

    def write_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Write what the training needs to continue."""
        if self.path is not None and self.writes:
            write_checkpoint(self.path, checkpoint)

    def write_snapshot(self, epochs: int, weights: Mapping[str, Tensor]) -> None:
        """Keep the weights of the network after so many epochs over both phases."""
        if self.path is not None and self.writes:
            _write_snapshot(self.path, epochs, weights)

    def finish(self, run: Run, embeddings: Path | None = None) -> None:
        """Write the result, and remove what only a resumed training needs."""
        if self.path is not None and self.writes:
            write_run(self.path, run, embeddings)
            remove_checkpoint(self.path)


def check_resumable(folder: str | os.PathLike[str], config: RunConfig) -> None:
    """Check that a run can be resumed with a configuration.

    Raises
    ------
    NearfarError
        If it is finished, or was started with other settings or other images.
    """
    folder = Path(folder)
    before = read_config(folder)
    if is_finished(folder):
        raise NearfarError(f"run {str(folder)!r} is finished: there is nothing to resume")
    started, given = _recorded(before.train), _recorded(config.train)
    for name in {**started, **given}:
        if name not in CHANGEABLE and started.get(name) != given.get(name):
            raise NearfarError(
                f"run {str(folder)!r} was started with {name}={started.get(name)}, not "
                f"{given.get(name)}: resume it with the same settings and images"
            )
    for name in ("images", "shape"):
        was, now = getattr(before.data, name), getattr(config.data, name)
        if was != now:
            raise NearfarError(
                f"run {str(folder)!r} was started with {name}={was}, not {now}: resume it with "
                "the same settings and images"
            )
    if before.data.checksum != config.data.checksum:
        raise NearfarError(
            f"run {str(folder)!r} was started with other images than {config.data.source!r}: "
            "resume it with the same"
        )


def _recorded(config: TrainConfig) -> dict[str, Any]:
    """Return options by name, with names for objects of the user's own."""
    options = flatten(config)
    return {name: name_of(each) if callable(each) else each for name, each in options.items()}


def fork_run(
    source: str | os.PathLike[str], epochs: int, folder: str | os.PathLike[str], config: TrainConfig
) -> None:
    """Make a folder a run that starts its second phase from a snapshot of another run.

    Resume it with `nearfar.training.train`. The other run had the same pre-training, and kept a
    snapshot after it.

    Parameters
    ----------
    source : str or path
        The other run.
    epochs : int
        Epochs of pre-training.
    folder : str or path
        The new run folder; must not exist.
    config : TrainConfig
        Settings of the new run.

    Raises
    ------
    NearfarError
        If the other run has no such snapshot, or something is in the folder.
    """
    source = Path(source)
    folder = Path(folder)
    network = read_snapshot(source, epochs)
    claim_folder(folder, overwrite=False)
    write_config(folder, RunConfig(read_config(source).data, config))
    write_log(folder, read_log(source)[:epochs])
    write_checkpoint(folder, start_of_second_phase(network))


def start_of_second_phase(network: Autoencoder) -> Checkpoint:
    """Return a checkpoint at the start of the second phase of training."""
    return Checkpoint("train", tensors=add_prefix("network.", network.state_dict()))


def _resumable(folder: Path, config: RunConfig) -> dict[str, Any]:
    """Read checkpoint and log of a run, as `RunFolder` takes them."""
    check_resumable(folder, config)
    checkpoint, log = read_checkpoint(folder), read_log(folder)
    _check_epochs(folder, checkpoint, log, config.train)
    return {"checkpoint": checkpoint, "log": [line for line in log if checkpoint.includes(line)]}


def _check_epochs(
    folder: Path, checkpoint: Checkpoint, log: list[dict[str, Any]], config: TrainConfig
) -> None:
    """Check that no fewer epochs are asked for than are trained."""
    started = checkpoint.cursor.epoch + (checkpoint.cursor.step > 0)
    second = checkpoint.phase == "train"
    if second:
        before = sum(line["phase"] != checkpoint.phase for line in log)
        if config.optim.pretrain_epochs != before:
            raise NearfarError(
                f"run {str(folder)!r} has had {before} epochs of pre-training, not "
                f"{config.optim.pretrain_epochs}: resume it with as many"
            )
    asked = config.optim.epochs if second else config.optim.pretrain_epochs
    if asked < started:
        raise NearfarError(
            f"run {str(folder)!r} is in epoch {started} of {checkpoint.phase!r}, and {asked} are "
            "asked for: resume it with as many or more"
        )
