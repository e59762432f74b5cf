"""Row [46] of Table 4: one autoencoder's reconstruction error and another one's sparsity.

[46] M. Sabokrou, M. Fathy, M. Hoseini, "Video anomaly detection and localisation based on the
sparsity and reconstruction error of auto-encoder", Electronics Letters 52(13), 2016.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from nearfar.anomaly.clips import Clip, Pixels
from nearfar.anomaly.patches import Grid, Map, windows
from nearfar.anomaly.scoring import USUAL, Scorer
from nearfar.data import to_unit
from nearfar.training import Reconstruction, Step

#: Weight of the mean activity of embedding units beside the squared pixel error.
SPARSITY = 1e-3


class SparseReconstruction(Reconstruction):
    """Objective of the second autoencoder: mostly silent embeddings, by an L1 penalty."""

    def __call__(self, model: nn.Module, rows: Tensor, images: Tensor, epoch: float) -> Step:
        """See `Objective`."""
        step = super().__call__(model, rows, images, epoch)
        activity = step.embeddings.float().abs().mean()
        loss = step.loss + SPARSITY * activity
        return Step(loss, step.embeddings, step.terms | {"activity": activity.detach()})


class Activity:
    """Mean activity of the units of a patch's embedding, which is high where it is not sparse."""

    def __init__(self, encoder: nn.Module) -> None:
        self.encoder = encoder.eval()

    @torch.no_grad()
    def __call__(self, window: Pixels, grid: Grid) -> Map:
        """See `Scorer`."""
        embeddings = self.encoder(to_unit(torch.from_numpy(grid.cut(window))))
        return embeddings.abs().mean(1).view(grid.shape).numpy()


class Agreement:
    """Agreement of scorers: the least of their scores.

    Each score is relative to a level that few normal patches exceed.
    """

    def __init__(self, scorers: Sequence[Scorer], clips: Iterable[Clip], grid: Grid) -> None:
        self.scorers = scorers
        maps = [
            [scorer(window, grid) for scorer in scorers]
            for clip in clips
            for _, window in windows(clip, 1, clip.name)
        ]
        self.usual = np.quantile(np.array(maps), USUAL, axis=(0, 2, 3))

    def __call__(self, window: Pixels, grid: Grid) -> Map:
        """See `Scorer`."""
        scores = np.stack([scorer(window, grid) for scorer in self.scorers])
        return (scores / self.usual[:, None, None]).min(0).astype(np.float32)
