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

#: Default maximum fraction of clean images to reject.
FALSE_POSITIVE_RATE = 0.01


class Purifier(nn.Module):
    """Differentiable purifier that replaces images with their reconstructions (§4.4).

    Parameters
    ----------
    network : Autoencoder
        Trained network; a copy of it is used.
    shape : tuple of int
        Shape (channels, height, width) of the images.
    passes : int
        Number of successive reconstructions, ≥ 1.
    noise_std : float
        Standard deviation of the Gaussian noise added to images before each encoding, in [0, 1].
        With noise, the defense is randomized, and white-box-aware attacks average over the noise.

    Raises
    ------
    NearfarError
        If a parameter is out of range.

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
            raise NearfarError(f"noise_std={noise_std}: expected 0…1, for pixel values in [0, 1]")
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.shape, self.passes, self.noise_std = shape, passes, noise_std

    @classmethod
    def load(cls, run: str | os.PathLike[str], *, passes: int = 1, noise_std: float = 0.0) -> Self:
        """Load a purifier from a run.

        Parameters
        ----------
        run : str or path
            Run folder.
        passes, noise_std
            See `Purifier`.

        Raises
        ------
        NearfarError
            If the run cannot be read.
        """
        network, shape = read_trained_network(Path(run)), read_config(Path(run)).data.shape
        return cls(network, shape, passes=passes, noise_std=noise_std)

    @property
    def random(self) -> bool:
        """Whether purification is randomized."""
        return self.noise_std > 0

    def forward(self, images: Tensor) -> Tensor:
        """Return purified images (float[b, c, h, w]).

        Parameters
        ----------
        images : float[b, c, h, w]
            Images, with values in [0, 1].

        Raises
        ------
        NearfarError
            If the images have a different shape or range.
        """
        return self.decode(self.project(self.encode(images)))

    def encode(self, images: Tensor) -> Tensor:
        """Return the embeddings (float[b, d]) that images have in the last pass. See `forward`."""
        check_images(images, self.shape)
        for _ in range(self.passes - 1):
            images = self.decode(self.project(self._encode(images)))
        return self._encode(images)

    def project(self, embeddings: Tensor) -> Tensor:
        """Return the embeddings to decode (float[b, d]). Subclasses may change embeddings here."""
        return embeddings

    def decode(self, embeddings: Tensor) -> Tensor:
        """Return the images (float[b, c, h, w], in [0, 1]) decoded from embeddings."""
        return self.network.decoder(embeddings).clamp(0, 1)

    def purify(self, images: Tensor | npt.ArrayLike) -> Tensor:
        """Purify images in batches, without gradients.

        Parameters
        ----------
        images : uint8[n, c, h, w] or float[n, c, h, w]
            Images. uint8 values are in [0, 255], float values in [0, 1].

        Returns
        -------
        float32[n, c, h, w]
            Purified images on the CPU, with values in [0, 1].
        """
        return apply_in_batches(self, as_unit_images(images, self.shape), device_of(self))

    def reconstruction_error(self, images: Tensor | npt.ArrayLike) -> Tensor:
        """Return the mean squared reconstruction error of each image (float32[n], on the CPU).

        Parameters
        ----------
        images : uint8[n, c, h, w] or float[n, c, h, w]
            Images. See `purify`.
        """
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
        """Return a classifier defended by this purifier.

        Parameters
        ----------
        classifier : nn.Module
            Module that takes images (float[b, c, h, w]) with values in [0, 1] and returns logits
            (float[b, k]).
        clean : array, optional
            Validation images for setting the rejection threshold of the reconstruction error.
            Default: no image is rejected.
        false_positive_rate : float
            Maximum fraction of clean images to reject, in (0, 1).
        track : Track
            Progress display while a `NeighborPurifier` classifies its bank.

        Returns
        -------
        DefendedClassifier
            Module that takes images and returns logits, as the classifier does. The method
            `predict` also marks rejected images.

        Raises
        ------
        NearfarError
            If the classifier does not accept the images.
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
    """Detector score: mean reconstruction error of an image.

    Parameters
    ----------
    purifier : nn.Module
        Module that takes images (float[b, c, h, w]) and returns reconstructions.
    power : {1, 2}
        Exponent of the absolute differences between pixels.

    Examples
    --------
    >>> ReconstructionScore(nn.Identity())(torch.rand(3, 1, 8, 8))
    tensor([0., 0., 0.])
    """

    def __init__(self, purifier: nn.Module, power: int = 2) -> None:
        super().__init__()
        self.purifier, self.power = purifier, power

    def forward(self, images: Tensor) -> Tensor:
        """Return the error of each image (float[b])."""
        return (self.purifier(images) - images).abs().pow(self.power).flatten(1).mean(1)
