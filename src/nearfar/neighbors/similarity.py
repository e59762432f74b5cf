"""Similarities of embeddings (Eq. 4) whose nearest neighbors can be found by inner products."""

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

#: Norm below which an embedding counts as zero; its cosine similarity to all others is about 0.
ZERO_NORM = 1e-6


class Similarity(Protocol):
    """Protocol of a similarity 𝕊 between two embeddings. The distance in the paper is 𝔻 = 1 − 𝕊.

    Examples
    --------
    A custom similarity, the inner product:

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
        """Return the similarity of each embedding in `a` to the corresponding embedding in `b`.

        `a` and `b` are float[..., d] and are broadcast; the result is float[...].
        """
        ...

    def keys(self, embeddings: Tensor) -> Tensor:
        """Return the search keys (float[n, k]) of embeddings (float[n, d]).

        For embeddings `a` (float[n, d]) and `b` (float[m, d]), row i of `queries(a) @ keys(b).T`
        ranks the rows of `b` in the same order as their similarity to `a[i]`.
        """
        ...

    def queries(self, embeddings: Tensor) -> Tensor:
        """Return the search queries (float[n, k]) of embeddings (float[n, d]).

        The more similar two embeddings are, the smaller is the Euclidean distance between their
        queries.
        """
        ...

    def state(self) -> Mapping[str, Tensor]:
        """Return the statistics of the bank that the similarity depends on, by name."""
        ...


@dataclass(frozen=True)
class Cosine:
    """Cosine similarity ⟨a − c, b − c⟩ / (‖a − c‖ ‖b − c‖), Eq. 4.

    Embeddings with ‖a − c‖ below `ZERO_NORM` have a similarity of about zero to all others.

    Parameters
    ----------
    center : float[d], optional
        Vector c, subtracted from all embeddings. Default: zero.

    Examples
    --------
    >>> Cosine()(torch.tensor([2.0, 0.0]), torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    tensor([1., 0.])
    """

    center: Tensor | None = None

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """See `Similarity`. The range is [−1, 1], or [0, 1] if a, b ≥ 0 and c = 0."""
        return (self.keys(a) * self.keys(b)).sum(-1)

    def keys(self, embeddings: Tensor) -> Tensor:
        """Return the embeddings, centered and scaled to unit length (float[n, d])."""
        if self.center is not None:
            embeddings = embeddings - self.center
        return normalize(embeddings, dim=-1, eps=ZERO_NORM)

    queries = keys

    def state(self) -> dict[str, Tensor]:
        """See `Similarity.state`."""
        return {} if self.center is None else {"center": self.center}


@dataclass(frozen=True)
class Gaussian:
    """Gaussian similarity exp(−‖a − b‖² / 2σ²).

    Parameters
    ----------
    variance : float[]
        Variance σ². `fit_similarity` uses the mean squared distance of the embeddings in the bank
        from the mean embedding.

    Examples
    --------
    >>> Gaussian(torch.tensor(0.5))(torch.tensor([0.0]), torch.tensor([1.0]))
    tensor(0.3679)
    """

    variance: Tensor

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """See `Similarity`. The range is (0, 1]."""
        return torch.exp((a - b).square().sum(-1) / (-2 * self.variance))

    def keys(self, embeddings: Tensor) -> Tensor:
        """Return the vector [b, −‖b‖²/2] for each embedding b (float[n, d + 1]).

        The inner product of this vector with the query [a, 1] is (‖a‖² − ‖a − b‖²)/2.
        """
        return torch.cat([embeddings, embeddings.square().sum(-1, keepdim=True) / -2], dim=-1)

    def queries(self, embeddings: Tensor) -> Tensor:
        """Return the vector [a, 1] for each embedding a (float[n, d + 1])."""
        return torch.cat([embeddings, torch.ones_like(embeddings[..., :1])], dim=-1)

    def state(self) -> dict[str, Tensor]:
        """See `Similarity.state`."""
        return {"variance": self.variance}


def fit_similarity(
    similarity: SimilarityName | Callable[[Bank], Similarity], bank: Bank
) -> Similarity:
    """Return a similarity fitted to a bank.

    Parameters
    ----------
    similarity : {"cosine", "centered-cosine", "gaussian"} or callable
        Name of a similarity, or a function that takes the bank and returns a `Similarity`.
    bank : Bank
        Embeddings (float[n, d]), in memory or on disk.

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
    """Return the mean of the function `of` over all rows, computed in chunks to save memory."""
    return torch.stack([of(bank[rows]).sum(0) for rows in bank_chunks(bank)]).sum(0) / len(bank)
