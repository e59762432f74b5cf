"""The rows of Table 4 and of its ablation, and how their detectors are made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from nearfar.anomaly import (
    Appearance,
    Clip,
    Detector,
    DetectorConfig,
    EmbeddingDistance,
    Grid,
    Motion,
    Reconstruction,
    Scorer,
    gather_patches,
    sample_rows,
    split_clips,
)
from nearfar.anomaly.methods.appearance import MAX_STILL_CHANGE, fit_appearance, still_noise
from nearfar.anomaly.methods.motion import (
    GROWTH,
    PSEUDO_ANOMALIES,
    SPEEDS,
    MotionTraining,
    draw_samples,
    train_motion_net,
)
from nearfar.data import ArrayImages, Subset
from nearfar.experiments.configs import plain, relational
from nearfar.experiments.metrics import encode
from nearfar.experiments.principal import principal_autoencoder
from nearfar.experiments.runner import Reproduction
from nearfar.experiments.statistics import cell_name
from nearfar.experiments.two_autoencoders import Activity, Agreement, sparse_reconstruction
from nearfar.models import Autoencoder
from nearfar.progress import Track
from nearfar.runs import read_snapshot
from nearfar.training.config import TrainConfig

PRINCIPAL, TEMPO, APPEARANCE = "principal", "tempo", "appearance"
#: Overlapping patches, so that hardly anything is cut in two in all of them.
OVERLAP = 15
#: Relations that begin from principal components: a higher rate soon leaves them.
RATE, EPOCHS = 1e-5, 1


@dataclass(frozen=True)
class Row:
    """A way to score frames.

    Parameters
    ----------
    detector : DetectorConfig
        How patches are scored.
    network : str
        Which of `NETWORKS` reconstructs, or `PRINCIPAL`; if none does, `TEMPO`, or `APPEARANCE`
        where tempo is no part.
    paper : float, optional
        The paper's EER.
    sparse : bool
        Whether a sparse autoencoder has to agree.
    far : tuple of {"fast", "grown", "gliding"}
        What tempo learns from, beside normal patches.
    placed : bool
        Whether tempo knows how far down a patch lies.
    """

    detector: DetectorConfig
    network: str = TEMPO
    paper: float | None = None
    sparse: bool = False
    far: tuple[str, ...] = tuple(PSEUDO_ANOMALIES)
    placed: bool = True

    @property
    def seeded(self) -> bool:
        """Whether anything about it is random."""
        return self.network not in (PRINCIPAL, APPEARANCE) or self.sparse

    def run_name(self, seed: int) -> str:
        """Name the training of its network, which rows of one network and patches share."""
        frames = self.detector.frames
        return cell_name(self.network + (f"-{frames}-frames" if frames > 1 else ""), seed)


@dataclass(frozen=True)
class Network:
    """An autoencoder of patches.

    Parameters
    ----------
    training : callable
        Gives its configuration for so many epochs in all.
    principal : bool
        Whether it begins from principal components, and all training is for the relations.
    """

    training: Callable[..., TrainConfig]
    principal: bool = False


def _related(own: float, near: float, far: float) -> Network:
    """Principal components, trained on the relations with these weights."""

    def training(epochs: int, **choices: Any) -> TrainConfig:
        return TrainConfig(
            weights=(own, near, far), pretrain_epochs=0, epochs=EPOCHS, lr=RATE, **choices
        )

    return Network(training, principal=True)


def _related_convolutions(epochs: int, **choices: Any) -> TrainConfig:
    return relational(epochs, weights=(0.6, 0.4, 0.0), **choices)


def _sparse(epochs: int, **choices: Any) -> TrainConfig:
    return TrainConfig(**{"lr": 1e-3, **choices, "pretrain_epochs": 0, "epochs": epochs})


NETWORKS = {
    "convolutions": Network(plain),
    "NRE-convolutions": Network(_related_convolutions),
    "sparse": Network(_sparse),
    "NRE-0.6-0.2-0.2": _related(0.6, 0.2, 0.2),
    "NRE-0.6-0.4-0": _related(0.6, 0.4, 0.0),
}
_PAPER = DetectorConfig.paper()
_OVERLAPPING = DetectorConfig.paper(stride=OVERLAP)
#: As many as it takes to see motion.
_MOVING = replace(_OVERLAPPING, frames=2)
_MOVING_PAPER = replace(_PAPER, frames=2)
_TEMPO = DetectorConfig(methods=("motion",))

ROWS = {
    "autoencoder": Row(_OVERLAPPING, PRINCIPAL),
    "two-autoencoders": Row(_OVERLAPPING, PRINCIPAL, 0.15, sparse=True),
    "NRE-0.6-0.2-0.2": Row(_OVERLAPPING, "NRE-0.6-0.2-0.2", 0.175),
    "NRE-0.6-0.4-0": Row(_OVERLAPPING, "NRE-0.6-0.4-0", 0.14),
    "NRE-0.6-0.4-0-bank": Row(
        replace(_OVERLAPPING, methods=("embedding-distance",)), "NRE-0.6-0.4-0"
    ),
    "autoencoder-no-overlap": Row(_PAPER, PRINCIPAL),
    "NRE-0.6-0.4-0-no-overlap": Row(_PAPER, "NRE-0.6-0.4-0", 0.14),
    "autoencoder-2-frames": Row(_MOVING, PRINCIPAL),
    "NRE-0.6-0.4-0-2-frames": Row(_MOVING, "NRE-0.6-0.4-0"),
    "autoencoder-2-frames-no-overlap": Row(_MOVING_PAPER, PRINCIPAL),
    "NRE-0.6-0.4-0-2-frames-no-overlap": Row(_MOVING_PAPER, "NRE-0.6-0.4-0"),
    "autoencoder-convolutions": Row(_OVERLAPPING, "convolutions"),
    "NRE-0.6-0.4-0-convolutions": Row(_OVERLAPPING, "NRE-convolutions", 0.14),
    "tempo": Row(_TEMPO),
    "appearance": Row(replace(_TEMPO, methods=("appearance",)), APPEARANCE),
    "tempo-appearance": Row(DetectorConfig()),
}
#: Tempo, and what becomes of it if one thing is different.
ABLATION = {
    "tempo": ROWS["tempo"],
    "no-smoothing": Row(replace(_TEMPO, smoothing=0)),
    "longer-smoothing": Row(replace(_TEMPO, smoothing=8)),
    "half-overlap": Row(replace(_TEMPO, stride=24)),
    "no-overlap": Row(replace(_TEMPO, stride=48)),
    "scores-by-row": Row(replace(_TEMPO, scale_by_row=True)),
    "place-unknown": Row(_TEMPO, placed=False),
    "no-gliding": Row(_TEMPO, far=("fast", "grown")),
    "no-fast": Row(_TEMPO, far=("grown", "gliding")),
    "no-grown": Row(_TEMPO, far=("fast", "gliding")),
    "2-frames": Row(replace(_TEMPO, frames=2)),
    "3-frames": Row(replace(_TEMPO, frames=3)),
    "8-frames": Row(replace(_TEMPO, frames=8)),
}


@dataclass(frozen=True)
class Budget:
    """How much is learned: epochs of autoencoders, samples and epochs of tempo."""

    epochs: int
    samples: int
    tempo_epochs: int


def describe(row: Row, seed: int, budget: Budget) -> dict[str, Any]:
    """Return everything that decides what a row is, beside its clips, as JSON holds it."""
    names = [row.network, *(["sparse"] if row.sparse else [])]
    settings: dict[str, Any] = {
        "detector": asdict(row.detector),
        "networks": {
            name: asdict(_training(name, seed, budget)) if name in NETWORKS else None
            for name in names
        },
    }
    if row.network == TEMPO:
        far = {kind: PSEUDO_ANOMALIES[kind] for kind in row.far}
        settings |= {"far": far, "speeds": SPEEDS, "growth": GROWTH, "placed": row.placed}
    if "appearance" in row.detector.methods:
        settings["appearance"] = {
            "still": MAX_STILL_CHANGE,
            "largest": Appearance.max_side,
        }
    return settings


def _training(name: str, seed: int, budget: Budget) -> TrainConfig:
    return NETWORKS[name].training(budget.epochs, seed=seed, device="cpu")


class Detectors:
    """Makes detectors of rows; a network that rows share is trained once.

    Parameters
    ----------
    reproduction : Reproduction
        Where autoencoders are trained.
    normal : sequence of Clip
        Autoencoders learn from all of them, as in the paper; tempo and appearance leave some to
        calibrate on, as they do for a user.
    """

    def __init__(self, reproduction: Reproduction, normal: Sequence[Clip], budget: Budget) -> None:
        self.reproduction, self.normal, self.budget = reproduction, normal, budget
        self.track: Track = reproduction.track
        self.learned, self.kept = split_clips(normal)
        height, width = next(iter(normal[0])).pixels.shape
        self.size = height, width
        self._patches = cache(self._gather)
        self._principal = cache(self._make_principal)
        self._tempo = cache(self._train_tempo)
        self._appearance = cache(partial(fit_appearance, self.learned, track=self.track))

    def make(self, row: Row, seed: int) -> Detector:
        """Make the detector of a row, trained with this seed."""
        config = row.detector
        grid = Grid(self.size, config.patch, config.stride)
        detector = Detector(config, grid, self._scorers(row, grid, seed))
        if config.needs_scale:
            detector.calibrate(self.kept, self.track)
        return detector

    def _scorers(self, row: Row, grid: Grid, seed: int) -> list[Scorer]:
        if row.network in (TEMPO, APPEARANCE):
            return [
                self._appearance(grid)
                if method == "appearance"
                else Motion(self._tempo(row.detector.frames, row.far, row.placed, seed))
                for method in row.detector.methods
            ]
        network = self._autoencoder(row, seed)
        if row.detector.methods == ("embedding-distance",):
            return [EmbeddingDistance(network.encoder, self._bank(network, row.detector, seed))]
        error = Reconstruction(network)
        if not row.sparse:
            return [error]
        activity = Activity(self._autoencoder(replace(row, network="sparse"), seed).encoder)
        usual = self.track(self.normal, "usual", len(self.normal))
        return [Agreement([error, activity], usual, grid)]

    def _autoencoder(self, row: Row, seed: int) -> Autoencoder:
        name, frames = row.network, row.detector.frames
        if name == PRINCIPAL:
            return self._principal(frames)
        config = _training(name, seed, self.budget)
        total = config.pretrain_epochs + config.epochs
        begun = self._principal(frames) if NETWORKS[name].principal else None
        run = self.reproduction.train(
            row.run_name(seed),
            self._patches(frames),
            config,
            [total],
            sparse_reconstruction if name == "sparse" else None,
            begun,
        )
        return read_snapshot(run, total, begun and begun.encoder, begun and begun.decoder)

    def _bank(self, network: Autoencoder, config: DetectorConfig, seed: int) -> Tensor:
        """Embeddings of some normal patches, float[n, d]."""
        patches = self._patches(config.frames)
        chosen = sample_rows(len(patches), config.bank_size, seed)
        return encode(network.encoder, Subset(patches, chosen), self.track)

    def _make_principal(self, frames: int) -> Autoencoder:
        noise = still_noise(self.track(self.normal, "noise", len(self.normal)))
        return principal_autoencoder(self._patches(frames), noise)

    def _gather(self, frames: int) -> ArrayImages:
        return gather_patches(
            self.track(self.normal, "cutting patches", len(self.normal)),
            _PAPER.patch,
            _PAPER.stride,
            frames,
            name="normal patches of UCSD Ped2",
        )

    def _train_tempo(self, frames: int, far: tuple[str, ...], placed: bool, seed: int) -> nn.Module:
        samples = draw_samples(
            self.track(self.learned, "drawing samples", len(self.learned)),
            Grid(self.size, _TEMPO.patch, _TEMPO.stride),
            frames,
            count=self.budget.samples,
            seed=seed,
            shares={kind: PSEUDO_ANOMALIES[kind] for kind in far},
        )
        if not placed:
            samples = replace(samples, positions=torch.full_like(samples.positions, 0.5))
        training = MotionTraining(epochs=self.budget.tempo_epochs)
        network = train_motion_net(samples, training, seed=seed, track=self.track)
        return network if placed else Unplaced(network)


class Unplaced(nn.Module):
    """A `MotionNet` that takes all patches to lie in the middle, as it learned them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, patches: Tensor, positions: Tensor) -> Tensor:
        """See `MotionNet`."""
        odds: Tensor = self.network(patches, torch.full_like(positions, 0.5))
        return odds
