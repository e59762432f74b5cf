"""MagNet [1]_: an autoencoder that reforms images, and detectors that reject images.

References
----------
.. [1] D. Meng, H. Chen, "MagNet: a Two-Pronged Defense against Adversarial Examples", CCS 2017.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from nearfar.defense.defended import DefendedClassifier, ThresholdDetector
from nearfar.defense.purifier import FALSE_POSITIVE_RATE, ReconstructionScore

#: Standard deviation of the noise that MagNet's autoencoder is trained to remove.
MAGNET_NOISE_STD = 0.1

#: Temperatures of the softmax in the Jensen–Shannon detectors.
_TEMPERATURES = (10.0, 40.0)


class JensenShannonScore(nn.Module):
    """Detector score: how much reconstruction of an image changes a classifier's prediction.

    The score of an image x is the Jensen–Shannon divergence between softmax(f(x)/T) and
    softmax(f(r(x))/T), in nats.

    Parameters
    ----------
    purifier : nn.Module
        Module r that takes images and returns reconstructions.
    classifier : nn.Module
        Classifier f that takes images and returns logits.
    temperature : float
        Temperature T, > 0.

    Examples
    --------
    >>> score = JensenShannonScore(nn.Identity(), nn.Flatten(), 10.0)
    >>> score(torch.rand(3, 2, 1, 1))
    tensor([0., 0., 0.])
    """

    def __init__(self, purifier: nn.Module, classifier: nn.Module, temperature: float) -> None:
        super().__init__()
        self.purifier, self.classifier, self.temperature = purifier, classifier, temperature

    def forward(self, images: Tensor) -> Tensor:
        """Return the score of each image (float[b])."""
        before, after = (
            log_softmax(self.classifier(each) / self.temperature, 1)
            for each in (images, self.purifier(images))
        )
        middle = torch.stack([before, after]).logsumexp(0) - math.log(2)
        divergences = [(log.exp() * (log - middle)).sum(1) for log in (before, after)]
        return torch.stack(divergences).mean(0)


def magnet(
    reformer: nn.Module,
    classifier: nn.Module,
    clean: Tensor,
    *,
    false_positive_rate: float = FALSE_POSITIVE_RATE,
) -> DefendedClassifier:
    """Return a classifier defended by MagNet: a reformer, which reconstructs images, and detectors.

    There are three detectors. For a defense by the reformer alone, use `Purifier.defend`.

    Parameters
    ----------
    reformer : nn.Module
        `Purifier` with an autoencoder trained to remove Gaussian noise with standard deviation 0.1.
    classifier : nn.Module
        Module that takes images (float[b, c, h, w]) with values in [0, 1] and returns logits.
    clean : float[n, c, h, w]
        Validation images for setting the detectors' thresholds.
    false_positive_rate : float
        Maximum fraction of clean images to reject, split equally among the detectors.

    Raises
    ------
    NearfarError
        If the rate is out of range, or there are too few images for it.

    Examples
    --------
    >>> classifier = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    >>> clean = torch.rand(40, 1, 8, 8)
    >>> len(magnet(nn.Identity(), classifier, clean, false_positive_rate=0.3).detectors)
    3
    """
    scores = [
        ReconstructionScore(reformer, power=1),
        *(JensenShannonScore(reformer, classifier, temperature) for temperature in _TEMPERATURES),
    ]
    rate = false_positive_rate / len(scores)
    detectors = [ThresholdDetector(score) for score in scores]
    defended = DefendedClassifier(reformer, classifier, detectors).eval()
    for detector in detectors:
        detector.calibrate(clean, rate)
    return defended
