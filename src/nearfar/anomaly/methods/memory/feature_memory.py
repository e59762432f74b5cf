"""Bank of normal features: what both methods of this package keep."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Self

from torch import Tensor

from nearfar import runs
from nearfar.anomaly.methods.memory.coreset import choose_centers
from nearfar.anomaly.methods.memory.encoder import PatchEncoder
from nearfar.anomaly.patches import sample_batches
from nearfar.anomaly.registry import FitContext, Method
from nearfar.neighbors import ExactFinder, fit_similarity

if TYPE_CHECKING:
    from nearfar.anomaly.config import DetectorConfig

_FILE = "bank.safetensors"
#: Largest number of patches from which the bank is chosen; larger sets are sampled.
_CANDIDATES = 100_000


class FeatureMemory(Method):
    """Method that keeps features of normal patches.

    Parameters
    ----------
    encoder : PatchEncoder
        Encoder of the features.
    bank : float32[n, d]
        Features of normal patches.
    """

    def __init__(self, encoder: PatchEncoder, bank: Tensor) -> None:
        self.encoder, self.bank = encoder, bank
        self._finder = ExactFinder(1).fit(bank, fit_similarity("gaussian", bank))

    @classmethod
    def make(cls, encoder: PatchEncoder, bank: Tensor, config: DetectorConfig) -> Self:
        """Return the method with a bank; see `__init__`."""
        return cls(encoder, bank)

    @classmethod
    def choose(cls, encoder: PatchEncoder, features: Iterable[Tensor], context: FitContext) -> Self:
        """Keep a coreset of features, float32[b, d] each, of `DetectorConfig.bank_size` rows."""
        config, seed = context.config, context.training.seed
        candidates = sample_batches(features, _CANDIDATES, seed)
        rows = choose_centers(candidates, config.bank_size, seed=seed, track=context.track)
        return cls.make(encoder, candidates[rows.sort().values], config)

    def distances(self, features: Tensor) -> Tensor:
        """Return the distances from features, float32[..., d], to the nearest ones in the bank."""
        rows = features.flatten(0, -2)
        nearest = self._finder.search(rows, rows.new_full((len(rows),), -1).long()).near[:, 0]
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
            return cls.make(encoder, tensors["bank"], config)
