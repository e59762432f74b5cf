"""The rows of Table 4 and of its ablation, and how their detectors are made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nearfar.anomaly.clips import Clip
from nearfar.anomaly.config import DetectorConfig
from nearfar.anomaly.detector import Detector
from nearfar.anomaly.fitting import split_clips
from nearfar.anomaly.patches import Grid, gather_patches
from nearfar.anomaly.scoring import CodeDistance, ReconstructionError, Scorer
from nearfar.anomaly.tempo import FAR, Tempo, TempoNet, sample, train_tempo
from nearfar.data import ArrayImages
from nearfar.models import Autoencoder, apply_to_all
from nearfar.progress import Track
from nearfar.reproduce.budget import plain, relational
from nearfar.reproduce.engine import Reproduction
from nearfar.reproduce.measuring import network_after
from nearfar.reproduce.summary import cell_name
from nearfar.reproduce.two_autoencoders import Activity, Agreement, sparse_reconstruction
from nearfar.training.config import TrainConfig

BANK = 8192


@dataclass(frozen=True)
class Row:
    """A way to score frames.

    Parameters
    ----------
    detector : DetectorConfig
        How patches are scored.
    training : callable, optional
        Gives the configuration of the autoencoder for so many epochs, if there is one.
    paper : float, optional
        The paper's EER.
    sparse : bool
        Whether a sparse autoencoder has to agree.
    far : tuple of {"fast", "grown"}
        What tempo learns from, beside normal patches.
    placed : bool
        Whether tempo knows how far down a patch lies.
    """

    detector: DetectorConfig
    training: Callable[..., TrainConfig] | None = None
    paper: float | None = None
    sparse: bool = False
    far: tuple[str, ...] = tuple(FAR)
    placed: bool = True


def _nre(*weights: float) -> Callable[..., TrainConfig]:
    """Train on the relations with these weights."""

    def config(epochs: int, **choices: Any) -> TrainConfig:
        return relational(epochs, weights=weights, **choices)

    return config


def sparse(epochs: int, **choices: Any) -> TrainConfig:
    """Train the second autoencoder of [46] for all epochs."""
    return TrainConfig(**{"lr": 1e-3, **choices, "pretrain_epochs": 0, "epochs": epochs})


_NEAR_ALONE = _nre(0.6, 0.4, 0.0)
_PAPER = DetectorConfig.paper()

ROWS = {
    "autoencoder": Row(_PAPER, plain),
    "two-autoencoders": Row(_PAPER, plain, 0.15, sparse=True),
    "NRE-0.6-0.2-0.2": Row(_PAPER, _nre(0.6, 0.2, 0.2), 0.175),
    "NRE-0.6-0.4-0": Row(_PAPER, _NEAR_ALONE, 0.14),
    "codes": Row(DetectorConfig.paper(parts=("codes",)), _NEAR_ALONE),
    "tempo": Row(DetectorConfig()),
}
#: Tempo, and what becomes of it if one thing is different.
ABLATION = {
    "tempo": ROWS["tempo"],
    "no-smoothing": Row(DetectorConfig(smoothing=0)),
    "half-overlap": Row(DetectorConfig(stride=24)),
    "no-overlap": Row(DetectorConfig(stride=48)),
    "scores-by-row": Row(DetectorConfig(by_place=True)),
    "place-unknown": Row(DetectorConfig(), placed=False),
    "fast-alone": Row(DetectorConfig(), far=("fast",)),
    "grown-alone": Row(DetectorConfig(), far=("grown",)),
    "2-frames": Row(DetectorConfig(frames=2)),
    "3-frames": Row(DetectorConfig(frames=3)),
    "8-frames": Row(DetectorConfig(frames=8)),
}


@dataclass(frozen=True)
class Budget:
    """How much is learned: epochs of autoencoders, samples and epochs of tempo."""

    epochs: int
    samples: int
    tempo_epochs: int


class Detectors:
    """Makes detectors of rows; a network that rows share is trained once.

    Parameters
    ----------
    reproduction : Reproduction
        Where autoencoders are trained.
    normal : sequence of Clip
        Autoencoders learn from all of them, as in the paper; tempo leaves some to calibrate on,
        as it does for a user.
    """

    def __init__(self, reproduction: Reproduction, normal: Sequence[Clip], budget: Budget) -> None:
        self.reproduction, self.normal, self.budget = reproduction, normal, budget
        self.track: Track = reproduction.track
        self.learned, self.kept = split_clips(normal)
        height, width = next(iter(normal[0])).pixels.shape
        self.size = height, width
        self._patches = cache(self._gather)
        self._tempo = cache(self._train_tempo)

    def make(self, row: Row, seed: int) -> Detector:
        """Make the detector of a row, trained with this seed."""
        config = row.detector
        grid = Grid(self.size, config.patch, config.stride)
        detector = Detector(config, grid, [self._scorer(row, grid, seed)])
        if config.by_place:
            detector.calibrate(self.kept, self.track)
        return detector

    def _scorer(self, row: Row, grid: Grid, seed: int) -> Scorer:
        if row.training is None:
            return Tempo(self._tempo(row.detector.frames, row.far, row.placed, seed))
        network = self._autoencoder(row.training, seed)
        if row.detector.parts == ("codes",):
            return self._distance(network, seed)
        error = ReconstructionError(network)
        if not row.sparse:
            return error
        activity = Activity(self._autoencoder(sparse, seed).encoder)
        return Agreement(
            [error, activity], self.track(self.normal, "usual", len(self.normal)), grid
        )

    def _autoencoder(self, training: Callable[..., TrainConfig], seed: int) -> Autoencoder:
        total = self.budget.epochs
        name = "sparse"
        if training is not sparse:
            name = next(name for name, row in ROWS.items() if row.training is training)
        run = self.reproduction.train(
            cell_name(name, seed),
            self._patches(),
            training(total, seed=seed, device="cpu"),
            [total],
            sparse_reconstruction if training is sparse else None,
        )
        return network_after(run, total).cpu()

    def _distance(self, network: Autoencoder, seed: int) -> Scorer:
        images = self._patches()
        drawn = np.random.default_rng(seed).permutation(len(images))[:BANK]
        some = ArrayImages(images.__getitems__(torch.from_numpy(np.sort(drawn))))
        bank = apply_to_all(network.encoder, some, device=torch.device("cpu"))
        return CodeDistance(network.encoder, bank)

    def _gather(self) -> ArrayImages:
        return gather_patches(
            self.track(self.normal, "cutting patches", len(self.normal)),
            _PAPER.patch,
            _PAPER.stride,
            _PAPER.frames,
            name="normal patches of UCSD Ped2",
        )

    def _train_tempo(self, frames: int, far: tuple[str, ...], placed: bool, seed: int) -> nn.Module:
        default = DetectorConfig()
        samples = sample(
            self.track(self.learned, "drawing samples", len(self.learned)),
            Grid(self.size, default.patch, default.stride),
            frames,
            seed,
            self.budget.samples,
            {kind: FAR[kind] / sum(FAR[one] for one in far) for kind in far},
        )
        if not placed:
            samples = replace(samples, rows=torch.full_like(samples.rows, 0.5))
        network = train_tempo(samples, seed, self.budget.tempo_epochs, track=self.track)
        return network if placed else Unplaced(network)


class Unplaced(nn.Module):
    """A `TempoNet` that takes all patches to lie in the middle, as it learned them."""

    def __init__(self, network: TempoNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, patches: Tensor, rows: Tensor) -> Tensor:
        """See `TempoNet`."""
        odds: Tensor = self.network(patches, torch.full_like(rows, 0.5))
        return odds
