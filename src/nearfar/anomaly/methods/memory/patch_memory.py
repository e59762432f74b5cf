"""Patch memory: distance in feature space to normal patches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from torch import Tensor

from nearfar.anomaly.clips import Clip, Pixels
from nearfar.anomaly.methods.memory.encoder import PatchEncoder
from nearfar.anomaly.methods.memory.feature_memory import FeatureMemory
from nearfar.anomaly.patches import Grid, ScoreMap
from nearfar.anomaly.registry import FitContext, LeaveOneOutMethod, register_method
from nearfar.anomaly.tiles import Tiling

if TYPE_CHECKING:
    from nearfar.anomaly.config import DetectorConfig


@register_method
class PatchMemory(FeatureMemory, LeaveOneOutMethod):
    """PatchCore [1]_: distance in feature space from a patch to the nearest normal patch.

    The distance is Euclidean. The bank is a coreset of `DetectorConfig.bank_size` features of
    normal patches.

    Parameters
    ----------
    encoder : PatchEncoder
        Module that takes tiles (float32[b, 3, 224, 224], in [0, 1]) and returns features
        (float32[b, 28, 28, d]).
    bank : float32[n, d]
        Features of at least two normal patches.
    frames : int64[n], optional
        Image number of each row of `bank`. Default: a different image for each row.
    downscale : bool
        Whether to downscale large images. See `Tiling`.

    References
    ----------
    .. [1] K. Roth et al., "Towards total recall in industrial anomaly detection", CVPR 2022.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> encoder = lambda tiles: tiles[:, :, ::8, ::8].permute(0, 2, 3, 1)  # colors
    >>> method = PatchMemory(encoder, torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]))
    >>> image = np.full((1, 32, 32, 3), 255, np.uint8)
    >>> float(method.score(image, Grid((32, 32), 1, 1)).max())
    0.0
    """

    name = "patch-memory"
    min_patch = 1

    def __init__(
        self,
        encoder: PatchEncoder,
        bank: Tensor,
        frames: Tensor | None = None,
        *,
        downscale: bool = True,
    ) -> None:
        super().__init__(encoder, bank, frames)
        self.downscale = downscale

    @classmethod
    def make(
        cls, encoder: PatchEncoder, bank: Tensor, frames: Tensor | None, config: DetectorConfig
    ) -> Self:
        """Return an instance with a bank. If `config.size` is set, images are not downscaled."""
        return cls(encoder, bank, frames, downscale=config.size is None)

    @classmethod
    def fit(cls, clips: Sequence[Clip], context: FitContext) -> Self:
        """Store the features of patches of normal images. See `Method.fit`."""
        encoder, downscale = PatchEncoder.open(context.config.encoder), context.config.size is None
        images = (frame.pixels for clip in clips for frame in clip)
        total = sum(clip.nominal_total for clip in clips)
        features = (
            (number, encoder(tiles).flatten(0, 2))
            for number, image in enumerate(context.track(images, "reading normal images", total))
            for tiles in Tiling(image.shape[:2], downscale).extract(image)
        )
        return cls.choose(encoder, features, context)

    def score(self, window: Pixels, grid: Grid) -> ScoreMap:
        """Score the latest image of a window. See `Scorer.score`."""
        return grid.means(self._heat(window[-1]))

    def score_left_out(self, window: Pixels, grid: Grid, number: int) -> ScoreMap:
        """Score a normal image against all other normal images. See `LeaveOneOutMethod`."""
        return grid.means(self._heat(window[-1], left_out=number))

    def _heat(self, image: Pixels, *, left_out: int | None = None) -> ScoreMap:
        tiling = Tiling(image.shape[:2], self.downscale)
        return tiling.stitch(
            self.distances(self.encoder(tiles), left_out=left_out)
            for tiles in tiling.extract(image)
        )
