"""Purification of adversarial images by reconstruction (§4.4)."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy.typing as npt
import torch
from torch import Tensor, nn

from nearfar.data import Shape
from nearfar.defense.checks import as_unit_images, check_images, count_classes
from nearfar.defense.defended import (
    DefendedClassifier,
    ThresholdDetector,
    apply_in_batches,
    device_of,
)
from nearfar.errors import NearfarError
from nearfar.models import Autoencoder
from nearfar.progress import Track, silent
from nearfar.runs import read_config, read_trained_network

#: Share of clean images that a detector may reject by default.
FALSE_POSITIVE_RATE = 0.01


class Purifier(nn.Module):
    """Replaces images by their reconstructions (§4.4); differentiable end to end.

    Parameters
    ----------
    network : Autoencoder
        Trained network; a copy of it is used.
    shape : tuple of int
        Channels, height, width of its images.
    passes : int
        Number of successive reconstructions, at least 1.
    noise_std : float
        Standard deviation of Gaussian noise added before each encoding, 0…1. Makes the defense
        random: an attack that knows it averages over draws.

    Examples
    --------
    >>> from nearfar.models import Autoencoder
    >>> network = Autoencoder(nn.Flatten(), nn.Unflatten(1, (1, 8, 8)))
    >>> purifier = Purifier(network, (1, 8, 8), passes=2)
    >>> purifier.purify(torch.rand(5, 1, 8, 8)).shape
    torch.Size([5, 1, 8, 8])
    >>> defended = purifier.defend(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    """

    def __init__(
        self,
        network: Autoencoder,
        shape: Shape,
        *,
        passes: int = 1,
        noise_std: float = 0.0,
    ) -> None:
        super().__init__()
        if passes < 1:
            raise NearfarError(f"passes={passes}: expected at least 1")
        if not 0 <= noise_std <= 1:
            raise NearfarError(f"noise_std={noise_std}: expected 0…1, on the scale of black…white")
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.shape, self.passes, self.noise_std = shape, passes, noise_std

    @classmethod
    def load(cls, run: str | os.PathLike[str], *, passes: int = 1, noise_std: float = 0.0) -> Self:
        """Read a run folder.

        Raises
        ------
        NearfarError
            If the run cannot be read.
        """
        network, shape = read_trained_network(Path(run)), read_config(Path(run)).data.shape
        return cls(network, shape, passes=passes, noise_std=noise_std)

    @property
    def random(self) -> bool:
        """Whether purification is random."""
        return self.noise_std > 0

    def forward(self, images: Tensor) -> Tensor:
        """Purify images, float[b, c, h, w] where 0…1 is black…white.

        Raises
        ------
        NearfarError
            If they have another shape or range.
        """
        return self.decode(self.project(self.encode(images)))

    def encode(self, images: Tensor) -> Tensor:
        """Return embeddings, float[b, d], of the last pass; see `forward`."""
        check_images(images, self.shape)
        for _ in range(self.passes - 1):
            images = self.decode(self.project(self._encode(images)))
        return self._encode(images)

    def project(self, embeddings: Tensor) -> Tensor:
        """Return the embeddings to decode, float[b, d]: here, the same."""
        return embeddings

    def decode(self, embeddings: Tensor) -> Tensor:
        """Return images, float[b, c, h, w] in 0…1."""
        return self.network.decoder(embeddings).clamp(0, 1)

    def purify(self, images: Tensor | npt.ArrayLike) -> Tensor:
        """Purify any number of images without gradients, on the device of this module.

        Parameters
        ----------
        images : uint8[n, c, h, w] or float[n, c, h, w]
            In 0…255, or floats where 0…1 is black…white.

        Returns
        -------
        float32[n, c, h, w]
            On the CPU.
        """
        return apply_in_batches(self, as_unit_images(images, self.shape), device_of(self))

    def reconstruction_error(self, images: Tensor | npt.ArrayLike) -> Tensor:
        """Return the mean squared error per image, float32[n] on the CPU; see `purify`."""
        pixels = as_unit_images(images, self.shape)
        return apply_in_batches(ReconstructionScore(self), pixels, device_of(self))

    def defend(
        self,
        classifier: nn.Module,
        *,
        clean: Tensor | npt.ArrayLike | None = None,
        false_positive_rate: float = FALSE_POSITIVE_RATE,
        track: Track = silent,
    ) -> DefendedClassifier:
        """Put the purifier before a classifier.

        Parameters
        ----------
        classifier : nn.Module
            From float[b, c, h, w], where 0…1 is black…white, to logits float[b, k].
        clean : array, optional
            Validation images. If given, images are rejected whose reconstruction error exceeds
            that of all but `false_positive_rate` of these.
        false_positive_rate : float
            Share of clean images that may be rejected, in (0, 1).
        track : callable
            Shows progress, where a `NeighborPurifier` classifies its bank.

        Returns
        -------
        DefendedClassifier
            Module with the same inputs and outputs; `predict` returns classes and rejections.

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
            detector = ThresholdDetector(ReconstructionScore(self))
            pixels = as_unit_images(clean, self.shape)
            detectors.append(detector.calibrate(pixels, false_positive_rate))
        return self._put_before(classifier, detectors, track)

    def _encode(self, images: Tensor) -> Tensor:
        if self.noise_std:
            images = (images + self.noise_std * torch.randn_like(images)).clamp(0, 1)
        embeddings: Tensor = self.network.encoder(images)
        return embeddings

    def _put_before(
        self, classifier: nn.Module, detectors: Sequence[ThresholdDetector], track: Track
    ) -> DefendedClassifier:
        return DefendedClassifier(self, classifier, detectors)


class ReconstructionScore(nn.Module):
    """Mean error of reconstructions, per image.

    Parameters
    ----------
    purifier : nn.Module
        From float[b, c, h, w] to reconstructions.
    power : {1, 2}
        Absolute or squared differences.

    Examples
    --------
    >>> ReconstructionScore(nn.Identity())(torch.rand(3, 1, 8, 8))
    tensor([0., 0., 0.])
    """

    def __init__(self, purifier: nn.Module, power: int = 2) -> None:
        super().__init__()
        self.purifier, self.power = purifier, power

    def forward(self, images: Tensor) -> Tensor:
        """Return the error of each image, float[b]."""
        return (self.purifier(images) - images).abs().pow(self.power).flatten(1).mean(1)
