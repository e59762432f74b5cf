"""Defense by neighbors: an image is what the clean images near it are."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from nearfar.data import Shape
from nearfar.defense.guard import BATCH, Detector, Guarded
from nearfar.defense.purifier import Purifier
from nearfar.models import Autoencoder
from nearfar.neighbors.finder import check_count, check_enough_rows
from nearfar.neighbors.similarity import Cosine
from nearfar.progress import Track, silent
from nearfar.runs import read_run

NEIGHBORS = 5
#: Gradients are those of a mean over so many nearest embeddings, weighted at this temperature.
SOFTENED, TEMPERATURE = 50, 0.02
COSINE = Cosine()
#: Similarities that are looked at at a time.
AT_ONCE = 2**24
#: Added to probabilities before their logarithm is taken.
SMALL = 1e-6


class NeighborPurifier(Purifier):
    """Replaces embeddings by the mean of the nearest ones of clean images, before they are decoded.

    Which ones these are has no gradient: in its place stands that of a softmax-weighted mean of
    many more (BPDA [1]_), by which attacks find more than by passing gradients straight through.

    Parameters
    ----------
    network, shape, passes, noise
        As for `Purifier`.
    bank : float[n, d]
        Embeddings of clean images.
    neighbors : int
        How many of them, at least 1.

    References
    ----------
    .. [1] A. Athalye, N. Carlini, D. Wagner, "Obfuscated Gradients Give a False Sense of
       Security", ICML 2018.
    """

    bank: Tensor
    keys: Tensor

    def __init__(
        self,
        network: Autoencoder,
        shape: Shape,
        bank: Tensor,
        *,
        neighbors: int = NEIGHBORS,
        passes: int = 1,
        noise: float = 0.0,
    ) -> None:
        super().__init__(network, shape, passes=passes, noise=noise)
        check_count(neighbors)
        check_enough_rows(neighbors, len(bank))
        self.neighbors = neighbors
        self.register_buffer("bank", bank, persistent=False)
        self.register_buffer("keys", COSINE.keys(bank), persistent=False)

    @classmethod
    def load(
        cls,
        run: str | os.PathLike[str],
        *,
        neighbors: int = NEIGHBORS,
        passes: int = 1,
        noise: float = 0.0,
    ) -> Self:
        """Read a run folder; the bank is that of its training images.

        Raises
        ------
        NearfarError
            If the run cannot be read.
        """
        trained = read_run(Path(run))
        return cls(
            trained.autoencoder,
            trained.config.data.shape,
            torch.from_numpy(np.array(trained.embeddings)),
            neighbors=neighbors,
            passes=passes,
            noise=noise,
        )

    def project(self, embeddings: Tensor) -> Tensor:
        """The mean of the nearest embeddings of clean images, float[b, d]."""
        rows, shares = self.nearest(embeddings)
        return torch.einsum("bk,bkd->bd", shares, self.bank[rows])

    def nearest(self, embeddings: Tensor, said: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Find the nearest rows of the bank to each embedding, and how much each counts.

        Parameters
        ----------
        embeddings : float[b, d]
            If they need gradients, more than `neighbors` rows are found.
        said : float[n, k], optional
            Probabilities of classes for each row. Gradients are then also to know of the nearest
            rows of another class than the nearest rows together.

        Returns
        -------
        rows : int64[b, k]
            The nearest first.
        shares : float[b, k]
            Alike for `neighbors` of them, and 0 for the others; gradients are those of a softmax.
        """
        queries = COSINE.queries(embeddings)
        at_once = max(1, AT_ONCE // len(self.bank))
        rows = torch.cat([self._search(some, said) for some in queries.split(at_once)])
        shares = embeddings.new_zeros(rows.shape)
        shares[:, : self.neighbors] = 1 / self.neighbors
        if not embeddings.requires_grad:
            return rows, shares
        similarities = torch.einsum("bd,bkd->bk", queries, self.keys[rows])
        soft = (similarities / TEMPERATURE).softmax(1)
        return rows, soft + (shares - soft).detach()

    def _search(self, queries: Tensor, said: Tensor | None) -> Tensor:
        """The rows of `nearest`, int64[b, k], from one product with the whole bank."""
        similarities = queries.detach() @ self.keys.T
        if not queries.requires_grad:
            return similarities.topk(self.neighbors).indices
        count = min(max(self.neighbors, SOFTENED), len(self.bank))
        rows = similarities.topk(count).indices
        if said is None:
            return rows
        together = said[rows[:, : self.neighbors]].mean(1).argmax(1, keepdim=True)
        similarities.masked_fill_(said.argmax(1) == together, -torch.inf)
        return torch.cat([rows, similarities.topk(count).indices], 1)

    def _put_before(
        self, classifier: nn.Module, detectors: Sequence[Detector], track: Track
    ) -> Guarded:
        return Consensus(self, classifier, detectors, track=track)


class Consensus(Guarded):
    """A classifier that sees the reconstructions of clean images only: those near to an image.

    What it says of them is averaged. It is asked about the whole bank once, so that guarding costs
    an encoding and a search. The mean of embeddings that differ in class may decode to neither of
    them; the mean of what is said of each does not depend on that.

    Where the nearest rows agree, a gradient of what is said of them leads nowhere, and an attack
    that follows it finds the defense stronger than it is. So gradients are also of the nearest rows
    of which something else is said, as in attacks on k-nearest neighbors [1]_.

    Parameters
    ----------
    purifier : NeighborPurifier
        Whose bank it is.
    classifier, detectors
        As for `Guarded`; on the device of the purifier.

    References
    ----------
    .. [1] C. Sitawarin, D. Wagner, "On the Robustness of Deep K-Nearest Neighbors", DLS 2019.
    """

    purifier: NeighborPurifier
    answers: Tensor

    def __init__(
        self,
        purifier: NeighborPurifier,
        classifier: nn.Module,
        detectors: Sequence[Detector] = (),
        *,
        track: Track = silent,
    ) -> None:
        super().__init__(purifier, classifier, detectors)
        batches = purifier.bank.split(BATCH)
        with torch.no_grad():
            answers = [
                classifier(purifier.decode(embeddings)).softmax(1)
                for embeddings in track(batches, "asking about neighbors", len(batches))
            ]
        self.register_buffer("answers", torch.cat(answers), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Logarithms of mean probabilities, float[b, k]; differentiable as `NeighborPurifier`."""
        rows, shares = self.purifier.nearest(self.purifier.encode(images), self.answers)
        return (torch.einsum("bk,bkc->bc", shares, self.answers[rows]) + SMALL).log()
