"""Similarities between embeddings (Eq. 4), in a form that a search by inner product can use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import normalize

from nearfar.config import SimilarityName
from nearfar.errors import NearfarError
from nearfar.neighbors.bank import Bank, bank_chunks

#: An embedding shorter than this has no direction: its cosine to everything is taken as (nearly)
#: zero.
ZERO_NORM = 1e-6


class Similarity(Protocol):
    """How alike two embeddings are, 𝕊; the distance of the paper is 𝔻 = 1 − 𝕊."""

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Similarity of the rows of `a` and `b`, float[..., d] each, broadcast, to float[...]."""
        ...

    def keys(self, embeddings: Tensor) -> Tensor:
        """Rows to search in, float[n, k]; `queries(a) @ keys(b).T` orders b as 𝕊(a, b) does."""
        ...

    def queries(self, embeddings: Tensor) -> Tensor:
        """Rows to search with, float[n, k]: the more similar, the smaller their distance."""
        ...

    def state(self) -> Mapping[str, Tensor]:
        """What was measured on the bank."""
        ...


@dataclass(frozen=True)
class Cosine:
    """Cosine of the angle between embeddings seen from `center` (the origin when None), Eq. 4.

    Rows shorter than `ZERO_NORM` have similarity (nearly) zero to every row.
    """

    center: Tensor | None = None

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """See `Similarity`; in [−1, 1], and in [0, 1] for uncentered ReLU embeddings."""
        return (self.keys(a) * self.keys(b)).sum(-1)

    def keys(self, embeddings: Tensor) -> Tensor:
        """Unit vectors, float[n, d]."""
        if self.center is not None:
            embeddings = embeddings - self.center
        return normalize(embeddings, dim=-1, eps=ZERO_NORM)

    queries = keys

    def state(self) -> dict[str, Tensor]:
        """See `Similarity`."""
        return {} if self.center is None else {"center": self.center}


@dataclass(frozen=True)
class Gaussian:
    """exp(−‖a − b‖² / 2σ²), where σ² is the mean squared distance of the bank to its center."""

    variance: Tensor

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """See `Similarity`; in (0, 1]."""
        return torch.exp((a - b).square().sum(-1) / (-2 * self.variance))

    def keys(self, embeddings: Tensor) -> Tensor:
        """Rows b and −‖b‖²/2, float[n, d + 1]: with [a, 1] they give −‖a − b‖²/2 + ‖a‖²/2."""
        return torch.cat([embeddings, embeddings.square().sum(-1, keepdim=True) / -2], dim=-1)

    def queries(self, embeddings: Tensor) -> Tensor:
        """Rows a and 1, float[n, d + 1]."""
        return torch.cat([embeddings, torch.ones_like(embeddings[..., :1])], dim=-1)

    def state(self) -> dict[str, Tensor]:
        """See `Similarity`."""
        return {"variance": self.variance}


def fit_similarity(name: SimilarityName | Callable[[Bank], Similarity], bank: Bank) -> Similarity:
    """Take from the bank, float[n, d], what the named similarity needs to know of it."""
    if callable(name):
        return name(bank)
    if name == "cosine":
        return Cosine()
    center = _mean(bank, lambda rows: rows)
    if name == "centered-cosine":
        return Cosine(center)
    if name == "gaussian":
        variance = _mean(bank, lambda rows: (rows - center).square()).sum()
        return Gaussian(variance.clamp_min(torch.finfo(variance.dtype).tiny))
    raise NearfarError(
        f"similarity {name!r} is not known: expected cosine, centered-cosine or gaussian"
    )


def _mean(bank: Bank, of: Callable[[Tensor], Tensor]) -> Tensor:
    """The mean over all rows of something, in parts: the bank may be larger than the memory."""
    return torch.stack([of(bank[rows]).sum(0) for rows in bank_chunks(bank)]).sum(0) / len(bank)
