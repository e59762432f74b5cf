"""Detectors, MagNet and rejection."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from nearfar.defense import (
    REJECTED,
    ReconstructionScore,
    ThresholdDetector,
    evaluate_defense,
    magnet,
    rejection_threshold,
)
from nearfar.errors import NearfarError

SHAPE = (1, 8, 8)


@pytest.mark.parametrize("rate", [0.05, 0.2])
def test_detector_keeps_false_positive_rate_on_other_images(purifier, classifier, clean, rate):
    pixels, labels = clean
    order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(0))
    validation, held_out = order[:400], order[400:]
    defended = purifier.defend(classifier, clean=pixels[validation], false_positive_rate=rate)
    assert evaluate_defense(defended, pixels[validation], labels[validation]).rejected <= rate
    rejected = evaluate_defense(defended, pixels[held_out], labels[held_out]).rejected
    # Both the threshold and the share are estimates: four standard errors.
    assert abs(rejected - rate) < 4 * (rate * (1 - rate) * (1 / 400 + 1 / len(held_out))) ** 0.5


def test_magnet_detectors_together_keep_rate(reformer, classifier, clean):
    pixels, labels = clean
    defended = magnet(reformer, classifier, pixels[:400], false_positive_rate=0.06)
    assert len(defended.detectors) == 3
    assert 0 < evaluate_defense(defended, pixels[:400], labels[:400]).rejected <= 0.06


def test_rejected_noise_counts_as_defended(purifier, classifier, clean):
    pixels, labels = clean
    defended = purifier.defend(classifier, clean=pixels[:400], false_positive_rate=0.01)
    noise = torch.rand(50, *SHAPE, generator=torch.Generator().manual_seed(0))
    assert (defended.predict(noise) == REJECTED).all()
    assert evaluate_defense(defended, noise, labels[:50]).defended == 1


def test_jensen_shannon_score_equals_scipy(reformer, classifier, clean):
    from scipy.spatial.distance import jensenshannon

    from nearfar.defense import JensenShannonScore

    pixels = clean[0][:30]
    with torch.no_grad():
        score = JensenShannonScore(reformer, classifier, 10.0)(pixels)
        p, q = (
            torch.softmax(classifier(each) / 10, 1).numpy() for each in (pixels, reformer(pixels))
        )
    np.testing.assert_allclose(score, jensenshannon(p, q, axis=1) ** 2, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("scale", [1e3, 1e5])
def test_jensen_shannon_score_is_finite_for_certain_classifiers(scale):
    from nearfar.defense import JensenShannonScore

    class Sure(nn.Module):
        def forward(self, images):
            return scale * torch.nn.functional.one_hot(images[:, 0, 0, 0].gt(0).long(), 2).float()

    images = torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1).requires_grad_()

    class Swap(nn.Module):
        def forward(self, images):
            return -images

    score = JensenShannonScore(Swap(), Sure(), 1.0)(images)
    torch.testing.assert_close(score, torch.full((2,), math.log(2)))


def test_rejection_threshold_raises_for_nan():
    with pytest.raises(NearfarError, match="not all finite"):
        rejection_threshold(torch.tensor([1.0, float("nan"), 2.0]), 0.5)


def test_calibrate_raises_for_too_few_images(purifier, clean):
    with pytest.raises(NearfarError, match="at least 1000 images"):
        ThresholdDetector(ReconstructionScore(purifier)).calibrate(clean[0], 0.001)
