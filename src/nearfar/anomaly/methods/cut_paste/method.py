"""Cut-paste method, which detects regions that look like changes to a normal image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

import torch
from torch import nn

from nearfar import runs
from nearfar.anomaly.clips import Clip, Pixels
from nearfar.anomaly.methods.cut_paste.network import (
    CutPasteNet,
    CutPasteTraining,
    train_cut_paste_net,
)
from nearfar.anomaly.patches import Grid, ScoreMap, sample_batches
from nearfar.anomaly.registry import FitContext, Method, register_method
from nearfar.anomaly.tiles import Tiling

if TYPE_CHECKING:
    from nearfar.anomaly.config import DetectorConfig

_FILE = "network.safetensors"


@register_method
class CutPaste(Method):
    """Method that scores how likely each region of an image was changed.

    A network, trained from scratch on normal and changed images, predicts the logit of a change.
    The score is the logit plus 8, or 0 if this is negative.

    Parameters
    ----------
    network : nn.Module
        Module that takes tiles (float32[b, 3, 224, 224], in [0, 1]) and returns logits
        (float32[b, 28, 28]).
    downscale : bool
        Whether to downscale large images. See `Tiling`.

    Attributes
    ----------
    training : CutPasteTraining
        Training settings of the network.

    Examples
    --------
    >>> import numpy as np
    >>> method = CutPaste(CutPasteNet())
    >>> method.score(np.zeros((1, 40, 60, 3), np.uint8), Grid((40, 60), 1, 1)).shape
    (40, 60)
    """

    name = "cut-paste"
    photographs = True
    min_patch = 1
    training = CutPasteTraining()
    #: Logit at and below which the score is 0.
    floor = -8.0

    def __init__(self, network: nn.Module, *, downscale: bool = True) -> None:
        self.network, self.downscale = network.eval(), downscale

    @classmethod
    def fit(cls, clips: Sequence[Clip], context: FitContext) -> Self:
        """Train the network, with a checkpoint per epoch. See `Method.fit`."""
        seed, downscale = context.training.seed, context.config.size is None
        images = (frame.pixels for clip in clips for frame in clip)
        total = sum(clip.nominal_total for clip in clips)
        cut = (
            (255 * tiles).round().to(torch.uint8)
            for image in context.track(images, "reading normal images", total)
            for tiles in Tiling(image.shape[:2], downscale).extract(image)
        )
        network = train_cut_paste_net(
            sample_batches(cut, cls.training.tiles, seed).numpy(),
            cls.training,
            seed=seed,
            folder=context.scratch / cls.name,
            track=context.track,
        )
        return cls(network, downscale=downscale)

    @torch.no_grad()
    def score(self, window: Pixels, grid: Grid) -> ScoreMap:
        """Score the latest image of a window. See `Scorer.score`."""
        image = window[-1]
        tiling = Tiling(image.shape[:2], self.downscale)
        heat = tiling.stitch(
            (self.network(tiles) - self.floor).clamp(min=0) for tiles in tiling.extract(image)
        )
        return grid.means(heat)

    def write(self, folder: Path) -> None:
        """Write the network. See `Method.write`."""
        runs.write_tensors(folder / _FILE, runs.to_cpu(self.network.state_dict()))

    @classmethod
    def read(cls, folder: Path, config: DetectorConfig) -> Self:
        """Read the network. See `Method.read`."""
        tensors, _ = runs.read_tensors(folder / _FILE)
        network = CutPasteNet()
        runs.load_weights(network, tensors, folder)
        return cls(network, downscale=config.size is None)
