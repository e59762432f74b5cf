"""A finished run: its networks, and the embeddings of its images."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nearfar.config import Backbone, ContrastiveObjective, ConvNet
from nearfar.errors import NearfarError
from nearfar.files import atomic_path, sync
from nearfar.models import Autoencoder
from nearfar.runs.config import RunConfig, read_config, write_config
from nearfar.runs.folder import CHECKPOINT, EMBEDDINGS, MODEL, is_finished, reading
from nearfar.runs.network import read_network
from nearfar.runs.records import read_log
from nearfar.runs.weights import add_prefix, to_cpu, write_tensors

TRAINED, INITIAL = "network.", "initial."


@dataclass(frozen=True, eq=False)
class Run:
    """A finished training, on the CPU.

    Parameters
    ----------
    config : RunConfig
        The images, and every setting as it was used.
    network : Autoencoder
        The trained network.
    initial : Autoencoder
        The network that the second phase started from: the plain autoencoder, or an untrained
        network, see `initial_method`.
    embeddings : float32[n, d]
        Embeddings of the training images, memory-mapped if they were read from a folder.
    log : list of dict
        Metrics per epoch.
    folder : Path, optional
        The run folder.

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

    @property
    def method(self) -> str:
        """Name of the trained network in tables, such as "NRE" or "autoencoder"."""
        return self.config.train.method

    @property
    def initial_method(self) -> str:
        """Name of `initial` in tables: "autoencoder", or "untrained" without pre-training.

        Published weights without pre-training are "pretrained". Your own network may have been
        trained before, and counts as an autoencoder.
        """
        train = self.config.train
        if train.optim.pretrain_epochs or not isinstance(train.network, ConvNet | Backbone):
            return "autoencoder"
        published = isinstance(train.network, Backbone) and train.network.published
        return "pretrained" if published else "untrained"

    @property
    def reconstructs(self) -> bool:
        """Whether the decoder was trained."""
        train = self.config.train
        objective = train.objective
        without = isinstance(objective, ContrastiveObjective) and not objective.pixel_weight
        return bool(train.optim.pretrain_epochs) or not without


def write_run(folder: Path, run: Run, embeddings: Path | None = None) -> None:
    """Write a finished run.

    The model comes last, so that a run with a model is complete.

    Parameters
    ----------
    embeddings : Path, optional
        An .npy file that holds the embeddings already; it is moved.

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
    write_config(folder, run.config)
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
    """Read a finished run.

    Parameters
    ----------
    folder : str or path
        The run folder.
    network : Autoencoder, optional
        Your own, if the run was trained with it; copies are filled with the weights.

    Raises
    ------
    NearfarError
        If the run is missing, unfinished, damaged, of another format or of another network.

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
    with reading(folder, EMBEDDINGS):
        embeddings = np.load(folder / EMBEDDINGS, mmap_mode="r", allow_pickle=False)
        shape, images = embeddings.shape, config.data.images
        if embeddings.ndim != 2 or embeddings.dtype != np.float32 or len(embeddings) != images:
            raise NearfarError(f"{embeddings.dtype}{list(shape)} instead of float32[{images}, d]")
    return Run(config, trained, initial, embeddings, read_log(folder), folder)


def read_trained_network(folder: str | os.PathLike[str]) -> Autoencoder:
    """Read the trained network of a finished run, whose embeddings need not be there.

    Raises
    ------
    NearfarError
        As `read_run`.

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
    """Read ``config.json`` of a run that holds a trained model."""
    config = read_config(folder)
    if not is_finished(folder):
        hint = "continue it with --resume" if (folder / CHECKPOINT).is_file() else "train it again"
        raise NearfarError(f"run {str(folder)!r} has no trained model yet: {hint}")
    return config
