"""A finished run: its networks, and the embeddings of its images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from torch import nn

from nearfar.errors import NearfarError
from nearfar.files import atomic_path, sync
from nearfar.models import Autoencoder
from nearfar.run_config import RunConfig
from nearfar.runs.config import read_config, write_config
from nearfar.runs.folder import CHECKPOINT, EMBEDDINGS, MODEL, is_finished, reading
from nearfar.runs.weights import build, load_weights, read_tensors, to_write, write_tensors

Role = Literal["autoencoder", "pretrained"]


@dataclass(frozen=True)
class TrainedRun:
    """A finished run, read back.

    Parameters
    ----------
    autoencoder : Autoencoder
        The network as trained on the relations.
    pretrained : Autoencoder
        What it started from: the plain autoencoder, or an untrained one, see `start`.
    embeddings : float32[n, d]
        Embeddings of the training images, memory-mapped.
    """

    folder: Path
    config: RunConfig
    autoencoder: Autoencoder
    pretrained: Autoencoder
    embeddings: npt.NDArray[np.float32]

    @property
    def start(self) -> str:
        """What tables call `pretrained`: "autoencoder", or "untrained" after no epochs of that.

        A network of the caller's own may have been trained before, and counts as an autoencoder.
        """
        trained = self.config.train["pretrain_epochs"] or self.config.architecture is None
        return "autoencoder" if trained else "untrained"


def write_run(
    folder: Path,
    config: RunConfig,
    autoencoder: Autoencoder,
    pretrained: Autoencoder,
    embeddings: npt.NDArray[np.float32] | Path,
) -> None:
    """Write a finished run; the model comes last, so that a run with a model is complete.

    Embeddings that are in an .npy file already are moved.
    """
    write_config(folder, config)
    if isinstance(embeddings, Path):
        sync(embeddings)
        embeddings.replace(folder / EMBEDDINGS)
    else:
        with atomic_path(folder / EMBEDDINGS) as temporary, temporary.open("wb") as file:
            np.save(file, embeddings, allow_pickle=False)
    roles: dict[Role, Autoencoder] = {"autoencoder": autoencoder, "pretrained": pretrained}
    tensors = {
        f"{role}.{name}": tensor
        for role, module in roles.items()
        for name, tensor in module.state_dict().items()
    }
    write_tensors(folder / MODEL, to_write(tensors), {})


def read_run(
    folder: Path, encoder: nn.Module | None = None, decoder: nn.Module | None = None
) -> TrainedRun:
    """Read a finished run.

    Parameters
    ----------
    encoder, decoder : nn.Module, optional
        The network, if it was the caller's own; two copies of it are filled with the weights.

    Raises
    ------
    NearfarError
        If the run is missing, unfinished, damaged, of a newer format or of another network.
    """
    config = _read_finished(folder)
    autoencoder = build(config, encoder, decoder, where=folder)
    pretrained = build(config, encoder, decoder, where=folder)
    tensors, _ = read_tensors(folder / MODEL)
    load_weights(autoencoder, tensors, "autoencoder.", folder)
    load_weights(pretrained, tensors, "pretrained.", folder)
    with reading(folder, EMBEDDINGS):
        embeddings = np.load(folder / EMBEDDINGS, mmap_mode="r", allow_pickle=False)
        if (
            embeddings.ndim != 2
            or embeddings.dtype != np.float32
            or len(embeddings) != config.data.images
        ):
            raise NearfarError(
                f"{embeddings.dtype}{list(embeddings.shape)} instead of "
                f"float32[{config.data.images}, d]"
            )
    return TrainedRun(folder, config, autoencoder.eval(), pretrained.eval(), embeddings)


def read_network(folder: Path) -> Autoencoder:
    """Read the trained network of a finished run whose embeddings need not be there.

    Raises
    ------
    NearfarError
        As `read_run`.
    """
    config = _read_finished(folder)
    network = build(config, None, None, where=folder)
    tensors, _ = read_tensors(folder / MODEL)
    load_weights(network, tensors, "autoencoder.", folder)
    return network.eval()


def _read_finished(folder: Path) -> RunConfig:
    """What ``config.json`` says of a run that holds a trained model."""
    config = read_config(folder)
    if not is_finished(folder):
        hint = "continue it with --resume" if (folder / CHECKPOINT).is_file() else "train it again"
        raise NearfarError(f"run {str(folder)!r} has no trained model yet: {hint}")
    return config
