"""Motion method, which scores moving patches with a classifier trained on pseudo-anomalies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

import torch
from torch import nn

from nearfar import runs
from nearfar.anomaly.clips import Clip, Pixels
from nearfar.anomaly.methods.motion.network import (
    DOWNSCALE,
    MotionNet,
    MotionTraining,
    downscale,
    train_motion_net,
)
from nearfar.anomaly.methods.motion.pseudo_anomalies import draw_samples, find_moving
from nearfar.anomaly.patches import Grid, ScoreMap
from nearfar.anomaly.registry import FitContext, Method, register_method

if TYPE_CHECKING:
    from nearfar.anomaly.config import DetectorConfig

_FILE = "classifier.safetensors"
_BATCH_SIZE = 256


@register_method
class Motion(Method):
    """Method that scores how likely a moving patch is too fast, too large, or gliding.

    The score is the classifier's logit plus 8, or 0 if this is negative. Patches without motion
    have score 0.

    Parameters
    ----------
    network : nn.Module
        Classifier with the inputs and outputs of `MotionNet`.

    Attributes
    ----------
    training : MotionTraining
        Training settings of the classifier.

    Examples
    --------
    >>> import numpy as np
    >>> method = Motion(MotionNet(frames=5, side=24))
    >>> method.score(np.zeros((5, 48, 96), np.uint8), Grid((48, 96), 48, 48))
    array([[0., 0.]], dtype=float32)
    """

    name = "motion"
    min_frames = 2
    training = MotionTraining()
    #: Logit at and below which the score is 0.
    floor = -8.0

    def __init__(self, network: nn.Module) -> None:
        self.network = network.eval()

    @classmethod
    def fit(cls, clips: Sequence[Clip], context: FitContext) -> Self:
        """Train the classifier, with a checkpoint per epoch. See `Method.fit`."""
        seed = context.training.seed
        samples = draw_samples(
            clips, context.grid, context.config.frames, seed=seed, count=cls.training.samples
        )
        network = train_motion_net(
            samples, cls.training, seed=seed, folder=context.scratch / cls.name, track=context.track
        )
        return cls(network)

    @torch.no_grad()
    def score(self, window: Pixels, grid: Grid) -> ScoreMap:
        """Score a window of frames. See `Scorer.score`."""
        scores = torch.zeros(grid.shape).flatten()
        moving = find_moving(window, grid)
        for start in range(0, len(moving), _BATCH_SIZE):
            indices = moving[start : start + _BATCH_SIZE]
            positions = torch.from_numpy(grid.positions[indices]).float()
            patches = downscale(torch.from_numpy(grid.extract(window, indices)))
            scores[indices] = (self.network(patches, positions) - self.floor).clamp(min=0)
        return scores.view(grid.shape).numpy()

    def write(self, folder: Path) -> None:
        """Write the classifier. See `Method.write`."""
        runs.write_tensors(folder / _FILE, runs.to_cpu(self.network.state_dict()))

    @classmethod
    def read(cls, folder: Path, config: DetectorConfig) -> Self:
        """Read the classifier. See `Method.read`."""
        tensors, _ = runs.read_tensors(folder / _FILE)
        with runs.explain_damage(folder, _FILE):
            network = MotionNet(config.frames, config.patch // DOWNSCALE)
        runs.load_weights(network, tensors, folder)
        return cls(network)
