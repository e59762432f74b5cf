"""What NRE makes of an adversarial image: its reconstruction, drawn to the data."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Self

import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from nearfar.artifacts import read_run
from nearfar.data import Shape
from nearfar.defense.checks import as_unit_images, check_images, count_classes
from nearfar.defense.guard import Detector, Guarded, device_of, in_batches
from nearfar.errors import NearfarError
from nearfar.models import Autoencoder
from nearfar.neighbors import ExactFinder
from nearfar.neighbors.similarity import fit_similarity

#: In `Guarded`, images whose reconstruction is this rare among clean ones are rejected.
FALSE_POSITIVE_RATE = 0.01
#: Gradients are those of a mean of so many nearest codes, weighted at this temperature.
SOFTENED, TEMPERATURE = 50, 0.02


class Purifier(nn.Module):
    """Replaces images by their reconstructions (§4.4), differentiable from end to end.

    Parameters
    ----------
    network : Autoencoder
        A trained one; a copy of it is used.
    shape : tuple of int
        Channels, height, width of its images.
    passes : int
        How often the reconstruction is reconstructed again, at least 1.
    noise : float
        Standard deviation of Gaussian noise added before each encoding, 0…1. Random: an attack
        that knows it averages over it.
    bank : float[n, d], optional
        Codes of clean images; each code is replaced by the mean of its nearest ones. Which ones
        these are has no gradient: in its place stands that of a softmax-weighted mean of many
        more (BPDA [1]_), by which attacks find more than by passing gradients straight through.
    neighbors : int
        How many of them, at least 1.

    References
    ----------
    .. [1] A. Athalye, N. Carlini, D. Wagner, "Obfuscated Gradients Give a False Sense of
       Security", ICML 2018.
    """

    bank: Tensor | None

    def __init__(
        self,
        network: Autoencoder,
        shape: Shape,
        *,
        passes: int = 1,
        noise: float = 0.0,
        bank: Tensor | None = None,
        neighbors: int = 5,
    ) -> None:
        super().__init__()
        if passes < 1:
            raise NearfarError(f"passes={passes}: expected at least 1")
        if not 0 <= noise <= 1:
            raise NearfarError(f"noise={noise}: expected 0…1, on the scale of black…white")
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.shape, self.passes, self.noise = shape, passes, noise
        self.neighbors = neighbors
        self.register_buffer("bank", bank, persistent=False)
        self._fitted = torch.device("meta")
        if bank is not None:
            ExactFinder(neighbors).check(len(bank))
            self._finder = ExactFinder(min(max(neighbors, SOFTENED), len(bank) - 1))

    @classmethod
    def load(
        cls,
        run: str | os.PathLike[str],
        *,
        passes: int = 1,
        noise: float = 0.0,
        neighbors: int = 0,
    ) -> Self:
        """Read a run folder.

        Parameters
        ----------
        neighbors : int
            Replace codes by the mean of so many nearest ones of the training images; 0 for not.

        Raises
        ------
        NearfarError
            If the run cannot be read.
        """
        trained = read_run(Path(run))
        bank = torch.from_numpy(trained.codes) if neighbors else None
        return cls(
            trained.autoencoder,
            trained.config.data.shape,
            passes=passes,
            noise=noise,
            bank=bank,
            neighbors=neighbors,
        )

    @property
    def random(self) -> bool:
        """Whether the same image may be purified to something else another time."""
        return self.noise > 0

    def forward(self, images: Tensor) -> Tensor:
        """Purify images, float[b, c, h, w] where 0…1 is black…white.

        Raises
        ------
        NearfarError
            If they are of another shape or range.
        """
        check_images(images, self.shape)
        for _ in range(self.passes):
            if self.noise:
                images = (images + self.noise * torch.randn_like(images)).clamp(0, 1)
            codes = self.network.encoder(images)
            if self.bank is not None:
                codes = self._nearest(codes, self.bank)
            images = self.network.decoder(codes).clamp(0, 1)
        return images

    def purify(self, images: Tensor | npt.ArrayLike) -> Tensor:
        """Purify any number of images, without gradients, on the device of this module.

        Parameters
        ----------
        images : uint8[n, c, h, w] or float[n, c, h, w]
            Of 0…255, or where 0…1 is black…white.

        Returns
        -------
        float32[n, c, h, w]
            On the CPU.
        """
        return in_batches(self, as_unit_images(images, self.shape), device_of(self))

    def suspicion(self, images: Tensor | npt.ArrayLike) -> Tensor:
        """Mean squared error of each reconstruction, float32[n] on the CPU; see `purify`."""
        score = ReconstructionError(self)
        return in_batches(score, as_unit_images(images, self.shape), device_of(self))

    def guard(
        self,
        classifier: nn.Module,
        *,
        clean: Tensor | npt.ArrayLike | None = None,
        false_positive_rate: float = FALSE_POSITIVE_RATE,
    ) -> Guarded:
        """Put this before a classifier.

        Parameters
        ----------
        classifier : nn.Module
            From float[b, c, h, w], where 0…1 is black…white, to logits float[b, k].
        clean : array, optional
            Validation images; if given, images are rejected whose reconstruction error is above
            that of all but `false_positive_rate` of these.

        Returns
        -------
        Guarded
            A module of the same inputs and outputs, with `predict` for classes and rejections.

        Raises
        ------
        NearfarError
            If the classifier takes other images.
        """
        if isinstance(classifier, nn.Module):
            classifier.eval()
        like = torch.zeros((), device=device_of(self))
        count_classes(classifier, self.shape, like)
        detectors = []
        if clean is not None:
            detector = Detector(ReconstructionError(self))
            pixels = as_unit_images(clean, self.shape)
            detectors.append(detector.calibrate(pixels, false_positive_rate))
        return Guarded(self, classifier, detectors)

    def _nearest(self, codes: Tensor, bank: Tensor) -> Tensor:
        """The mean of the nearest rows of the bank to each code; softened in the backward pass."""
        if self._fitted != bank.device:
            self._finder.fit(bank, fit_similarity("cosine", bank))
            self._fitted = bank.device
        everyone = torch.full((len(codes),), -1, device=codes.device)
        near = bank[self._finder.search(codes.detach(), everyone).near]
        mean = near[:, : self.neighbors].mean(1)
        if not codes.requires_grad:
            return mean
        weights = (cosine_similarity(codes.unsqueeze(1), near, dim=2) / TEMPERATURE).softmax(1)
        soft = (weights.unsqueeze(2) * near).sum(1)
        return soft + (mean - soft).detach()


class ReconstructionError(nn.Module):
    """How far reconstructions are from images.

    Parameters
    ----------
    purifier : nn.Module
        From float[b, c, h, w] to reconstructions.
    power : {1, 2}
        Mean of absolute or of squared differences.
    """

    def __init__(self, purifier: nn.Module, power: int = 2) -> None:
        super().__init__()
        self.purifier, self.power = purifier, power

    def forward(self, images: Tensor) -> Tensor:
        """Return the error of each image, float[b]."""
        return (self.purifier(images) - images).abs().pow(self.power).flatten(1).mean(1)
