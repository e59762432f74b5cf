"""Bank of normal features: what both methods of this package keep."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from nearfar import runs
from nearfar.anomaly.methods.memory.coreset import choose_centers
from nearfar.anomaly.methods.memory.encoder import PatchEncoder
from nearfar.anomaly.patches import sample_batches
from nearfar.anomaly.registry import FitContext, Method
from nearfar.errors import NearfarError
from nearfar.neighbors import ExactFinder, fit_similarity

if TYPE_CHECKING:
    from nearfar.anomaly.config import DetectorConfig

_FILE = "bank.safetensors"
#: Largest number of patches from which the bank is chosen; larger sets are sampled.
_CANDIDATES = 60_000
#: Smallest bank that can be searched.
_MIN_BANK = 2


class FeatureMemory(Method):
    """Method that keeps features of normal patches.

    Parameters
    ----------
    encoder : PatchEncoder
        Encoder of the features.
    bank : float32[n, d]
        Features of normal patches.
    frames : int64[n], optional
        Number of the normal frame that each of them is from. Default: all of different ones.
    """

    def __init__(self, encoder: PatchEncoder, bank: Tensor, frames: Tensor | None = None) -> None:
        self.encoder, self.bank = encoder, bank
        self.frames = torch.arange(len(bank)) if frames is None else frames
        self._finder = _finder(bank)

    @classmethod
    def make(
        cls, encoder: PatchEncoder, bank: Tensor, frames: Tensor | None, config: DetectorConfig
    ) -> Self:
        """Return the method with a bank; see `__init__`."""
        return cls(encoder, bank, frames)

    @classmethod
    def choose(
        cls, encoder: PatchEncoder, features: Iterable[tuple[int, Tensor]], context: FitContext
    ) -> Self:
        """Keep a coreset of features, of `DetectorConfig.bank_size` rows.

        Parameters
        ----------
        encoder : PatchEncoder
            Encoder of the features.
        features : iterable of (int, float32[b, d])
            Number of a frame, and features of some of its patches.
        context : FitContext
            Settings.
        """
        config, seed = context.config, context.training.seed
        read: list[Tensor] = []

        def batches() -> Iterator[Tensor]:
            for number, batch in features:
                read.append(torch.tensor(number).expand(len(batch)))
                yield batch

        candidates = sample_batches(batches(), _CANDIDATES, seed)
        frames = sample_batches(read, _CANDIDATES, seed)  # the same draws
        chosen = choose_centers(candidates, config.bank_size, seed=seed, track=context.track)
        rows = chosen.sort().values
        return cls.make(encoder, candidates[rows], frames[rows], config)

    def distances(self, features: Tensor, *, left_out: int | None = None) -> Tensor:
        """Return the distances from features, float32[..., d], to the nearest ones in the bank.

        Parameters
        ----------
        features : float32[..., d]
            Features.
        left_out : int, optional
            Number of a normal frame, whose own features in the bank do not count.

        Raises
        ------
        NearfarError
            If the bank has no others.
        """
        bank, finder = self.bank, self._finder
        if left_out is not None:
            bank = bank[self.frames != left_out]
            if len(bank) < _MIN_BANK:
                raise NearfarError(
                    f"bank_size={len(self.bank)}: nearly all normal patches are from one image; "
                    "expected a larger bank"
                )
            finder = _finder(bank)
        rows = features.flatten(0, -2)
        nearest = finder.search(rows, rows.new_full((len(rows),), -1).long()).near[:, 0]
        return (rows - bank[nearest]).norm(dim=1).view(features.shape[:-1])

    def write(self, folder: Path) -> None:
        """Write the encoder and the bank; see `Method.write`."""
        self.encoder.write(folder)
        tensors = {"bank": self.bank, "frames": self.frames}
        runs.write_tensors(folder / _FILE, runs.to_cpu(tensors))

    @classmethod
    def read(cls, folder: Path, config: DetectorConfig) -> Self:
        """Read the encoder and the bank; see `Method.read`."""
        tensors, _ = runs.read_tensors(folder / _FILE)
        encoder = PatchEncoder.read(folder, config.encoder)
        with runs.reading(folder, _FILE):
            return cls.make(encoder, tensors["bank"], tensors.get("frames"), config)


def _finder(bank: Tensor) -> ExactFinder:
    return ExactFinder(1).fit(bank, fit_similarity("gaussian", bank))
