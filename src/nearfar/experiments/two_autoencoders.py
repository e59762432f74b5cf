"""Baseline [46] of Table 4: reconstruction error and sparsity, each by its own autoencoder.

[46] M. Sabokrou, M. Fathy, M. Hoseini, "Video anomaly detection and localisation based on the
sparsity and reconstruction error of auto-encoder", Electronics Letters 52(13), 2016.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from torch import Tensor, nn

from nearfar.anomaly import (
    ROW_QUANTILE,
    Clip,
    Grid,
    Pixels,
    ScoreMap,
    Scorer,
    score_patches,
    windows,
)
from nearfar.training import Reconstruction, Step

#: Weight of the mean activity of embedding units, relative to the squared pixel error.
SPARSITY = 1e-3


class SparseReconstruction(Reconstruction):
    """Objective of the second autoencoder: the pixel error plus an L1 penalty on embeddings."""

    def __call__(self, model: nn.Module, rows: Tensor, images: Tensor, epoch: float) -> Step:
        """See `Objective`."""
        step = super().__call__(model, rows, images, epoch)
        activity = step.embeddings.float().abs().mean()
        loss = step.loss + SPARSITY * activity
        return Step(loss, step.embeddings, step.terms | {"activity": activity.detach()})


class Activity:
    """Scorer that returns the mean absolute value of the embedding of a patch.

    The score is low if the embedding is sparse.
    """

    def __init__(self, encoder: nn.Module) -> None:
        self.encoder = encoder.eval()

    def score(self, window: Pixels, grid: Grid) -> ScoreMap:
        """See `Scorer.score`."""
        return score_patches(lambda patches: self.encoder(patches).abs().mean(1), window, grid)


class Agreement:
    """Scorer that returns the lowest score of several scorers.

    To make the scores comparable, each is first divided by a level that few patches of normal clips
    exceed.
    """

    def __init__(self, scorers: Sequence[Scorer], clips: Iterable[Clip], grid: Grid) -> None:
        self.scorers = scorers
        maps = [
            [scorer.score(window, grid) for scorer in scorers]
            for clip in clips
            for _, window in windows(clip, 1, clip.name)
        ]
        self.quantiles = np.quantile(np.array(maps), ROW_QUANTILE, axis=(0, 2, 3))

    def score(self, window: Pixels, grid: Grid) -> ScoreMap:
        """See `Scorer.score`."""
        scores = np.stack([scorer.score(window, grid) for scorer in self.scorers])
        return (scores / self.quantiles[:, None, None]).min(0).astype(np.float32)
