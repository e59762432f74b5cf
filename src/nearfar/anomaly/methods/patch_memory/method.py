"""Patch memory: distance from a patch's features to those of normal patches [1]_.

References
----------
.. [1] K. Roth et al., "Towards total recall in industrial anomaly detection", CVPR 2022.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from nearfar import runs
from nearfar.anomaly.clips import Clip, Pixels
from nearfar.anomaly.methods.patch_memory.coreset import choose_centers
from nearfar.anomaly.methods.patch_memory.encoder import PatchEncoder
from nearfar.anomaly.patches import Grid, ScoreMap, sample_batches
from nearfar.anomaly.registry import FitContext, Method, register_method
from nearfar.anomaly.tiles import Tiling
from nearfar.neighbors import ExactFinder, fit_similarity

if TYPE_CHECKING:
    from nearfar.anomaly.config import DetectorConfig

_FILE = "bank.safetensors"
#: Largest number of patches from which the bank is chosen; larger sets are sampled.
_CANDIDATES = 100_000


@register_method
class PatchMemory(Method):
    """Euclidean distance from a patch's features to the nearest features of a normal patch.

    The bank is a coreset of `DetectorConfig.bank_size` normal patches.

    Parameters
    ----------
    encoder : PatchEncoder
        Module from tiles, float32[b, 3, 224, 224] in 0…1, to features, float32[b, 28, 28, d].
    bank : float32[n, d]
        Features of normal patches, at least 2.
    reduce : bool
        Whether to reduce large images, see `Tiling`.

    Examples
    --------
    >>> import numpy as np
    >>> encoder = lambda tiles: tiles[:, :, ::8, ::8].permute(0, 2, 3, 1)  # colors
    >>> method = PatchMemory(encoder, torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]))
    >>> image = np.full((1, 32, 32, 3), 255, np.uint8)
    >>> float(method.score(image, Grid((32, 32), 1, 1)).max())
    0.0
    """

    name = "patch-memory"
    photographs = True
    min_patch = 1

    def __init__(self, encoder: PatchEncoder, bank: Tensor, *, reduce: bool = True) -> None:
        self.encoder, self.bank, self.reduce = encoder, bank, reduce
        self._finder = ExactFinder(1).fit(bank, fit_similarity("gaussian", bank))

    @classmethod
    def fit(cls, clips: Sequence[Clip], context: FitContext) -> Self:
        """Keep the features of patches of normal images; see `Method.fit`."""
        config, seed = context.config, context.training.seed
        encoder, reduce = PatchEncoder.open(config.encoder), config.size is None
        images = (frame.pixels for clip in clips for frame in clip)
        total = sum(clip.nominal_total for clip in clips)
        features = (
            encoder(tiles).flatten(0, 2)
            for image in context.track(images, "reading normal images", total)
            for tiles in Tiling(image.shape[:2], reduce).cut(image)
        )
        candidates = sample_batches(features, _CANDIDATES, seed)
        rows = choose_centers(candidates, config.bank_size, seed=seed, track=context.track)
        return cls(encoder, candidates[rows.sort().values], reduce=reduce)

    def score(self, window: Pixels, grid: Grid) -> ScoreMap:
        """Score the latest image of a window; see `Scorer.score`."""
        image = window[-1]
        tiling = Tiling(image.shape[:2], self.reduce)
        heat = tiling.stitch(self.distances(self.encoder(tiles)) for tiles in tiling.cut(image))
        return grid.means(heat)

    def distances(self, features: Tensor) -> Tensor:
        """Return the distances from features, float32[..., d], to the nearest ones in the bank."""
        rows = features.flatten(0, -2)
        nearest = self._finder.search(rows, torch.full((len(rows),), -1)).near[:, 0]
        return (rows - self.bank[nearest]).norm(dim=1).view(features.shape[:-1])

    def write(self, folder: Path) -> None:
        """Write the encoder and the bank; see `Method.write`."""
        self.encoder.write(folder)
        runs.write_tensors(folder / _FILE, runs.to_cpu({"bank": self.bank}))

    @classmethod
    def read(cls, folder: Path, config: DetectorConfig) -> Self:
        """Read the encoder and the bank; see `Method.read`."""
        tensors, _ = runs.read_tensors(folder / _FILE)
        encoder = PatchEncoder.read(folder, config.encoder)
        with runs.reading(folder, _FILE):
            return cls(encoder, tensors["bank"], reduce=config.size is None)
