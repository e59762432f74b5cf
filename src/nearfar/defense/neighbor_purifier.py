"""Purification of images by means of the nearest clean images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from nearfar.data import Shape
from nearfar.defense.defended import DefendedClassifier, NeighborVoting, ThresholdDetector
from nearfar.defense.purifier import Purifier
from nearfar.errors import NearfarError
from nearfar.models import Autoencoder
from nearfar.neighbors import Cosine
from nearfar.progress import Track
from nearfar.runs import read_run

#: Default number of votes.
VOTES = 5

#: Number of nearest rows in the softmax-weighted mean that provides the gradients.
_GRADIENT_ROWS = 50
_TEMPERATURE = 0.02
_COSINE = Cosine()
#: Number of similarities per chunk of queries.
_CHUNK_SIMILARITIES = 2**24


class NeighborPurifier(Purifier):
    """Purifier that replaces each embedding with the mean of the nearest clean embeddings.

    The selection of neighbors is not differentiable. Gradients are therefore those of a
    softmax-weighted mean over many more neighbors (BPDA [1]_). They make attacks stronger than
    straight-through gradients would.

    Parameters
    ----------
    network, shape, passes, noise_std
        See `Purifier`.
    bank : float[n, d]
        Embeddings of clean images.
    votes : int
        Number of nearest embeddings to average, in [1, n − 1].

    Raises
    ------
    NearfarError
        If a parameter is out of range.

    References
    ----------
    .. [1] A. Athalye, N. Carlini, D. Wagner, "Obfuscated Gradients Give a False Sense of
       Security", ICML 2018.

    Examples
    --------
    >>> from nearfar.models import Autoencoder
    >>> network = Autoencoder(nn.Flatten(), nn.Unflatten(1, (1, 8, 8)))
    >>> purifier = NeighborPurifier(network, (1, 8, 8), torch.rand(20, 64), votes=3)
    >>> purifier.purify(torch.rand(5, 1, 8, 8)).shape
    torch.Size([5, 1, 8, 8])
    """

    bank: Tensor
    keys: Tensor

    def __init__(
        self,
        network: Autoencoder,
        shape: Shape,
        bank: Tensor,
        *,
        votes: int = VOTES,
        passes: int = 1,
        noise_std: float = 0.0,
    ) -> None:
        super().__init__(network, shape, passes=passes, noise_std=noise_std)
        if votes < 1 or int(votes) != votes or votes > len(bank) - 1:
            raise NearfarError(
                f"votes={votes} with a bank of {len(bank)} images: expected a whole number from 1 "
                f"to {max(len(bank) - 1, 0)}"
            )
        self.votes = votes
        self.register_buffer("bank", bank, persistent=False)
        self.register_buffer("keys", _COSINE.keys(bank), persistent=False)

    @classmethod
    def load(
        cls,
        run: str | os.PathLike[str],
        *,
        votes: int = VOTES,
        passes: int = 1,
        noise_std: float = 0.0,
    ) -> Self:
        """Load a purifier from a run. The bank consists of the embeddings of the training images.

        Parameters
        ----------
        run : str or path
            Run folder.
        votes, passes, noise_std
            See `NeighborPurifier`.

        Raises
        ------
        NearfarError
            If the run cannot be read.
        """
        trained = read_run(Path(run))
        return cls(
            trained.network,
            trained.config.data.shape,
            torch.from_numpy(np.array(trained.embeddings)),
            votes=votes,
            passes=passes,
            noise_std=noise_std,
        )

    def project(self, embeddings: Tensor) -> Tensor:
        """Return the mean of the clean embeddings nearest to each embedding (float[b, d])."""
        rows, weights = self.nearest(embeddings)
        return torch.einsum("bk,bkd->bd", weights, self.bank[rows])

    def nearest(
        self, embeddings: Tensor, bank_probs: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the rows of the bank nearest to each embedding, and their weights in the mean.

        Parameters
        ----------
        embeddings : float[b, d]
            Embeddings. If they require gradients, more than `votes` rows are returned.
        bank_probs : float[n, c], optional
            Class probabilities for each row of the bank. If given, gradients include the nearest
            rows of classes other than the predicted class.

        Returns
        -------
        rows : int64[b, k]
            Row numbers, nearest first. Additional rows of other classes come last.
        weights : float[b, k]
            Weights: 1/votes for the first `votes` rows, 0 for the others. The gradients are those
            of a softmax over similarities.
        """
        queries = _COSINE.queries(embeddings)
        chunk = max(1, _CHUNK_SIMILARITIES // len(self.bank))
        rows = torch.cat([self._search(part, bank_probs) for part in queries.split(chunk)])
        weights = embeddings.new_zeros(rows.shape)
        weights[:, : self.votes] = 1 / self.votes
        if not embeddings.requires_grad:
            return rows, weights
        similarities = torch.einsum("bd,bkd->bk", queries, self.keys[rows])
        soft = (similarities / _TEMPERATURE).softmax(1)
        return rows, soft + (weights - soft).detach()

    def _search(self, queries: Tensor, bank_probs: Tensor | None) -> Tensor:
        """Return the rows for `nearest` (int64[b, k]), by comparing queries with the whole bank."""
        similarities = queries.detach() @ self.keys.T
        if not queries.requires_grad:
            return similarities.topk(self.votes).indices
        count = min(max(self.votes, _GRADIENT_ROWS), len(self.bank))
        rows = similarities.topk(count).indices
        if bank_probs is None:
            return rows
        winner = bank_probs[rows[:, : self.votes]].mean(1).argmax(1, keepdim=True)
        similarities.masked_fill_(bank_probs.argmax(1) == winner, -torch.inf)
        return torch.cat([rows, similarities.topk(count).indices], 1)

    def _put_before(
        self, classifier: nn.Module, detectors: Sequence[ThresholdDetector], track: Track
    ) -> DefendedClassifier:
        return NeighborVoting(self, classifier, detectors, track=track)
