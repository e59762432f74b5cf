"""What NRE makes of an adversarial image: its reconstruction."""

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
from nearfar.defense.guard import Detector, Guarded, device_of, in_batches
from nearfar.errors import NearfarError
from nearfar.models import Autoencoder
from nearfar.progress import Track, silent
from nearfar.runs import read_config, read_network

#: In `Guarded`, images whose reconstruction is this rare among clean ones are rejected.
FALSE_POSITIVE_RATE = 0.01


class Purifier(nn.Module):
    """Replaces images by their reconstructions (§4.4), differentiable from end to end.

    Parameters
    ----------
    network : Autoencoder
        A trained one; a copy of it is used.
    shape : tuple of int
        Channels, height, width of its images.
    passes : int
        How often images are reconstructed, at least 1.
    noise : float
        Standard deviation of Gaussian noise added before each encoding, 0…1. Random: an attack
        that knows it averages over it.
    """

    def __init__(
        self,
        network: Autoencoder,
        shape: Shape,
        *,
        passes: int = 1,
        noise: float = 0.0,
    ) -> None:
        super().__init__()
        if passes < 1:
            raise NearfarError(f"passes={passes}: expected at least 1")
        if not 0 <= noise <= 1:
            raise NearfarError(f"noise={noise}: expected 0…1, on the scale of black…white")
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.shape, self.passes, self.noise = shape, passes, noise

    @classmethod
    def load(cls, run: str | os.PathLike[str], *, passes: int = 1, noise: float = 0.0) -> Self:
        """Read a run folder.

        Raises
        ------
        NearfarError
            If the run cannot be read.
        """
        network, shape = read_network(Path(run)), read_config(Path(run)).data.shape
        return cls(network, shape, passes=passes, noise=noise)

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
        return self.decode(self.project(self.encode(images)))

    def encode(self, images: Tensor) -> Tensor:
        """Embeddings, float[b, d], of the last pass; see `forward`."""
        check_images(images, self.shape)
        for _ in range(self.passes - 1):
            images = self.decode(self.project(self._encode(images)))
        return self._encode(images)

    def project(self, embeddings: Tensor) -> Tensor:
        """The embeddings to decode, float[b, d], in place of those of images: here, the same."""
        return embeddings

    def decode(self, embeddings: Tensor) -> Tensor:
        """Images, float[b, c, h, w] in 0…1."""
        return self.network.decoder(embeddings).clamp(0, 1)

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
        track: Track = silent,
    ) -> Guarded:
        """Put this before a classifier.

        Parameters
        ----------
        classifier : nn.Module
            From float[b, c, h, w], where 0…1 is black…white, to logits float[b, k].
        clean : array, optional
            Validation images; if given, images are rejected whose reconstruction error is above
            that of all but `false_positive_rate` of these.
        track : callable
            Shows progress, where there is much to do first: with a `NeighborPurifier`.

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
        return self._put_before(classifier, detectors, track)

    def _encode(self, images: Tensor) -> Tensor:
        if self.noise:
            images = (images + self.noise * torch.randn_like(images)).clamp(0, 1)
        embeddings: Tensor = self.network.encoder(images)
        return embeddings

    def _put_before(
        self, classifier: nn.Module, detectors: Sequence[Detector], track: Track
    ) -> Guarded:
        return Guarded(self, classifier, detectors)


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
