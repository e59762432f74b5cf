"""Classifiers defended by purification, neighbor voting, and rejection of suspicious images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn

from nearfar.defense.checks import check_rate
from nearfar.errors import NearfarError
from nearfar.progress import Track, silent

if TYPE_CHECKING:
    from nearfar.defense.neighbor_purifier import NeighborPurifier

#: Class that `DefendedClassifier.predict` returns for a rejected image.
REJECTED = -1

#: Batch size without gradients.
_BATCH_SIZE = 512
#: Constant added to probabilities before taking the logarithm.
_EPSILON = 1e-6


class ThresholdDetector(nn.Module):
    """Detector that rejects images whose score exceeds a threshold.

    Parameters
    ----------
    score : nn.Module
        Differentiable module that takes images (float[b, c, h, w]) and returns scores (float[b]).
        Suspicious images have higher scores.
    threshold : float
        Highest accepted score.

    Examples
    --------
    >>> detector = ThresholdDetector(nn.Flatten(0), threshold=0.5)
    >>> detector(torch.tensor([0.25, 1.0])) > 1
    tensor([False,  True])
    """

    threshold: Tensor

    def __init__(self, score: nn.Module, threshold: float = float("inf")) -> None:
        super().__init__()
        self.score = score
        self.register_buffer("threshold", torch.tensor(threshold))

    def forward(self, images: Tensor) -> Tensor:
        """Return scores divided by the threshold (float[b]). Values above 1 mean rejection."""
        return self.score(images) / self.threshold

    def calibrate(self, clean: Tensor, false_positive_rate: float) -> ThresholdDetector:
        """Set the threshold from the scores of clean images, and return the detector.

        Parameters
        ----------
        clean : float[n, c, h, w]
            Validation images not used in training.
        false_positive_rate : float
            Maximum fraction of clean images to reject, in (0, 1) and at least 1/n.

        Raises
        ------
        NearfarError
            If the rate is out of range, or there are too few images for it.
        """
        scores = apply_in_batches(self.score, clean)
        self.threshold.fill_(rejection_threshold(scores, false_positive_rate))
        return self


def rejection_threshold(scores: Tensor, false_positive_rate: float) -> float:
    """Return the lowest threshold that rejects at most a given fraction of clean images.

    Parameters
    ----------
    scores : float[n]
        Scores of clean images.
    false_positive_rate : float
        Maximum fraction of clean images to reject, in (0, 1) and at least 1/n.

    Raises
    ------
    NearfarError
        If the rate is out of range, there are too few images for it, or a score is not finite.

    Examples
    --------
    >>> rejection_threshold(torch.tensor([1.0, 4.0, 2.0, 3.0]), 0.25)
    3.0
    """
    check_rate(false_positive_rate)
    if not scores.isfinite().all():
        raise NearfarError("the scores of clean images are not all finite: expected numbers")
    if len(scores) * false_positive_rate < 1:
        raise NearfarError(
            f"false_positive_rate={false_positive_rate} with {len(scores)} clean images: "
            f"expected at least {math.ceil(1 / false_positive_rate)} images"
        )
    accepted = len(scores) - int(len(scores) * false_positive_rate)
    return float(scores.sort().values[accepted - 1])


class DefendedClassifier(nn.Module):
    """Classifier of purified images, with optional rejection of suspicious images.

    Parameters
    ----------
    purifier : nn.Module
        Module that takes images (float[b, c, h, w]) and returns images of the same shape. Use
        `nn.Identity` for no purification.
    classifier : nn.Module
        Module that takes images and returns logits (float[b, k]).
    detectors : sequence of ThresholdDetector
        Detectors of suspicious images. An image is rejected if any detector rejects it.

    Examples
    --------
    >>> classifier = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    >>> defended = DefendedClassifier(nn.Identity(), classifier)
    >>> defended.predict(torch.rand(5, 1, 8, 8)).shape
    torch.Size([5])
    """

    def __init__(
        self,
        purifier: nn.Module,
        classifier: nn.Module,
        detectors: Sequence[ThresholdDetector] = (),
    ) -> None:
        super().__init__()
        self.purifier, self.classifier = purifier, classifier
        self.detectors = nn.ModuleList(detectors)

    @property
    def random(self) -> bool:
        """Whether the purifier is randomized."""
        return bool(getattr(self.purifier, "random", False))

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (float[b, k]) of the purified images. Detectors are ignored."""
        return self.classifier(self.purifier(images))

    def without_detectors(self) -> Self:
        """Return the same defended classifier, but without detectors."""
        return type(self)(self.purifier, self.classifier) if self.detectors else self

    def rejection_score(self, images: Tensor) -> Tensor:
        """Return the largest score of all detectors (float[b]). Values above 1 mean rejection."""
        if not self.detectors:
            return images.new_zeros(len(images))
        return torch.stack([detector(images) for detector in self.detectors]).amax(0)

    @torch.no_grad()
    def predict(self, images: Tensor) -> Tensor:
        """Return the class of each image (int64[n], on the CPU), or −1 for rejected images.

        Parameters
        ----------
        images : float[n, c, h, w]
            Images on any device, with values in [0, 1].
        """
        return apply_in_batches(self._predict, images, device_of(self))

    def _predict(self, images: Tensor) -> Tensor:
        return torch.where(self.rejection_score(images) > 1, REJECTED, self(images).argmax(1))


class NeighborVoting(DefendedClassifier):
    """Defended classifier that averages the predictions for the nearest clean images.

    The classifier is not applied to an image itself, but to reconstructions of the clean images
    nearest to it. The predictions for the whole bank of clean images are computed once, so that
    classifying an image only takes one encoding and one search. Predictions are averaged instead of
    embeddings, since the mean of embeddings of two classes may decode to an image of neither class.

    If the predictions for the nearest images agree, the gradient is zero. Gradient attacks would
    then fail, and the defense would seem stronger than it is. Gradients therefore include the
    nearest images of other classes, as in attacks on k-nearest neighbors [1]_.

    Parameters
    ----------
    purifier : NeighborPurifier
        Purifier with the bank and the number of votes.
    classifier, detectors
        See `DefendedClassifier`. They must be on the purifier's device.
    track : Track
        Progress display. See `nearfar.progress.Track`.

    References
    ----------
    .. [1] C. Sitawarin, D. Wagner, "On the Robustness of Deep K-Nearest Neighbors", DLS 2019.

    Examples
    --------
    >>> from nearfar.defense import NeighborPurifier
    >>> from nearfar.models import Autoencoder
    >>> network = Autoencoder(nn.Flatten(), nn.Unflatten(1, (1, 8, 8)))
    >>> purifier = NeighborPurifier(network, (1, 8, 8), torch.rand(20, 64), votes=3)
    >>> voting = NeighborVoting(purifier, nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    >>> voting(torch.rand(5, 1, 8, 8)).shape
    torch.Size([5, 10])
    """

    purifier: NeighborPurifier
    bank_probs: Tensor

    def __init__(
        self,
        purifier: NeighborPurifier,
        classifier: nn.Module,
        detectors: Sequence[ThresholdDetector] = (),
        *,
        track: Track = silent,
    ) -> None:
        super().__init__(purifier, classifier, detectors)
        batches = purifier.bank.split(_BATCH_SIZE)
        with torch.no_grad():
            bank_probs = [
                classifier(purifier.decode(embeddings)).softmax(1)
                for embeddings in track(batches, "classifying the bank", len(batches))
            ]
        self.register_buffer("bank_probs", torch.cat(bank_probs), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logarithms of the mean class probabilities (float[b, k])."""
        rows, weights = self.purifier.nearest(self.purifier.encode(images), self.bank_probs)
        return (torch.einsum("bk,bkc->bc", weights, self.bank_probs[rows]) + _EPSILON).log()


@torch.no_grad()
def apply_in_batches(
    function: Callable[[Tensor], Tensor], images: Tensor, device: torch.device | None = None
) -> Tensor:
    """Apply a function to images in batches, and return the results on the CPU.

    Parameters
    ----------
    function : callable
        Function or module that takes a batch of images and returns a tensor with one row per image.
    images : float[n, ...]
        Images. There must be at least one.
    device : torch.device, optional
        Device of the batches. Default: the device of the module or, for a function, of the images.

    Examples
    --------
    >>> apply_in_batches(lambda batch: batch.mean((1, 2, 3)), torch.ones(3, 1, 8, 8))
    tensor([1., 1., 1.])
    """
    if device is None:
        device = device_of(function) if isinstance(function, nn.Module) else images.device
    return torch.cat([function(batch.to(device)).cpu() for batch in images.split(_BATCH_SIZE)])


def device_of(module: nn.Module) -> torch.device:
    """Return a module's device, or the CPU if the module has no weights and no buffers.

    Examples
    --------
    >>> device_of(nn.Linear(1, 1))
    device(type='cpu')
    """
    tensors: Iterable[Tensor] = (*module.parameters(), *module.buffers())
    return next((tensor.device for tensor in tensors), torch.device("cpu"))
