"""An output folder that is filled cell by cell, by one process or several, with any breaks."""

from __future__ import annotations

import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from matplotlib.figure import Figure

from nearfar import runs
from nearfar.data import Images, in_order
from nearfar.errors import NearfarError
from nearfar.experiments.configs import plain_half
from nearfar.files import atomic_path, claim_output, write_json
from nearfar.models import Autoencoder
from nearfar.progress import Track, silent
from nearfar.report.figures import save_figure
from nearfar.training.config import TrainConfig
from nearfar.training.phases import MakeObjective
from nearfar.training.train import train

SETTINGS, CELLS, RUNS, LOCKS = "settings.json", "cells", "runs", "locks"
HASHED_AT_ONCE = 4096
LIBRARIES = ("nearfar", "torch", "torchvision", "numpy", "scipy", "scikit-learn")
#: Those of extras, where they are installed.
EXTRAS = (
    "faiss-cpu",
    "adversarial-robustness-toolbox",
    "lightly",
    "opencv-contrib-python-headless",
)

#: What JSON holds of a measured cell. Its seconds are those of its trainings, whenever and by
#: whatever process they were made, and of what came after.
Measured = dict[str, Any]
MEASURED = {"cell": str, "settings": dict, "result": dict, "seconds": float, "environment": dict}


@dataclass(frozen=True)
class Cell:
    """One measurement.

    Parameters
    ----------
    name : str
        What its file is called.
    settings : mapping
        Everything that decides the result, beside the settings of the whole: only what JSON holds.
    measure : callable
        Makes the result, only what JSON holds.
    training : str, optional
        What is trained for it: processes never measure cells of the same one at the same time.
    """

    name: str
    settings: Mapping[str, Any]
    measure: Callable[[], Mapping[str, Any]]
    training: str | None = None


class Reproduction:
    """A folder where cells are measured, each once, and where their runs are trained.

    Processes that are given the same folder share its cells: each measures what no other has begun,
    and what another leaves undone.

    Parameters
    ----------
    folder : Path
        Made when the first cell is measured, or continued if it was begun with the same settings.
    name : str
        What is reproduced, and what its files are called.
    settings : mapping
        What all cells have in common: only what JSON holds.

    Raises
    ------
    NearfarError
        If the folder was begun with other settings, or holds something else.
    """

    def __init__(
        self, folder: Path, name: str, settings: Mapping[str, Any], *, track: Track = silent
    ) -> None:
        self.folder, self.name, self.track = folder, name, track
        # Of the present cell: seconds that its trainings took beyond what was waited for them.
        self._unseen = 0.0
        self.settings = _as_json({"reproduction": name, **settings})
        begun = folder / SETTINGS
        try:
            advice = f"choose another folder, or one that reproduce {name} has begun"
            claim_output(folder, overwrite=False, folder=True, advice=advice)
        except NearfarError:
            # Asked afterwards, as another process may begin the folder at the same moment.
            if not begun.is_file():
                raise
        if begun.is_file():
            _check_same(_read(begun, {"reproduction": str}), self.settings, folder)

    def measure(self, cells: Sequence[Cell]) -> dict[str, Measured]:
        """Measure the cells that have not been measured yet; return all of them by name."""
        found = {cell.name: self._measured(cell) for cell in cells}
        missing = [cell for cell in cells if found[cell.name] is None]
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / SETTINGS, self.settings)
        (self.folder / CELLS).mkdir(exist_ok=True)
        for _ in self.track(range(len(missing)), "cells", len(missing)):
            with self._next(missing) as cell:
                found[cell.name] = self._measured(cell) or self._measure(cell)
        return {name: measured for name, measured in found.items() if measured is not None}

    def lock(self, name: str) -> FileLock:
        """Return what keeps other processes, but not this one, from what bears this name."""
        (self.folder / LOCKS).mkdir(parents=True, exist_ok=True)
        return FileLock(self.folder / LOCKS / f"{name}.lock", is_singleton=True)

    def train(
        self,
        name: str,
        images: Images,
        config: TrainConfig,
        snapshots: Collection[int],
        objective: MakeObjective | None = None,
        network: Autoencoder | None = None,
    ) -> Path:
        """Train a run, or what is left of it; return its folder.

        Of a finished run the folder keeps the network and its snapshots, not the embeddings. A
        `network` that is given is where training begins. Otherwise what comes before the relations
        is trained once for all runs that begin alike: the rest is bit for bit the same. A run
        without relations has a snapshot where theirs begin.
        """
        if not config.epochs:
            snapshots = {*snapshots, *(plain_half(after) for after in snapshots)}
        folder = self.folder / RUNS / name
        began, unseen = time.perf_counter(), self._unseen
        with self.lock(name):
            finished = runs.is_finished(folder)
            resume = not finished and (folder / runs.CHECKPOINT).is_file()
            if finished or resume:
                _check_same(runs.read_config(folder).train, _as_json(asdict(config)), folder)
            else:
                shutil.rmtree(folder, ignore_errors=True)
            if not finished:
                alone = resume or network or not (config.pretrain_epochs and config.epochs)
                train(
                    images,
                    config,
                    folder=folder,
                    resume=resume,
                    encoder=network and network.encoder,
                    decoder=network and network.decoder,
                    pretrained=None if alone else self._pretrain(images, config),
                    objective=objective,
                    snapshots=snapshots,
                    track=self.track,
                )
            (folder / runs.EMBEDDINGS).unlink(missing_ok=True)
        self._unseen = unseen + training_seconds(folder) - (time.perf_counter() - began)
        return folder

    def _pretrain(self, images: Images, config: TrainConfig) -> Path:
        """Return a run that began as `config` does, and train one if there is none."""
        plain = config.pretraining()
        for run in sorted((self.folder / RUNS).glob("*")):
            if _begins_with(run, plain, images):
                return run
        digest = sha256(repr((images.name, len(images), images.shape, plain)).encode()).hexdigest()
        return self.train(f"pretraining-{digest[:12]}", images, plain, [plain.pretrain_epochs])

    def write(
        self,
        measured: Mapping[str, Measured],
        summary: Mapping[str, Any],
        text: str,
        figure: Figure,
    ) -> None:
        """Write the summary with all cells as JSON, the text as Markdown, and the figure."""
        path = self.folder / self.name
        write_json(
            path.with_suffix(".json"),
            {"settings": self.settings, "summary": summary, "cells": list(measured.values())},
        )
        with atomic_path(path.with_suffix(".md")) as temporary:
            temporary.write_text(text, encoding="utf-8")
        self.draw(self.name, figure)

    def draw(self, name: str, figure: Figure) -> None:
        """Write a figure, as a PNG file of this name."""
        with atomic_path(self.folder / f"{name}.png") as temporary:
            save_figure(figure, temporary)

    @contextmanager
    def _next(self, cells: list[Cell]) -> Iterator[Cell]:
        """Take a cell out of the list: one that no other process is at, or wait for the first."""
        for cell in cells:
            lock = self.lock(cell.training or cell.name)
            with suppress(Timeout):
                lock.acquire(blocking=False)
                break
        else:
            cell = cells[0]
            lock = self.lock(cell.training or cell.name)
            lock.acquire()
        cells.remove(cell)
        try:
            yield cell
        finally:
            lock.release()

    def _measure(self, cell: Cell) -> Measured:
        began, self._unseen = time.perf_counter(), 0.0
        result = cell.measure()
        measured = {
            "cell": cell.name,
            "settings": _as_json(cell.settings),
            "result": _as_json(result),
            "seconds": time.perf_counter() - began + self._unseen,
            "environment": environment(),
        }
        write_json(self._file(cell), measured)
        return measured

    def _file(self, cell: Cell) -> Path:
        return self.folder / CELLS / f"{cell.name}.json"

    def _measured(self, cell: Cell) -> Measured | None:
        """Return what was measured before, if it was."""
        path = self._file(cell)
        if not path.is_file():
            return None
        measured = _read(path, MEASURED)
        _check_same(measured["settings"], _as_json(cell.settings), path)
        return measured


def _begins_with(run: Path, plain: TrainConfig, images: Images) -> bool:
    """Whether a run began with this training, and kept the network as it was at its end."""
    epochs = plain.pretrain_epochs
    if not runs.has_snapshot(run, epochs):
        return False
    described = runs.read_config(run)
    trained, data = TrainConfig.from_dict(described.train), described.data
    # The beginning of a longer training is the same if the rates do not depend on its end.
    longer = trained.pretrain_epochs > epochs and plain.lr_schedule == "constant"
    return (
        (longer or trained.pretrain_epochs == epochs)
        and replace(trained, pretrain_epochs=epochs).pretraining() == plain
        and (data.source, data.images, data.shape) == (images.name, len(images), images.shape)
        and described.architecture is not None
    )


def training_seconds(folder: Path, epochs: int | None = None) -> float:
    """Return how long the first so many epochs of a run, or all, took without interruptions."""
    return float(sum(line["seconds"] for line in runs.read_log(folder)[:epochs]))


def fingerprint(images: Images) -> dict[str, Any]:
    """Return what identifies images: their source and number, and a checksum of their content."""
    digest = sha256(repr(images.shape).encode())
    for rows in in_order(range(len(images)), HASHED_AT_ONCE):
        for part in images.content(rows):
            digest.update(part)
    if images.labels is not None:
        digest.update(images.labels.tobytes())
    return {"source": images.name, "images": len(images), "sha256": digest.hexdigest()}


def environment() -> dict[str, Any]:
    """Return the kind of machine, and the versions that decide the last digits."""
    return {
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        **{name: version(name) for name in (*LIBRARIES, *filter(_is_installed, EXTRAS))},
    }


def _is_installed(name: str) -> bool:
    try:
        return bool(version(name))
    except PackageNotFoundError:
        return False


def _as_json(value: Any) -> Any:
    """Return a value as it comes back from JSON: lists for tuples."""
    return json.loads(json.dumps(value))


#: The choices of a training, with their defaults.
TRAINING = _as_json(asdict(TrainConfig()))


def _read(path: Path, kinds: Mapping[str, type]) -> dict[str, Any]:
    """Read an object that has at least these members."""
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
        for name, kind in kinds.items():
            if not isinstance(read, dict) or not isinstance(read.get(name), kind):
                raise ValueError(f"no {name}")
        return dict(read)
    except (OSError, ValueError) as error:
        raise NearfarError(f"{str(path)!r} is damaged ({error}): remove it") from error


def _check_same(before: Any, now: Any, where: Path) -> None:
    """Stop if something was begun with other settings."""
    for name, then, here in _differences(before, now):
        raise NearfarError(
            f"{str(where)!r} was made with {name}={then}, not {here}: "
            "continue with the same choices, or choose another folder"
        )


def _differences(before: Any, now: Any, name: str = "settings") -> Iterator[tuple[str, Any, Any]]:
    """Yield what differs, as deep inside as it can be named."""
    if isinstance(before, dict) and isinstance(now, dict):
        if now.keys() == TRAINING.keys():
            before = TRAINING | before  # of a time when there were fewer choices
        for key in {**now, **before}:
            yield from _differences(before.get(key), now.get(key), key)
    elif before != now:
        yield name, before, now
