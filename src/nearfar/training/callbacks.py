"""Callbacks, which are called after each epoch of training."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nearfar.errors import require

if TYPE_CHECKING:
    from nearfar.training.trainer import Trainer


class Callback:
    """Base class of callbacks. With several processes, only the first one calls them.

    Examples
    --------
    >>> class PrintLoss(Callback):
    ...     def on_epoch_end(self, trainer, metrics):
    ...         print(metrics["phase"], metrics["epoch"], metrics["loss"])
    """

    def measure(self, trainer: Trainer) -> Mapping[str, float]:
        """Return additional metrics of the epoch that has just ended, by name."""
        return {}

    def on_epoch_end(self, trainer: Trainer, metrics: dict[str, Any]) -> None:
        """Handle the end of an epoch.

        `metrics` contains "phase", "epoch" (from 1), and the values of all metrics by name.
        """


class EpochFunction(Callback):
    """Callback that calls a function after each epoch.

    Parameters
    ----------
    function : callable
        Function that takes the metrics of the epoch, see `Callback.on_epoch_end`.

    Examples
    --------
    >>> log = []
    >>> callback = EpochFunction(log.append)
    """

    def __init__(self, function: Callable[[dict[str, Any]], None]) -> None:
        self.function = function

    def on_epoch_end(self, trainer: Trainer, metrics: dict[str, Any]) -> None:
        """See `Callback.on_epoch_end`."""
        self.function(metrics)


class Snapshots(Callback):
    """Callback that writes a snapshot of the network to the run folder after given epochs.

    Use `nearfar.runs.read_snapshot` to read a snapshot.

    Parameters
    ----------
    epochs : collection of int
        Numbers of epochs after which a snapshot is written, counted over both phases.

    Examples
    --------
    >>> callback = Snapshots([10, 20])
    """

    def __init__(self, epochs: Collection[int]) -> None:
        self.epochs = frozenset(epochs)

    def on_epoch_end(self, trainer: Trainer, metrics: dict[str, Any]) -> None:
        """See `Callback.on_epoch_end`."""
        done = len(trainer.run.log)
        if done in self.epochs:
            trainer.run.write_snapshot(done, trainer.network.state_dict())


class TensorBoard(Callback):
    """Callback that writes the metrics of each epoch for TensorBoard.

    Parameters
    ----------
    folder : Path
        Output folder, created after the first epoch.

    Raises
    ------
    MissingExtraError
        If tensorboard is not installed.

    Examples
    --------
    >>> callback = TensorBoard(Path("run/tensorboard"))
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        folder = Path(folder)
        require("tensorboard", extra="tensorboard")
        self.folder = folder
        self._writer: Any = None

    def on_epoch_end(self, trainer: Trainer, metrics: dict[str, Any]) -> None:
        """See `Callback.on_epoch_end`."""
        from torch.utils.tensorboard import SummaryWriter

        if self._writer is None:  # only now, since training creates the run folder
            self._writer = SummaryWriter(str(self.folder))
        for name, value in metrics.items():
            if name not in ("phase", "epoch"):
                self._writer.add_scalar(f"{metrics['phase']}/{name}", value, metrics["epoch"])
        self._writer.flush()
