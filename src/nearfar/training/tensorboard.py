"""The log of a training for TensorBoard."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from nearfar.errors import require


def tensorboard_log(folder: Path) -> Callable[[dict[str, Any]], None]:
    """Return a function that writes lines of the log to `folder` as TensorBoard reads them.

    Raises
    ------
    MissingExtraError
        If tensorboard is not installed.
    """
    require("tensorboard", extra="tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    writers: list[SummaryWriter] = []

    def write(line: dict[str, Any]) -> None:
        if not writers:  # not before, as training makes the run folder
            writers.append(SummaryWriter(str(folder)))
        (writer,) = writers
        for name, value in line.items():
            if name not in ("phase", "epoch"):
                writer.add_scalar(f"{line['phase']}/{name}", value, line["epoch"])
        writer.flush()

    return write
