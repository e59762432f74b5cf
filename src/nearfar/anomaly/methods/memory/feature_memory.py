"""Bank of normal features, used by the memory methods."""

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
#: Maximum number of patches from which the bank is chosen; larger sets are sampled.
_CANDIDATES = 60_000
#: Minimum number of rows of a bank that can be searched.
_MIN_BANK = 2


class FeatureMemory(Method):
    """Base class of methods with a bank of features of normal patches or images.

    Parameters
    ----------
    encoder : PatchEncoder
        Encoder of the features.
    bank : float32[n, d]
        Features of normal patches or images.
    frames : int64[n], optional
        Frame number of each row of `bank`. Default: a different frame for each row.
    """

    def __init__(self, encoder: PatchEncoder, bank: Tensor, frames: Tensor | None = None) -> None:
        self.encoder, self.bank = encoder, bank
        self.frames = torch.arange(len(bank)) if frames is None else frames
        self._finder = _finder(bank)

    @classmethod
    def make(
        cls, encoder: PatchEncoder, bank: Tensor, frames: Tensor | None, config: DetectorConfig
    ) -> Self:
        """Return an instance with an encoder and a bank. Subclasses may use `config`."""
        return cls(encoder, bank, frames)

    @classmethod
    def choose(
        cls, encoder: PatchEncoder, features: Iterable[tuple[int, Tensor]], context: FitContext
    ) -> Self:
        """Return an instance with a coreset of `DetectorConfig.bank_size` features as its bank.

        Parameters
        ----------
        encoder : PatchEncoder
            Encoder of the features.
        features : iterable of (int, float32[b, d])
            Pairs of a frame number and the features of patches of that frame.
        context : FitContext
            Settings of the detector and random seed.
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
        """Return the distance from each feature (float32[..., d]) to the nearest one in the bank.

        For `left_out` and errors, see `nearest`.
        """
        distances, _ = self.nearest(features.flatten(0, -2), left_out=left_out)
        return distances.view(features.shape[:-1])

    def nearest(self, features: Tensor, *, left_out: int | None = None) -> tuple[Tensor, Tensor]:
        """Return the nearest features in the bank (float32[b, d]), and the distances to them.

        The distances (float32[b]) are returned first.

        Parameters
        ----------
        features : float32[b, d]
            Features to compare with the bank.
        left_out : int, optional
            Number of a normal frame. Its features in the bank are ignored.

        Raises
        ------
        NearfarError
            If too few features in the bank are from other frames.
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
        found = finder.search(features, features.new_full((len(features),), -1).long())
        nearest = bank[found.near[:, 0]]
        return (features - nearest).norm(dim=1), nearest

    def write(self, folder: Path) -> None:
        """Write the encoder and the bank. See `Method.write`."""
        self.encoder.write(folder)
        tensors = {"bank": self.bank, "frames": self.frames}
        runs.write_tensors(folder / _FILE, runs.to_cpu(tensors))

    @classmethod
    def read(cls, folder: Path, config: DetectorConfig) -> Self:
        """Read the encoder and the bank. See `Method.read`."""
        tensors, _ = runs.read_tensors(folder / _FILE)
        encoder = PatchEncoder.read(folder, config.encoder)
        with runs.explain_damage(folder, _FILE):
            return cls.make(encoder, tensors["bank"], tensors.get("frames"), config)


def _finder(bank: Tensor) -> ExactFinder:
    return ExactFinder(1).fit(bank, fit_similarity("gaussian", bank))
