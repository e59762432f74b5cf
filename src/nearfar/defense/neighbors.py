"""Defense by neighbors: an image is what the clean images near it are."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from nearfar.artifacts import read_run
from nearfar.data import Shape
from nearfar.defense.guard import BATCH, Detector, Guarded
from nearfar.defense.purifier import Purifier
from nearfar.models import Autoencoder
from nearfar.neighbors import ExactFinder
from nearfar.neighbors.similarity import Cosine, fit_similarity
from nearfar.progress import Track, silent

NEIGHBORS = 5
#: Gradients are those of a mean over so many nearest codes, weighted at this temperature.
SOFTENED, TEMPERATURE = 50, 0.02
#: Similarities that are looked at at a time.
AT_ONCE = 2**24
#: Added to probabilities before their logarithm is taken.
SMALL = 1e-6


class NeighborPurifier(Purifier):
    """Replaces codes by the mean of the nearest ones of clean images, before they are decoded.

    Which ones these are has no gradient: in its place stands that of a softmax-weighted mean of
    many more (BPDA [1]_), by which attacks find more than by passing gradients straight through.

    Parameters
    ----------
    network, shape, passes, noise
        As for `Purifier`.
    bank : float[n, d]
        Codes of clean images.
    neighbors : int
        How many of them, at least 1.

    References
    ----------
    .. [1] A. Athalye, N. Carlini, D. Wagner, "Obfuscated Gradients Give a False Sense of
       Security", ICML 2018.
    """

    bank: Tensor

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
        ExactFinder(neighbors).check(len(bank))
        self.neighbors = neighbors
        self.register_buffer("bank", bank, persistent=False)
        self._finders: dict[tuple[int, torch.device], ExactFinder] = {}

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
            torch.from_numpy(trained.codes),
            neighbors=neighbors,
            passes=passes,
            noise=noise,
        )

    def project(self, codes: Tensor) -> Tensor:
        """The mean of the nearest codes of clean images, float[b, d]."""
        rows, shares = self.nearest(codes)
        return torch.einsum("bk,bkd->bd", shares, self.bank[rows])

    def nearest(self, codes: Tensor, rivals: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Find the nearest rows of the bank to each code, and how much each counts.

        Parameters
        ----------
        codes : float[b, d]
            If they need gradients, more than `neighbors` rows are found.
        rivals : int64[b, m], optional
            Further rows that gradients are to know of.

        Returns
        -------
        rows : int64[b, k]
            The nearest first, then the rivals.
        shares : float[b, k]
            Alike for `neighbors` of them, and 0 for the others; gradients are those of a softmax.
        """
        softened = min(max(self.neighbors, SOFTENED), len(self.bank) - 1)
        rows = self._search(codes.detach(), softened if codes.requires_grad else self.neighbors)
        if rivals is not None:
            rows = torch.cat([rows, rivals], 1)
        shares = codes.new_zeros(rows.shape)
        shares[:, : self.neighbors] = 1 / self.neighbors
        if not codes.requires_grad:
            return rows, shares
        similarities = cosine_similarity(codes.unsqueeze(1), self.bank[rows], dim=2)
        soft = (similarities / TEMPERATURE).softmax(1)
        return rows, soft + (shares - soft).detach()

    def _search(self, codes: Tensor, count: int) -> Tensor:
        """Nearest rows of the bank, int64[b, count], prepared where the bank was moved to."""
        wanted = count, self.bank.device
        if wanted not in self._finders:
            similarity = fit_similarity("cosine", self.bank)
            self._finders[wanted] = ExactFinder(count).fit(self.bank, similarity)
        everyone = torch.full((len(codes),), -1, device=codes.device)
        return self._finders[wanted].search(codes, everyone).near

    def _put_before(
        self, classifier: nn.Module, detectors: Sequence[Detector], track: Track
    ) -> Guarded:
        return Consensus(self, classifier, detectors, track=track)


class Consensus(Guarded):
    """A classifier that sees the reconstructions of clean images only: those near to an image.

    What it says of them is averaged. It is asked about the whole bank once, so that guarding costs
    an encoding and a search. The mean of codes that differ in class may decode to neither of them;
    the mean of what is said of each does not depend on that.

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
                classifier(purifier.decode(codes)).softmax(1)
                for codes in track(batches, "asking about neighbors", len(batches))
            ]
        self.register_buffer("answers", torch.cat(answers), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Logarithms of mean probabilities, float[b, k]; differentiable as `NeighborPurifier`."""
        codes = self.purifier.encode(images)
        rivals = self._rivals(codes.detach()) if codes.requires_grad else None
        rows, shares = self.purifier.nearest(codes, rivals)
        return (torch.einsum("bk,bkc->bc", shares, self.answers[rows]) + SMALL).log()

    def _rivals(self, codes: Tensor) -> Tensor:
        """The nearest rows of which another class is said than of the codes, int64[b, m]."""
        bank, count = self.purifier.bank, min(SOFTENED, len(self.answers))
        said = self.answers.argmax(1)
        rows, shares = self.purifier.nearest(codes)
        now = torch.einsum("bk,bkc->bc", shares, self.answers[rows]).argmax(1)
        cosine, at_once = Cosine(), max(1, AT_ONCE // len(bank))
        keys = cosine.keys(bank)
        return torch.cat(
            [
                (cosine.queries(some) @ keys.T)
                .masked_fill(said == its.unsqueeze(1), -torch.inf)
                .topk(count)
                .indices
                for some, its in zip(codes.split(at_once), now.split(at_once), strict=True)
            ]
        )
