"""Similarities of embeddings (Eq. 4), in a form for search by inner products."""

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

#: Norm below which an embedding counts as zero, and has cosine (nearly) zero to all others.
ZERO_NORM = 1e-6


class Similarity(Protocol):
    """Similarity 𝕊 of two embeddings; the distance of the paper is 𝔻 = 1 − 𝕊.

    Examples
    --------
    A similarity of your own: the inner product.

    >>> class InnerProduct:
    ...     def __call__(self, a, b):
    ...         return (a * b).sum(-1)
    ...     def keys(self, embeddings):
    ...         return embeddings
    ...     def queries(self, embeddings):
    ...         return embeddings
    ...     def state(self):
    ...         return {}
    >>> InnerProduct()(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0]))
    tensor(11.)
    """

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Return 𝕊 of rows of `a` and `b`, float[..., d], broadcast to float[...]."""
        ...

    def keys(self, embeddings: Tensor) -> Tensor:
        """Return rows to search in, float[n, k]: `queries(a) @ keys(b).T` orders b like 𝕊(a, b)."""
        ...

    def queries(self, embeddings: Tensor) -> Tensor:
        """Return rows to search with, float[n, k]: their distance falls with the similarity."""
        ...

    def state(self) -> Mapping[str, Tensor]:
        """Return statistics of the bank, by name."""
        ...


@dataclass(frozen=True)
class Cosine:
    """Cosine similarity ⟨a − c, b − c⟩ / (‖a − c‖ ‖b − c‖), Eq. 4.

    Rows with a norm below `ZERO_NORM` have similarity (nearly) zero to all rows.

    Parameters
    ----------
    center : float[d], optional
        c; the origin if None.

    Examples
    --------
    >>> Cosine()(torch.tensor([2.0, 0.0]), torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    tensor([1., 0.])
    """

    center: Tensor | None = None

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """See `Similarity`; in [−1, 1], and in [0, 1] for uncentered ReLU embeddings."""
        return (self.keys(a) * self.keys(b)).sum(-1)

    def keys(self, embeddings: Tensor) -> Tensor:
        """Return unit vectors, float[n, d]."""
        if self.center is not None:
            embeddings = embeddings - self.center
        return normalize(embeddings, dim=-1, eps=ZERO_NORM)

    queries = keys

    def state(self) -> dict[str, Tensor]:
        """See `Similarity`."""
        return {} if self.center is None else {"center": self.center}


@dataclass(frozen=True)
class Gaussian:
    """Gaussian similarity exp(−‖a − b‖² / 2σ²).

    Parameters
    ----------
    variance : float[]
        σ²; `fit_similarity` uses the mean squared distance of the bank to its center.

    Examples
    --------
    >>> Gaussian(torch.tensor(0.5))(torch.tensor([0.0]), torch.tensor([1.0]))
    tensor(0.3679)
    """

    variance: Tensor

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """See `Similarity`; in (0, 1]."""
        return torch.exp((a - b).square().sum(-1) / (-2 * self.variance))

    def keys(self, embeddings: Tensor) -> Tensor:
        """Return [b, −‖b‖²/2], float[n, d + 1]: times [a, 1] it is (‖a‖² − ‖a − b‖²)/2."""
        return torch.cat([embeddings, embeddings.square().sum(-1, keepdim=True) / -2], dim=-1)

    def queries(self, embeddings: Tensor) -> Tensor:
        """Return [a, 1], float[n, d + 1]."""
        return torch.cat([embeddings, torch.ones_like(embeddings[..., :1])], dim=-1)

    def state(self) -> dict[str, Tensor]:
        """See `Similarity`."""
        return {"variance": self.variance}


def fit_similarity(
    similarity: SimilarityName | Callable[[Bank], Similarity], bank: Bank
) -> Similarity:
    """Fit a similarity to a bank.

    Parameters
    ----------
    similarity : {"cosine", "centered-cosine", "gaussian"} or callable
        Name of the similarity; or your own, from the bank to a `Similarity`.
    bank : Bank
        Embeddings, float[n, d].

    Raises
    ------
    NearfarError
        If the name is unknown.

    Examples
    --------
    >>> bank = torch.tensor([[0.0, 0.0], [2.0, 0.0]])
    >>> fit_similarity("gaussian", bank)
    Gaussian(variance=tensor(1.))
    >>> fit_similarity(lambda bank: Cosine(bank[0]), bank)
    Cosine(center=tensor([0., 0.]))
    """
    if callable(similarity):
        return similarity(bank)
    if similarity == "cosine":
        return Cosine()
    center = _mean(bank, lambda rows: rows)
    if similarity == "centered-cosine":
        return Cosine(center)
    if similarity == "gaussian":
        variance = _mean(bank, lambda rows: (rows - center).square()).sum()
        return Gaussian(variance.clamp_min(torch.finfo(variance.dtype).tiny))
    raise NearfarError(
        f"similarity {similarity!r} is unknown: expected cosine, centered-cosine or gaussian"
    )


def _mean(bank: Bank, of: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the mean of a function over all rows, in parts: the bank may exceed the memory."""
    return torch.stack([of(bank[rows]).sum(0) for rows in bank_chunks(bank)]).sum(0) / len(bank)
