"""Finished runs: `Run`, and functions to read and write runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nearfar.config import Backbone, NetworkConfig
from nearfar.errors import NearfarError
from nearfar.files import atomic_path, sync
from nearfar.models import Autoencoder
from nearfar.runs.config import RunConfig, read_config, write_config
from nearfar.runs.layout import CHECKPOINT, EMBEDDINGS, MODEL, explain_damage, is_finished
from nearfar.runs.network import read_network
from nearfar.runs.records import read_log, read_skipped, write_skipped
from nearfar.runs.weights import add_prefix, to_cpu, write_tensors

#: Bytes of the embeddings that are checked for NaN when reading a run.
CHECKED_BYTES = 2**30

TRAINED, INITIAL = "network.", "initial."


@dataclass(frozen=True, eq=False)
class Run:
    """Result of a training run. The networks are on the CPU.

    Parameters
    ----------
    config : RunConfig
        Images and settings.
    network : Autoencoder
        Trained network.
    initial : Autoencoder
        Network at the start of the second phase, such as the plain autoencoder or the untrained
        network, see `initial_method`.
    embeddings : float32[n, d]
        Embeddings of the training images. They are memory-mapped if the run was read from a folder.
    log : list of dict
        Metrics of each epoch.
    folder : Path, optional
        Run folder; None if the run was not written to disk.
    skipped : sequence of str
        One line per file that was not used.

    Examples
    --------
    >>> import torch
    >>> from nearfar.config import Optim, TrainConfig
    >>> from nearfar.data import ArrayImages
    >>> from nearfar.training import train
    >>> images = ArrayImages(torch.rand(20, 1, 8, 8))
    >>> run = train(images, TrainConfig(optim=Optim(pretrain_epochs=1, epochs=1)))
    >>> run.method, run.embeddings.shape
    ('NRE', (20, 128))
    """

    config: RunConfig
    network: Autoencoder
    initial: Autoencoder
    embeddings: npt.NDArray[np.float32]
    log: list[dict[str, Any]]
    folder: Path | None = None
    skipped: Sequence[str] = ()

    @property
    def method(self) -> str:
        """Name of the trained network in tables, such as "NRE" or "autoencoder"."""
        return self.config.train.method

    @property
    def initial_method(self) -> str:
        """Name of the initial network in tables: "autoencoder", "untrained" or "pretrained".

        The name is "pretrained" if the network starts with pretrained weights and there is no first
        phase. For a custom network, it is always "autoencoder", because the network may have been
        trained before.
        """
        train = self.config.train
        if train.optim.pretrain_epochs or not isinstance(train.network, NetworkConfig):
            return "autoencoder"
        pretrained = isinstance(train.network, Backbone) and train.network.pretrained
        return "pretrained" if pretrained else "untrained"

    @property
    def reconstructs(self) -> bool:
        """Whether the decoder was trained."""
        return self.config.train.trains_decoder


def write_run(
    folder: str | os.PathLike[str], run: Run, embeddings: str | os.PathLike[str] | None = None
) -> None:
    """Write a finished run to a folder.

    The model is written last, so a folder that contains a model is complete.

    Parameters
    ----------
    folder : str or path
        Existing run folder.
    run : Run
        Run to write.
    embeddings : Path, optional
        Path of an .npy file with the embeddings. The file is moved to the run folder. Default:
        `run.embeddings` is written.

    Examples
    --------
    >>> import tempfile, torch
    >>> from nearfar import recipe, train
    >>> from nearfar.data import ArrayImages
    >>> images = ArrayImages(torch.rand(20, 1, 8, 8))
    >>> config = recipe("paper", pretrain_epochs=1, epochs=1, clusters=3)
    >>> run = train(images, config)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_run(Path(folder), run)
    ...     sorted(path.name for path in Path(folder).iterdir())
    ['config.json', 'embeddings.npy', 'model.safetensors']
    """
    embeddings = None if embeddings is None else Path(embeddings)
    folder = Path(folder)
    write_config(folder, run.config)
    write_skipped(folder, run.skipped)
    if embeddings is not None:
        sync(embeddings)
        embeddings.replace(folder / EMBEDDINGS)
    else:
        with atomic_path(folder / EMBEDDINGS) as temporary, temporary.open("wb") as file:
            np.save(file, run.embeddings, allow_pickle=False)
    tensors = {
        **add_prefix(TRAINED, run.network.state_dict()),
        **add_prefix(INITIAL, run.initial.state_dict()),
    }
    write_tensors(folder / MODEL, to_cpu(tensors), {})


def read_run(folder: str | os.PathLike[str], network: Autoencoder | None = None) -> Run:
    """Return the finished run in a folder.

    Parameters
    ----------
    folder : str or path
        Run folder.
    network : Autoencoder, optional
        Required if the run was trained with a custom network: a network of the same architecture.
        The weights are loaded into copies.

    Raises
    ------
    NearfarError
        If the run is missing, unfinished or damaged, has an unsupported format, or belongs to a
        different network.

    Examples
    --------
    >>> import tempfile, torch
    >>> from nearfar import recipe, train
    >>> from nearfar.data import ArrayImages
    >>> images = ArrayImages(torch.rand(20, 1, 8, 8))
    >>> config = recipe("paper", pretrain_epochs=1, epochs=1, clusters=3)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = train(images, config, folder=folder + "/run")
    ...     run = read_run(folder + "/run")
    >>> run.method, run.embeddings.shape
    ('NRE', (20, 128))
    """
    folder = Path(folder)
    config = _read_finished(folder)
    trained = read_network(folder, folder / MODEL, TRAINED, network)
    initial = read_network(folder, folder / MODEL, INITIAL, network)
    with explain_damage(folder, EMBEDDINGS):
        embeddings = np.load(folder / EMBEDDINGS, mmap_mode="r", allow_pickle=False)
        shape, images = embeddings.shape, config.data.images
        if embeddings.ndim != 2 or embeddings.dtype != np.float32 or len(embeddings) != images:
            raise NearfarError(f"{embeddings.dtype}{list(shape)} instead of float32[{images}, d]")
        check_embeddings(embeddings)
    skipped = read_skipped(folder)
    return Run(config, trained, initial, embeddings, read_log(folder), folder, skipped)


def check_embeddings(embeddings: npt.NDArray[np.float32]) -> None:
    """Check that embeddings (float32[n, d]) contain neither NaN nor infinity.

    Only the first gigabyte is checked, to avoid reading all memory-mapped embeddings.

    Raises
    ------
    NearfarError
        If a value is NaN or infinite. The message states the first invalid row.

    Examples
    --------
    >>> check_embeddings(np.zeros((2, 3), np.float32))
    """
    step = max(1, CHECKED_BYTES // 16 // max(1, embeddings[:1].nbytes))
    for start in range(0, min(len(embeddings), 16 * step), step):
        finite = np.isfinite(embeddings[start : start + step]).all(axis=1)
        if not finite.all():
            row = start + int(finite.argmin())
            raise NearfarError(
                f"embeddings hold NaN or infinity, first in row {row}: train again with a lower "
                "learning rate"
            )


def read_trained_network(folder: str | os.PathLike[str]) -> Autoencoder:
    """Return the trained network of a finished run, without reading the embeddings of the run.

    Raises
    ------
    NearfarError
        See `read_run`.

    Examples
    --------
    >>> import tempfile, torch
    >>> from nearfar import recipe, train
    >>> from nearfar.data import ArrayImages
    >>> images = ArrayImages(torch.rand(20, 1, 8, 8))
    >>> config = recipe("paper", pretrain_epochs=1, epochs=1, clusters=3)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = train(images, config, folder=folder + "/run")
    ...     network = read_trained_network(folder + "/run")
    >>> network(torch.rand(1, 1, 8, 8)).reconstruction.shape
    torch.Size([1, 1, 8, 8])
    """
    folder = Path(folder)
    _read_finished(folder)
    return read_network(folder, folder / MODEL, TRAINED)


def _read_finished(folder: Path) -> RunConfig:
    """Return the configuration of a run; raise an error if the run is unfinished."""
    config = read_config(folder)
    if not is_finished(folder):
        hint = "continue it with --resume" if (folder / CHECKPOINT).is_file() else "train it again"
        raise NearfarError(f"run {str(folder)!r} has no trained model yet: {hint}")
    return config
