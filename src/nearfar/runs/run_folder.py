"""Run folder to which training writes, and runs that are resumed or forked."""

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
from nearfar.runs.checkpoint import (
    Checkpoint,
    has_checkpoint,
    read_checkpoint,
    read_snapshot,
    write_checkpoint,
)
from nearfar.runs.checkpoint import write_snapshot as _write_snapshot
from nearfar.runs.config import RunConfig, read_config, write_config
from nearfar.runs.layout import (
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

#: Settings that may change when a run resumes.
CHANGEABLE = {"pretrain_epochs", "epochs", "pretrain_lr", "lr", "head_lr_scale", "device"}


class RunFolder:
    """Run folder to which training writes the log, checkpoints and the result.

    Parameters
    ----------
    path : Path or None
        Path of the folder. With None, nothing is written, and the log is kept in memory.
    config : RunConfig
        Images and settings.
    checkpoint : Checkpoint, optional
        Checkpoint from which training resumes. Default: training starts from the beginning.
    log : list of dict, optional
        Metrics of the epochs before the checkpoint.
    is_writer : bool
        Whether this process writes the files. Of several processes, exactly one must write.

    Attributes
    ----------
    resumed : bool
        Whether training resumes from a checkpoint.

    Examples
    --------
    >>> import torch
    >>> from nearfar.data import ArrayImages
    >>> from nearfar.runs import RunData
    >>> config = RunConfig(RunData.of(ArrayImages(torch.rand(20, 1, 8, 8))), TrainConfig())
    >>> with RunFolder.open(None, config) as folder:
    ...     folder.append_log({"phase": "pretrain", "epoch": 1})
    >>> folder.log, folder.resumed
    ([{'phase': 'pretrain', 'epoch': 1}], False)
    """

    def __init__(
        self,
        path: Path | None,
        config: RunConfig,
        *,
        checkpoint: Checkpoint | None = None,
        log: list[dict[str, Any]] | None = None,
        is_writer: bool = True,
    ) -> None:
        self.path, self.config, self.is_writer = path, config, is_writer
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
        is_writer: bool = True,
        skipped: Sequence[str] = (),
    ) -> Iterator[Self]:
        """Context manager that opens the folder of a new or resumed run and holds its lock.

        Parameters
        ----------
        path, config, is_writer
            See `RunFolder`.
        resume : bool
            Whether to resume the run in the folder.
        overwrite : bool
            Whether to replace an existing run in the folder.
        skipped : sequence of str
            One line per file that was not used.

        Raises
        ------
        NearfarError
            If the folder is in use, or the run cannot be resumed with this configuration.
        """
        if path is None:
            yield cls(None, config, is_writer=is_writer)
            return
        path = Path(path)
        if not is_writer:
            yield cls(path, config, is_writer=False, **(_resumable(path, config) if resume else {}))
            return
        if resume:
            read_config(path)
        with hold(path):
            if resume:
                if is_finished(path):  # killed between its last two steps
                    remove_checkpoint(path)
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
        """Folder of the embeddings on disk during training; None if nothing is written."""
        return None if self.path is None else bank_folder(self.path)

    def append_log(self, line: dict[str, Any]) -> None:
        """Append the metrics of an epoch to the log."""
        self.log.append(line)
        if self.path is not None and self.is_writer:
            append_log(self.path, line)

    def write_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint from which training can be resumed."""
        if self.path is not None and self.is_writer:
            write_checkpoint(self.path, checkpoint)

    def write_snapshot(self, epochs: int, weights: Mapping[str, Tensor]) -> None:
        """Write the weights of the network after `epochs` epochs, counted over both phases."""
        if self.path is not None and self.is_writer:
            _write_snapshot(self.path, epochs, weights)

    def finish(self, run: Run, embeddings: str | os.PathLike[str] | None = None) -> None:
        """Write the finished run, and remove the files that are only needed to resume training.

        For `embeddings`, see `write_run`.
        """
        embeddings = None if embeddings is None else Path(embeddings)
        if self.path is not None and self.is_writer:
            write_run(self.path, run, embeddings)
            remove_checkpoint(self.path)


def check_resumable(folder: str | os.PathLike[str], config: RunConfig) -> None:
    """Check that the run in a folder can be resumed with a configuration.

    Raises
    ------
    NearfarError
        If the run is finished, or was started with different settings or images.

    Examples
    --------
    >>> import torch
    >>> from nearfar.data import ArrayImages
    >>> from nearfar.runs import RunData
    >>> config = RunConfig(RunData.of(ArrayImages(torch.rand(20, 1, 8, 8))), TrainConfig())
    >>> check_resumable(Path("nowhere"), config)
    Traceback (most recent call last):
    nearfar.errors.NearfarError: run 'nowhere' does not exist: expected a folder from train
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
            f"run {str(folder)!r} was started with images other than {config.data.source!r}: "
            "resume it with the same images"
        )


def _recorded(config: TrainConfig) -> dict[str, Any]:
    """Return the training options by name, with custom functions and networks as names."""
    options = flatten(config)
    return {name: name_of(each) if callable(each) else each for name, each in options.items()}


def fork_run(
    source: str | os.PathLike[str], epochs: int, folder: str | os.PathLike[str], config: TrainConfig
) -> None:
    """Create a run that starts its second phase from a snapshot of another run.

    The other run must have the same settings for pre-training, and a snapshot of the network at the
    end of pre-training. Use `nearfar.training.train` to resume the new run.

    Parameters
    ----------
    source : str or path
        Folder of the other run.
    epochs : int
        Number of pre-training epochs of both runs.
    folder : str or path
        New run folder, which must be empty if it exists.
    config : TrainConfig
        Settings of the new run.

    Raises
    ------
    NearfarError
        If the other run has no snapshot after `epochs` epochs, or `folder` is not empty.

    Examples
    --------
    >>> import tempfile, torch
    >>> from nearfar import configure, recipe, train
    >>> from nearfar.training import Snapshots
    >>> from nearfar.data import ArrayImages
    >>> images = ArrayImages(torch.rand(20, 1, 8, 8))
    >>> config = recipe("paper", pretrain_epochs=1, epochs=1, clusters=3)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     one, other = Path(folder, "one"), Path(folder, "other")
    ...     run = train(images, config, folder=one, callbacks=[Snapshots([1])])
    ...     changed = configure({"loss_weights": (0.6, 0.4, 0)}, base=run.config.train)
    ...     fork_run(one, 1, other, changed)
    ...     log = train(images, changed, folder=other, resume=True).log
    >>> [line["phase"] for line in log]
    ['pretrain', 'train']
    """
    source = Path(source)
    folder = Path(folder)
    network = read_snapshot(source, epochs)
    claim_folder(folder, overwrite=False)
    write_config(folder, RunConfig(read_config(source).data, config))
    write_log(folder, read_log(source)[:epochs])
    write_checkpoint(folder, start_of_second_phase(network))


def start_of_second_phase(network: Autoencoder) -> Checkpoint:
    """Return a checkpoint at the start of the second phase of training, with the given network."""
    return Checkpoint("train", tensors=add_prefix("network.", network.state_dict()))


def _resumable(folder: Path, config: RunConfig) -> dict[str, Any]:
    """Return the checkpoint and the log of a run to resume, as arguments of `RunFolder`."""
    check_resumable(folder, config)
    log = read_log(folder)
    if not log and not has_checkpoint(folder):  # killed before the first step
        return {"checkpoint": Checkpoint(), "log": []}
    checkpoint = read_checkpoint(folder)
    _check_epochs(folder, checkpoint, log, config.train)
    return {"checkpoint": checkpoint, "log": [line for line in log if checkpoint.includes(line)]}


def _check_epochs(
    folder: Path, checkpoint: Checkpoint, log: list[dict[str, Any]], config: TrainConfig
) -> None:
    """Raise an error if the configuration has fewer epochs than the run has already started.

    Also raise an error if the run is in its second phase and the number of pre-training epochs
    differs from the number in the log.
    """
    started = checkpoint.cursor.epoch + (checkpoint.cursor.step > 0)
    second = checkpoint.phase == "train"
    if second:
        before = sum(line["phase"] != checkpoint.phase for line in log)
        if config.optim.pretrain_epochs != before:
            raise NearfarError(
                f"run {str(folder)!r} has had {before} epochs of pre-training, not "
                f"{config.optim.pretrain_epochs}: resume it with the same number"
            )
    asked = config.optim.epochs if second else config.optim.pretrain_epochs
    if asked < started:
        raise NearfarError(
            f"run {str(folder)!r} is in epoch {started} of {checkpoint.phase!r}, but {asked} are "
            "requested: resume it with at least as many epochs"
        )
