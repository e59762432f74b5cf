"""Tables that several processes measure, and their trainings; importable by spawned processes."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from nearfar.config import TrainConfig
from nearfar.data import ArrayImages
from nearfar.experiments.configs import AUTOENCODER, PAPER
from nearfar.experiments.rows import train_for
from nearfar.experiments.runner import Job, Runner
from nearfar.progress import silent

SMALL = {"batch_size": 64, "embedding_size": 12, "device": "cpu"}


def plain(epochs: int, **options: Any) -> TrainConfig:
    return train_for(AUTOENCODER, epochs, **SMALL | options)


def relational(epochs: int, **options: Any) -> TrainConfig:
    return train_for(PAPER, epochs, **SMALL | options)


def begun(
    folder: Path, name: str = "table", settings: dict[str, Any] | None = None, track: Any = silent
) -> Runner:
    runner = Runner(folder, name, track=track)
    runner.begin(settings or {})
    return runner


def noting(folder: Path, name: str, **choices: Any) -> Job:
    """Return a cell that takes a moment, and notes which process measured it when."""

    def measure() -> dict[str, Any]:
        began = time.monotonic()
        time.sleep(0.3)
        with (folder / "notes.txt").open("a") as notes:
            notes.write(f"{name} {os.getpid()} {began} {time.monotonic()}\n")
        return {}

    return Job(name, {}, measure, **choices)


def measure_five(folder: Path, start: Any = None, last_for_ever: bool = False) -> None:
    """Measure a table of five cells, of which the first two need the same training."""
    if start:
        start.wait()
    cells = [
        noting(folder, number, training="run" if number in "01" else None) for number in "01234"
    ]
    if last_for_ever:
        cells[0] = Job("0", {}, lambda: (folder / "begun").touch() or time.sleep(1e6), "run")
    begun(folder / "out").measure(cells)


def train_beside(folder: Path, start: Any, digits: Any, neighbors: int) -> None:
    start.wait()
    config = relational(4, neighbors=neighbors)
    begun(folder).train(f"run-{neighbors}", ArrayImages(digits), config)
