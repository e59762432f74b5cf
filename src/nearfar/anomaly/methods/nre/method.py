"""Two methods that score patches with an autoencoder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn

from nearfar import runs
from nearfar.anomaly.clips import Clip, Pixels
from nearfar.anomaly.methods.nre.network import NETWORK, train_network
from nearfar.anomaly.patches import Grid, ScoreMap, sample_rows, score_patches
from nearfar.anomaly.registry import FitContext, Method, register_method
from nearfar.errors import NearfarError
from nearfar.models import Autoencoder

if TYPE_CHECKING:
    from nearfar.anomaly.config import DetectorConfig

_BANK = "bank.safetensors"


@register_method
class Reconstruction(Method):
    """Mean squared reconstruction error of a patch: ‖X − X̂‖² / n for n pixels (§4.5 of the paper).

    Parameters
    ----------
    network : Autoencoder
        Autoencoder of patches (float32[b, t, p, p], in [0, 1]).
    run : Path, optional
        Run folder of the network, which is required for `write`.

    Examples
    --------
    >>> import numpy as np
    >>> network = Autoencoder(nn.Flatten(), nn.Unflatten(1, (1, 8, 8)))  # reconstructs exactly
    >>> window = np.full((1, 16, 16), 99, np.uint8)
    >>> float(Reconstruction(network).score(window, Grid((16, 16), 8, 8)).max())
    0.0
    """

    name = "reconstruction"

    def __init__(self, network: Autoencoder, run: str | os.PathLike[str] | None = None) -> None:
        run = None if run is None else Path(run)
        self.network, self.run = network.eval(), run

    @classmethod
    def fit(cls, clips: Sequence[Clip], context: FitContext) -> Self:
        """Train the autoencoder on patches of normal clips. See `Method.fit`."""
        run = train_network(clips, context)
        return cls(runs.read_trained_network(run), run)

    def score(self, window: Pixels, grid: Grid) -> ScoreMap:
        """Score a window of frames. See `Scorer.score`."""

        def errors(patches: Tensor) -> Tensor:
            return (self.network(patches).reconstruction - patches).square().flatten(1).mean(1)

        return score_patches(errors, window, grid)

    def write(self, folder: Path) -> None:
        """Write the network. See `Method.write`."""
        _copy_run(self.run, folder / NETWORK)

    @classmethod
    def read(cls, folder: Path, config: DetectorConfig) -> Self:
        """Read the network. See `Method.read`."""
        run = folder / NETWORK
        return cls(runs.read_trained_network(run), run)


@register_method
class EmbeddingDistance(Method):
    """Euclidean distance from the embedding of a patch to the nearest embedding of a normal patch.

    Parameters
    ----------
    encoder : nn.Module
        Module that takes patches (float32[b, t, p, p], in [0, 1]) and returns embeddings
        (float32[b, d]).
    bank : float32[n, d]
        Embeddings of normal patches.
    run : Path, optional
        Run folder of the encoder, which is required for `write`.

    Examples
    --------
    >>> import numpy as np
    >>> method = EmbeddingDistance(nn.Flatten(), torch.zeros(1, 64))
    >>> method.score(np.full((1, 8, 8), 255, np.uint8), Grid((8, 8), 8, 8))
    array([[8.]], dtype=float32)
    """

    name = "embedding-distance"

    def __init__(
        self, encoder: nn.Module, bank: Tensor, run: str | os.PathLike[str] | None = None
    ) -> None:
        run = None if run is None else Path(run)
        self.encoder, self.bank, self.run = encoder.eval(), bank, run

    @classmethod
    def fit(cls, clips: Sequence[Clip], context: FitContext) -> Self:
        """Train the autoencoder and store embeddings of normal patches. See `Method.fit`."""
        run = train_network(clips, context)
        embeddings = runs.read_run(run).embeddings
        rows = sample_rows(len(embeddings), context.config.bank_size, context.training.seed)
        return cls(runs.read_trained_network(run).encoder, torch.from_numpy(embeddings[rows]), run)

    def score(self, window: Pixels, grid: Grid) -> ScoreMap:
        """Score a window of frames. See `Scorer.score`."""

        def distances(patches: Tensor) -> Tensor:
            return torch.cdist(self.encoder(patches), self.bank).amin(1)

        return score_patches(distances, window, grid)

    def write(self, folder: Path) -> None:
        """Write the network and the embeddings. See `Method.write`."""
        _copy_run(self.run, folder / NETWORK)
        runs.write_tensors(folder / _BANK, runs.to_cpu({"bank": self.bank}))

    @classmethod
    def read(cls, folder: Path, config: DetectorConfig) -> Self:
        """Read the network and the embeddings. See `Method.read`."""
        run = folder / NETWORK
        tensors, _ = runs.read_tensors(folder / _BANK)
        with runs.explain_damage(folder, _BANK):
            bank = tensors["bank"]
        return cls(runs.read_trained_network(run).encoder, bank, run)


def _copy_run(run: Path | None, target: Path) -> None:
    """Copy a run folder, without the embeddings of the training patches."""
    if run is None:
        raise NearfarError("the network was not trained in a run folder: pass `run` to write it")
    shutil.copytree(run, target, ignore=shutil.ignore_patterns(runs.EMBEDDINGS, runs.LOCK, ".*"))
