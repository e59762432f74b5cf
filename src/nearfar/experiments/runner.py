"""Resumable measurement of the cells of an experiment, with one or several processes."""

from __future__ import annotations

import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from filelock import FileLock, Timeout

from nearfar import runs
from nearfar.config import Optim, RelationalObjective, TrainConfig
from nearfar.data import Images, sequential_batches
from nearfar.errors import NearfarError
from nearfar.files import atomic_path, claim_output, write_json
from nearfar.models import Autoencoder, resolve_device
from nearfar.progress import Track, silent
from nearfar.training import Snapshots, resolve_config, train

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SETTINGS, CELLS, RUNS, LOCKS = "settings.json", "cells", "runs", "locks"
IMAGES_PER_HASH = 4096
LIBRARIES = ("nearfar", "torch", "torchvision", "numpy", "scipy", "scikit-learn")
#: Libraries of extras, recorded if they are installed.
EXTRAS = (
    "faiss-cpu",
    "adversarial-robustness-toolbox",
    "lightly",
    "opencv-contrib-python-headless",
)

#: Measured cell as JSON. Its seconds include all training runs that it needs, in any process and
#: at any time.
Measurement = dict[str, Any]
FIELDS = {"cell": str, "settings": dict, "result": dict, "seconds": float, "environment": dict}


@dataclass(frozen=True)
class Job:
    """Cell to measure.

    Parameters
    ----------
    name : str
        Name of the cell, which is also the name of the file of the cell.
    settings : mapping
        Settings that affect the result, as JSON types. The settings passed to `Runner.begin` are
        not repeated.
    measure : callable
        Function without arguments that measures the cell and returns the result, as JSON types.
    training : str, optional
        Name of the training run that the cell needs. Cells that need the same run are never
        measured at the same time.
    """

    name: str
    settings: Mapping[str, Any]
    measure: Callable[[], Mapping[str, Any]]
    training: str | None = None


@dataclass(frozen=True)
class Training:
    """Completed training run of a `Runner`.

    Parameters
    ----------
    folder : Path
        Run folder.
    config : TrainConfig
        Training configuration.
    """

    folder: Path
    config: TrainConfig

    @property
    def epochs(self) -> int:
        """Total number of epochs in both phases."""
        return self.config.optim.pretrain_epochs + self.config.optim.epochs

    def network(self, epochs: int | None = None) -> Autoencoder:
        """Return the network after `epochs` epochs (default: all), in evaluation mode."""
        after = self.epochs if epochs is None else epochs
        own = self.config.network
        custom = own if isinstance(own, Autoencoder) else None
        return runs.read_snapshot(self.folder, after, custom).to(resolve_device("auto")).eval()

    def seconds(self, epochs: int | None = None) -> float:
        """Return the duration of the first `epochs` epochs (default: all) in seconds."""
        return float(sum(line["seconds"] for line in runs.read_log(self.folder)[:epochs]))


class Runner:
    """Runner that measures the cells of an experiment and trains the networks for these cells.

    Each cell is measured once. Several processes can work in the same folder. Each process measures
    cells that no other process has started, or that a stopped process has left unfinished.

    Parameters
    ----------
    folder : Path
        Output folder, created when the first cell is measured. If the folder exists and has the
        same settings, the experiment is continued.
    name : str
        Name of the experiment and of the result files.
    data_root : Path, optional
        Folder of the data sets. Default: the default data root.
    quick : bool
        Whether to use a smaller data set, for a smoke test.
    track : Track
        Progress display, see `nearfar.progress.Track`.
    scratch : Path, optional
        Folder for temporary files.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        *,
        data_root: Path | None = None,
        quick: bool = False,
        track: Track = silent,
        scratch: Path | None = None,
    ) -> None:
        self.folder, self.name, self.track = folder, name, track
        self.data_root, self.quick, self.scratch = data_root, quick, scratch
        # Seconds of the current cell's training runs, minus the time that this process spent on
        # them.
        self._unseen = 0.0
        self.settings: dict[str, Any] = {}

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Check that the folder is new, or belongs to an experiment with the same settings.

        Parameters
        ----------
        settings : mapping
            Settings that identify the experiment, as JSON types.

        Raises
        ------
        NearfarError
            If the folder has different settings or contains other files.
        """
        self.settings = _as_json({"experiment": self.name, **settings})
        begun = self.folder / SETTINGS
        try:
            advice = f"choose another folder, or one that reproduce {self.name} has started"
            claim_output(self.folder, overwrite=False, folder=True, advice=advice)
        except NearfarError:
            # Checked afterward, since another process may create the folder at the same time.
            if not begun.is_file():
                raise
        if begun.is_file():
            _check_same(_read(begun, {"experiment": str}), self.settings, self.folder)

    def measure(self, jobs: Sequence[Job]) -> dict[str, Measurement]:
        """Measure all cells that have no measurement yet, and return all measurements by name."""
        found = {job.name: self._measured(job) for job in jobs}
        missing = [job for job in jobs if found[job.name] is None]
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / SETTINGS, self.settings)
        (self.folder / CELLS).mkdir(exist_ok=True)
        for _ in self.track(range(len(missing)), "cells", len(missing)):
            with self._next(missing) as job:
                found[job.name] = self._measured(job) or self._measure(job)
        return {name: measured for name, measured in found.items() if measured is not None}

    def lock(self, name: str) -> FileLock:
        """Return the lock with the given name. Only one process at a time can hold the lock.

        The lock is reentrant: the process that holds it can acquire it again.
        """
        (self.folder / LOCKS).mkdir(parents=True, exist_ok=True)
        return FileLock(self.folder / LOCKS / f"{name}.lock", is_singleton=True)

    def train(
        self,
        name: str,
        images: Images,
        config: TrainConfig,
        snapshots: Collection[int] = (),
    ) -> Training:
        """Train or resume a run, and return the completed training.

        The folder of a completed run contains the network and the snapshots, but not the
        embeddings. Runs with the same pre-training share one pre-training run; the result is
        bit-identical to that of separate pre-training. A run with a single phase also keeps
        snapshots at half the number of epochs, from which the second phase of other runs starts.

        Parameters
        ----------
        name : str
            Name of the run.
        images : Images
            Training images.
        config : TrainConfig
            Training configuration.
        snapshots : collection of int
            Numbers of epochs after which a snapshot is saved, counted over both phases. The final
            network is always saved.
        """
        config = resolve_config(config, images)
        folder, optim = self.folder / RUNS / name, config.optim
        training = Training(folder, config)
        kept = {*snapshots, training.epochs}
        if not optim.epochs:
            kept |= {after - after // 2 for after in kept}
        began, unseen = time.perf_counter(), self._unseen
        with self.lock(name):
            finished = runs.is_finished(folder)
            resume = not finished and (folder / runs.CHECKPOINT).is_file()
            if finished or resume:
                before = runs.read_config(folder).train
                _check_same(before.to_dict(), config.to_dict(), folder)
            else:
                shutil.rmtree(folder, ignore_errors=True)
            if not finished:
                own = isinstance(config.network, Autoencoder)
                if not (resume or own) and optim.pretrain_epochs and optim.epochs:
                    source = self._pretrain(images, config)
                    runs.fork_run(source.folder, optim.pretrain_epochs, folder, config)
                    if optim.pretrain_epochs in kept:
                        weights = source.network(optim.pretrain_epochs).state_dict()
                        runs.write_snapshot(folder, optim.pretrain_epochs, weights)
                    resume = True
                train(
                    images,
                    config,
                    folder=folder,
                    resume=resume,
                    callbacks=[Snapshots(kept)],
                    track=self.track,
                )
            (folder / runs.EMBEDDINGS).unlink(missing_ok=True)
        self._unseen = unseen + training.seconds() - (time.perf_counter() - began)
        return training

    def _pretrain(self, images: Images, config: TrainConfig) -> Training:
        """Return a run with the same pre-training as `config`. If none exists, train it."""
        plain = _pretraining(config, config.optim.pretrain_epochs)
        for run in sorted((self.folder / RUNS).glob("*")):
            if _begins_with(run, plain, images):
                return Training(run, plain)
        digest = sha256(repr((images.name, len(images), images.shape, plain)).encode()).hexdigest()
        return self.train(f"pretraining-{digest[:12]}", images, plain)

    def write(
        self,
        measured: Mapping[str, Measurement],
        summary: Mapping[str, Any],
        text: str,
        figures: Mapping[str, Figure],
    ) -> None:
        """Write the results: summary and cells as JSON, text as Markdown, and figures as PNG."""
        path = self.folder / self.name
        write_json(
            path.with_suffix(".json"),
            {"settings": self.settings, "summary": summary, "cells": list(measured.values())},
        )
        with atomic_path(path.with_suffix(".md")) as temporary:
            temporary.write_text(text, encoding="utf-8")
        for name, figure in figures.items():
            self.draw(name, figure)

    def draw(self, name: str, figure: Figure) -> None:
        """Write a figure as a PNG file with the given name."""
        from nearfar.report.figures import save_figure

        with atomic_path(self.folder / f"{name}.png") as temporary:
            save_figure(figure, temporary)

    @contextmanager
    def _next(self, jobs: list[Job]) -> Iterator[Job]:
        """Context manager that removes a cell from `jobs` and yields it, while holding its lock.

        It chooses a cell that no other process is measuring. If there is none, it waits.
        """
        for job in jobs:
            lock = self.lock(job.training or job.name)
            with suppress(Timeout):
                lock.acquire(blocking=False)
                break
        else:
            job = jobs[0]
            lock = self.lock(job.training or job.name)
            lock.acquire()
        jobs.remove(job)
        try:
            yield job
        finally:
            lock.release()

    def _measure(self, job: Job) -> Measurement:
        began, self._unseen = time.perf_counter(), 0.0
        result = job.measure()
        measured = {
            "cell": job.name,
            "settings": _as_json(job.settings),
            "result": _as_json(result),
            "seconds": time.perf_counter() - began + self._unseen,
            "environment": environment(),
        }
        write_json(self._file(job), measured)
        return measured

    def _file(self, job: Job) -> Path:
        return self.folder / CELLS / f"{job.name}.json"

    def _measured(self, job: Job) -> Measurement | None:
        """Return the measurement of a cell from its file, or None if there is no file."""
        path = self._file(job)
        if not path.is_file():
            return None
        measured = _read(path, FIELDS)
        _check_same(measured["settings"], _as_json(job.settings), path)
        return measured


def _pretraining(config: TrainConfig, epochs: int) -> TrainConfig:
    """Return a configuration with only the first phase, and defaults for the second phase."""
    optim = replace(config.optim, pretrain_epochs=epochs, epochs=0, lr=Optim.lr)
    return replace(config, objective=RelationalObjective(), optim=optim)


def _begins_with(run: Path, plain: TrainConfig, images: Images) -> bool:
    """Return whether a run starts with the pre-training `plain` and has a snapshot after it."""
    epochs = plain.optim.pretrain_epochs
    if not runs.has_snapshot(run, epochs):
        return False
    recorded = runs.read_config(run)
    trained, data = recorded.train.optim.pretrain_epochs, recorded.data
    # A longer run starts the same way if its learning rate does not depend on its length.
    longer = trained > epochs and plain.optim.lr_schedule == "constant"
    return (
        (longer or trained == epochs)
        and _pretraining(recorded.train, epochs) == plain
        and (data.source, data.images, data.shape) == (images.name, len(images), images.shape)
    )


def fingerprint(images: Images) -> dict[str, Any]:
    """Return the source of the images, their number, and a checksum of their content and labels."""
    digest = sha256(repr(images.shape).encode())
    for rows in sequential_batches(range(len(images)), IMAGES_PER_HASH):
        for part in images.content(rows):
            digest.update(part)
    if images.labels is not None:
        digest.update(images.labels.tobytes())
    return {"source": images.name, "images": len(images), "sha256": digest.hexdigest()}


def environment() -> dict[str, Any]:
    """Return the type of the machine and the versions of libraries.

    Both affect the last digits of results.
    """
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
    """Return a value converted to JSON types, with lists instead of tuples."""
    return json.loads(json.dumps(value))


def _read(path: Path, kinds: Mapping[str, type]) -> dict[str, Any]:
    """Return the object in a JSON file, after checking that it has members of the given types."""
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
        for name, kind in kinds.items():
            if not isinstance(read, dict) or not isinstance(read.get(name), kind):
                raise ValueError(f"no {name}")
        return dict(read)
    except (OSError, ValueError) as error:
        raise NearfarError(f"{str(path)!r} is damaged ({error}): remove it") from error


def _check_same(before: Any, now: Any, where: Path) -> None:
    """Raise an error if the settings have changed."""
    for name, then, here in _differences(before, now):
        raise NearfarError(
            f"{str(where)!r} was made with {name}={then}, not {here}: "
            "continue with the same settings, or choose another folder"
        )


def _differences(before: Any, now: Any, name: str = "settings") -> Iterator[tuple[str, Any, Any]]:
    """Yield the key and both values of each difference between two nested dictionaries."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in {**now, **before}:
            yield from _differences(before.get(key), now.get(key), key)
    elif before != now:
        yield name, before, now
