"""Rows of Table 4 and of the ablation of Table 4, and the detectors of these rows.

In labels and names, "tempo" stands for the motion method, see `nearfar.anomaly.Motion`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
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
from nearfar.config import TrainConfig, configure, recipe
from nearfar.data import ArrayImages, Subset
from nearfar.experiments.alocc import ALOCCNetwork
from nearfar.experiments.cells import Papers
from nearfar.experiments.configs import AUTOENCODER
from nearfar.experiments.metrics import encode
from nearfar.experiments.ped2 import Reading
from nearfar.experiments.principal import principal_autoencoder
from nearfar.experiments.rows import Network
from nearfar.experiments.runner import Runner
from nearfar.experiments.two_autoencoders import Activity, Agreement, SparseReconstruction
from nearfar.models import Autoencoder
from nearfar.randomness import own_random_numbers

#: Stride of overlapping patches, so that most objects lie entirely within some patch.
OVERLAP = 15
#: Stride of test patches in the authors' earlier code.
ALOCC_STRIDE = 10


@dataclass(frozen=True)
class PatchNetwork(Network):
    """Autoencoder of patches.

    If ``config.network`` is `principal_autoencoder`, training starts from the principal components
    of the patches. In this case, the number of epochs is always the one in `config`.
    """

    @property
    def principal(self) -> bool:
        """Whether training starts from principal components."""
        return self.config.network is principal_autoencoder

    def train_for(self, epochs: int, **options: Any) -> TrainConfig:
        """See `Network.train_for`.

        If training starts from principal components, `epochs` has no effect.
        """
        if self.principal:
            return configure(options, base=self.config)
        return super().train_for(epochs, **options)


def _related(name: str, own: float, near: float, far: float) -> PatchNetwork:
    """Return an autoencoder that starts from principal components, with the relational objective.

    The learning rate is low, because a higher one would soon destroy the principal components.
    """
    config = recipe("paper", loss_weights=(own, near, far), pretrain_epochs=0, epochs=1, lr=1e-5)
    return PatchNetwork(name, replace(config, network=principal_autoencoder))


#: Principal components without training.
PRINCIPAL = "principal"
NRE_WITH_FAR = _related("NRE-0.6-0.2-0.2", 0.6, 0.2, 0.2)
NRE_WITHOUT_FAR = _related("NRE-0.6-0.4-0", 0.6, 0.4, 0.0)
SPARSE = PatchNetwork(
    "sparse",
    replace(recipe("paper", pretrain_epochs=0, lr=1e-3), objective=SparseReconstruction),
)


@dataclass(frozen=True, kw_only=True)
class DetectorRow:
    """Row of Table 4: a detector of abnormal frames.

    Parameters
    ----------
    detector : DetectorConfig
        Configuration of the detector.
    network : PatchNetwork or "principal", optional
        Autoencoder of patches, or "principal" for principal components without training. Default:
        no autoencoder, as for tempo and appearance.
    sparse : bool
        Whether to use a second, sparse autoencoder. The score is then the lower one of two scores:
        the reconstruction error, and the activity of the sparse autoencoder.
    far : tuple of {"fast", "grown", "gliding"}
        Kinds of pseudo-anomalies on which tempo is trained.
    placed : bool
        Whether the vertical position of a patch is an input of tempo.
    paper : mapping
        Equal error rate (EER) in the paper, with the key "eer".
    """

    detector: DetectorConfig
    network: PatchNetwork | str | None = None
    sparse: bool = False
    far: tuple[str, ...] = tuple(PSEUDO_ANOMALIES)
    placed: bool = True
    paper: Papers = field(default_factory=dict)

    @property
    def networks(self) -> list[PatchNetwork]:
        """Networks to train."""
        own = [self.network] if isinstance(self.network, PatchNetwork) else []
        return [*own, SPARSE] if self.sparse else own

    @property
    def tempo(self) -> bool:
        """Whether tempo is one of the methods of the detector."""
        return "motion" in self.detector.methods

    @property
    def seeded(self) -> bool:
        """Whether the detector depends on the seed."""
        return bool(self.networks) or self.tempo

    def run(self, network: Network, seed: int) -> str:
        """Return the name of the run of a network. Rows with the same patches share the run."""
        frames = self.detector.frames
        moving = f"{network.name}-{frames}-frames" if frames > 1 else network.name
        return replace(network, name=moving).run(seed)


_PAPER = DetectorConfig.paper()
_OVERLAPPING = DetectorConfig.paper(stride=OVERLAP)
#: Two frames show motion.
_MOVING = replace(_OVERLAPPING, frames=2)
_MOVING_PAPER = replace(_PAPER, frames=2)
_TEMPO = DetectorConfig(methods=("motion",))
_BEST_PAPER = {"eer": 0.14}

ROWS = {
    "autoencoder": DetectorRow(detector=_OVERLAPPING, network=PRINCIPAL),
    "two-autoencoders": DetectorRow(
        detector=_OVERLAPPING, network=PRINCIPAL, sparse=True, paper={"eer": 0.15}
    ),
    "NRE-0.6-0.2-0.2": DetectorRow(
        detector=_OVERLAPPING, network=NRE_WITH_FAR, paper={"eer": 0.175}
    ),
    "NRE-0.6-0.4-0": DetectorRow(detector=_OVERLAPPING, network=NRE_WITHOUT_FAR, paper=_BEST_PAPER),
    "NRE-0.6-0.4-0-bank": DetectorRow(
        detector=replace(_OVERLAPPING, methods=("embedding-distance",)), network=NRE_WITHOUT_FAR
    ),
    "autoencoder-no-overlap": DetectorRow(detector=_PAPER, network=PRINCIPAL),
    "NRE-0.6-0.4-0-no-overlap": DetectorRow(
        detector=_PAPER, network=NRE_WITHOUT_FAR, paper=_BEST_PAPER
    ),
    "autoencoder-2-frames": DetectorRow(detector=_MOVING, network=PRINCIPAL),
    "NRE-0.6-0.4-0-2-frames": DetectorRow(detector=_MOVING, network=NRE_WITHOUT_FAR),
    "autoencoder-2-frames-no-overlap": DetectorRow(detector=_MOVING_PAPER, network=PRINCIPAL),
    "NRE-0.6-0.4-0-2-frames-no-overlap": DetectorRow(
        detector=_MOVING_PAPER, network=NRE_WITHOUT_FAR
    ),
    "autoencoder-convolutions": DetectorRow(
        detector=_OVERLAPPING, network=PatchNetwork("convolutions", AUTOENCODER)
    ),
    "NRE-0.6-0.4-0-convolutions": DetectorRow(
        detector=_OVERLAPPING,
        network=PatchNetwork("NRE-convolutions", recipe("paper", loss_weights=(0.6, 0.4, 0.0))),
        paper=_BEST_PAPER,
    ),
    "tempo": DetectorRow(detector=_TEMPO),
    "appearance": DetectorRow(detector=replace(_TEMPO, methods=("appearance",))),
    "tempo-appearance": DetectorRow(detector=DetectorConfig()),
}
#: The paper's rows by the settings of the authors' earlier code, `ALOCCNetwork`.
ALOCC_ROWS = {
    "autoencoder": DetectorRow(
        detector=DetectorConfig.paper(stride=ALOCC_STRIDE),
        network=PatchNetwork("autoencoder", replace(AUTOENCODER, network=ALOCCNetwork)),
    ),
    **{
        name: DetectorRow(
            detector=DetectorConfig.paper(stride=ALOCC_STRIDE),
            network=PatchNetwork(
                name, replace(recipe("paper", loss_weights=weights), network=ALOCCNetwork)
            ),
            paper=paper,
        )
        for name, weights, paper in (
            ("NRE-0.6-0.2-0.2", (0.6, 0.2, 0.2), {"eer": 0.175}),
            ("NRE-0.6-0.4-0", (0.6, 0.4, 0.0), _BEST_PAPER),
        )
    },
}
#: Tempo with one setting changed.
ABLATION_ROWS = {
    "tempo": ROWS["tempo"],
    "no-smoothing": DetectorRow(detector=replace(_TEMPO, smoothing=0)),
    "longer-smoothing": DetectorRow(detector=replace(_TEMPO, smoothing=8)),
    "half-overlap": DetectorRow(detector=replace(_TEMPO, stride=24)),
    "no-overlap": DetectorRow(detector=replace(_TEMPO, stride=48)),
    "scores-by-row": DetectorRow(detector=replace(_TEMPO, scale_by_row=True)),
    "place-unknown": DetectorRow(detector=_TEMPO, placed=False),
    "no-gliding": DetectorRow(detector=_TEMPO, far=("fast", "grown")),
    "no-fast": DetectorRow(detector=_TEMPO, far=("grown", "gliding")),
    "no-grown": DetectorRow(detector=_TEMPO, far=("fast", "gliding")),
    "2-frames": DetectorRow(detector=replace(_TEMPO, frames=2)),
    "3-frames": DetectorRow(detector=replace(_TEMPO, frames=3)),
    "8-frames": DetectorRow(detector=replace(_TEMPO, frames=8)),
}


@dataclass(frozen=True, kw_only=True)
class DetectorTraining:
    """Length of the training runs for Table 4.

    Parameters
    ----------
    epochs : int
        Total number of epochs of convolutional networks.
    samples, tempo_epochs : int
        Number of training samples and number of epochs of tempo.
    """

    epochs: int
    samples: int
    tempo_epochs: int

    def config(self, network: PatchNetwork, seed: int) -> TrainConfig:
        """Return the training configuration of a network."""
        return network.train_for(self.epochs, seed=seed, device="cpu")

    def describe(self, row: DetectorRow, seed: int) -> dict[str, Any]:
        """Return the settings that affect the scores of a row, without the clips, as JSON types."""
        trained = {each.name: self.config(each, seed).to_dict() for each in row.networks}
        untrained = {row.network: None} if isinstance(row.network, str) else {}
        settings: dict[str, Any] = {
            "detector": asdict(row.detector),
            "networks": {**untrained, **trained},
        }
        if row.tempo:
            far = {kind: PSEUDO_ANOMALIES[kind] for kind in row.far}
            settings |= {"far": far, "speeds": SPEEDS, "growth": GROWTH, "placed": row.placed}
        if "appearance" in row.detector.methods:
            settings["appearance"] = {"still": MAX_STILL_CHANGE, "largest": Appearance.max_side}
        return settings


class Detectors:
    """Builder of the detectors of all rows, which are fitted to the same clips.

    Networks that several rows share are trained once.

    Parameters
    ----------
    runner : Runner
        Runner that trains the autoencoders.
    normal : sequence of Clip
        Normal clips. Autoencoders are trained on all of them, as in the paper. For tempo and
        appearance, some clips are held out for calibration, as in `nearfar anomaly fit`.
    training : DetectorTraining
        Length of the training runs.
    reading : Reading
        Choice of the normal patches on which autoencoders are trained.
    """

    def __init__(
        self,
        runner: Runner,
        normal: Sequence[Clip],
        training: DetectorTraining,
        reading: Reading,
    ) -> None:
        self.runner, self.normal, self.training = runner, normal, training
        self.reading = reading
        self.track = runner.track
        self.learned, self.kept = split_clips(normal)
        height, width = next(iter(normal[0])).pixels.shape
        self.size = height, width
        self._patches = cache(self._gather)
        self._principal = cache(self._make_principal)
        self._tempo = cache(self._train_tempo)
        self._appearance = cache(partial(fit_appearance, self.learned, track=self.track))

    def make(self, row: DetectorRow, seed: int) -> Detector:
        """Return the detector of a row, trained with the given seed."""
        config = row.detector
        grid = Grid(self.size, config.patch, config.stride)
        detector = Detector(config, grid, self._scorers(row, grid, seed))
        if config.needs_scale:
            detector.calibrate(self.kept, self.track)
        return detector

    def _scorers(self, row: DetectorRow, grid: Grid, seed: int) -> list[Scorer]:
        frames = row.detector.frames
        if row.network is None:
            return [
                self._appearance(grid)
                if method == "appearance"
                else Motion(self._tempo(frames, row.far, row.placed, seed))
                for method in row.detector.methods
            ]
        network = (
            self._principal(frames)
            if isinstance(row.network, str)
            else self._train(row, row.network, seed)
        )
        if row.detector.methods == ("embedding-distance",):
            return [EmbeddingDistance(network.encoder, self._bank(network, row.detector, seed))]
        error = Reconstruction(network)
        if not row.sparse:
            return [error]
        activity = Activity(self._train(row, SPARSE, seed).encoder)
        clips = self.track(self.normal, "scaling", len(self.normal))
        return [Agreement([error, activity], clips, grid)]

    def _train(self, row: DetectorRow, network: PatchNetwork, seed: int) -> Autoencoder:
        frames, config = row.detector.frames, self.training.config(network, seed)
        if network.principal:
            config = replace(config, network=self._principal(frames))
        elif config.network is ALOCCNetwork:
            with own_random_numbers(seed):
                config = replace(config, network=ALOCCNetwork(_PAPER.patch))
        trained = self.runner.train(row.run(network, seed), self._patches(frames), config)
        return trained.network().cpu()

    def _bank(self, network: Autoencoder, config: DetectorConfig, seed: int) -> Tensor:
        """Return the embeddings of a random sample of normal patches (float[n, d])."""
        patches = self._patches(config.frames)
        chosen = sample_rows(len(patches), config.bank_size, seed)
        return encode(network.encoder, Subset(patches, chosen), self.track)

    def _make_principal(self, frames: int) -> Autoencoder:
        noise = still_noise(self.track(self.normal, "noise", len(self.normal)))
        return principal_autoencoder(self._patches(frames), noise)

    def _gather(self, frames: int) -> ArrayImages:
        return self.reading.patches(self.normal, frames, self.track)

    def _train_tempo(self, frames: int, far: tuple[str, ...], placed: bool, seed: int) -> nn.Module:
        samples = draw_samples(
            self.track(self.learned, "drawing samples", len(self.learned)),
            Grid(self.size, _TEMPO.patch, _TEMPO.stride),
            frames,
            count=self.training.samples,
            seed=seed,
            fractions={kind: PSEUDO_ANOMALIES[kind] for kind in far},
        )
        if not placed:
            samples = replace(samples, positions=torch.full_like(samples.positions, 0.5))
        training = MotionTraining(epochs=self.training.tempo_epochs)
        network = train_motion_net(samples, training, seed=seed, track=self.track)
        return network if placed else Unplaced(network)


class Unplaced(nn.Module):
    """`MotionNet` without positions: each patch is treated as if it were in the center."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, patches: Tensor, positions: Tensor) -> Tensor:
        """See `MotionNet`."""
        odds: Tensor = self.network(patches, torch.full_like(positions, 0.5))
        return odds
