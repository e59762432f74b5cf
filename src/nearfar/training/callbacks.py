"""Callbacks: what else happens while a network is trained."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nearfar.errors import require

if TYPE_CHECKING:
    from nearfar.training.trainer import Trainer


class Callback:
    """Base class of callbacks, which the first process calls.

    Examples
    --------
    >>> class PrintLoss(Callback):
    ...     def on_epoch_end(self, trainer, metrics):
    ...         print(metrics["phase"], metrics["epoch"], metrics["loss"])
    """

    def on_epoch_end(self, trainer: Trainer, metrics: dict[str, Any]) -> None:
        """Called with the log line of each epoch: its phase, its number from 1, its metrics."""


class EpochFunction(Callback):
    """Calls a function with the log line of each epoch.

    Parameters
    ----------
    function : callable
        From a dictionary of the phase, the epoch and its metrics.

    Examples
    --------
    >>> log = []
    >>> callback = EpochFunction(log.append)
    """

    def __init__(self, function: Callable[[dict[str, Any]], None]) -> None:
        self.function = function

    def on_epoch_end(self, trainer: Trainer, metrics: dict[str, Any]) -> None:
        """See `Callback`."""
        self.function(metrics)


class Snapshots(Callback):
    """Keeps the network in the run folder after some of the epochs.

    Parameters
    ----------
    epochs : collection of int
        Numbers of epochs over both phases; see `nearfar.runs.read_snapshot`.

    Examples
    --------
    >>> callback = Snapshots([10, 20])
    """

    def __init__(self, epochs: Collection[int]) -> None:
        self.epochs = frozenset(epochs)

    def on_epoch_end(self, trainer: Trainer, metrics: dict[str, Any]) -> None:
        """See `Callback`."""
        done = len(trainer.run.log)
        if done in self.epochs:
            trainer.run.write_snapshot(done, trainer.network.state_dict())


class TensorBoard(Callback):
    """Writes the metrics for TensorBoard.

    Parameters
    ----------
    folder : Path
        Made at the first epoch.

    Raises
    ------
    MissingExtraError
        If tensorboard is not installed.

    Examples
    --------
    >>> callback = TensorBoard(Path("run/tensorboard"))
    """

    def __init__(self, folder: Path) -> None:
        require("tensorboard", extra="tensorboard")
        self.folder = folder
        self._writer: Any = None

    def on_epoch_end(self, trainer: Trainer, metrics: dict[str, Any]) -> None:
        """See `Callback`."""
        from torch.utils.tensorboard import SummaryWriter

        if self._writer is None:  # not before, as training makes the run folder
            self._writer = SummaryWriter(str(self.folder))
        for name, value in metrics.items():
            if name not in ("phase", "epoch"):
                self._writer.add_scalar(f"{metrics['phase']}/{name}", value, metrics["epoch"])
        self._writer.flush()
