"""A finished run: its networks, and the embeddings of its images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nearfar.config import Backbone, ConvNet
from nearfar.errors import NearfarError
from nearfar.files import atomic_path, sync
from nearfar.models import Autoencoder
from nearfar.runs.config import RunConfig, read_config, write_config
from nearfar.runs.folder import CHECKPOINT, EMBEDDINGS, MODEL, is_finished, reading
from nearfar.runs.network import read_network
from nearfar.runs.records import read_log, read_skipped, write_skipped
from nearfar.runs.weights import add_prefix, to_cpu, write_tensors

#: Part of the embeddings that is checked for NaN on reading a run, in bytes.
CHECKED_BYTES = 2**30

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
        """Name of `initial` in tables: "autoencoder", or "untrained" without pre-training.

        Your own network may have been trained before, and counts as an autoencoder.
        """
        train = self.config.train
        untrained = (
            isinstance(train.network, ConvNet | Backbone) and not train.optim.pretrain_epochs
        )
        return "untrained" if untrained else "autoencoder"


def write_run(folder: str | os.PathLike[str], run: Run, embeddings: Path | None = None) -> None:
    """Write a finished run.

    The model comes last, so that a run with a model is complete.

    Parameters
    ----------
    embeddings : Path, optional
        An .npy file that holds the embeddings already; it is moved.
    """
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
        check_embeddings(embeddings)
    skipped = read_skipped(folder)
    return Run(config, trained, initial, embeddings, read_log(folder), folder, skipped)


def check_embeddings(embeddings: npt.NDArray[np.float32]) -> None:
    """Check that embeddings, float32[n, d], are finite.

    Only the first gigabyte is checked, since that reads memory-mapped ones.

    Raises
    ------
    NearfarError
        If they are not; the message names the first such row.
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
    """Read the trained network of a finished run, whose embeddings need not be there.

    Raises
    ------
    NearfarError
        As `read_run`.
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
