"""MagNet [1]_: an autoencoder that reforms images, and detectors that reject them.

References
----------
.. [1] D. Meng, H. Chen, "MagNet: a Two-Pronged Defense against Adversarial Examples", CCS 2017.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from nearfar.defense.guard import Detector, Guarded
from nearfar.defense.purifier import FALSE_POSITIVE_RATE, ReconstructionError

#: Standard deviation of the noise that its autoencoder learns to undo.
NOISE = 0.1
#: Temperatures of the softmax in the Jensen–Shannon detectors.
TEMPERATURES = (10.0, 40.0)


class JensenShannon(nn.Module):
    """How much reconstruction changes what the classifier says.

    The Jensen–Shannon divergence of softmax(f(x)/T) and softmax(f(x′)/T), in nats.

    Parameters
    ----------
    purifier, classifier : nn.Module
        x′ and f.
    temperature : float
        T, above 0.
    """

    def __init__(self, purifier: nn.Module, classifier: nn.Module, temperature: float) -> None:
        super().__init__()
        self.purifier, self.classifier, self.temperature = purifier, classifier, temperature

    def forward(self, images: Tensor) -> Tensor:
        """Return the divergence of each image, float[b]."""
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
) -> Guarded:
    """Guard a classifier by the whole of MagNet; its reformer alone is `Purifier.guard`.

    Parameters
    ----------
    reformer : nn.Module
        A `Purifier` whose autoencoder was trained to undo Gaussian noise of standard deviation 0.1.
    classifier : nn.Module
        From float[b, c, h, w], where 0…1 is black…white, to logits.
    clean : float[n, c, h, w]
        Validation images for the thresholds of the detectors.
    false_positive_rate : float
        The share of clean images that all detectors together may reject: each gets an equal part.
    """
    scores = [
        ReconstructionError(reformer, power=1),
        *(JensenShannon(reformer, classifier, temperature) for temperature in TEMPERATURES),
    ]
    rate = false_positive_rate / len(scores)
    detectors = [Detector(score) for score in scores]
    guarded = Guarded(reformer, classifier, detectors).eval()
    for detector in detectors:
        detector.calibrate(clean, rate)
    return guarded
