"""Gradient masking, and assessments under all threat models."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from torch import nn

from nearfar.data import ArrayImages
from nearfar.defense import (
    DefendedClassifier,
    Purifier,
    assess,
    evaluate_defense,
    gradient_masking,
    predict_classes,
)
from nearfar.report import write_assessment

SHAPE = (1, 8, 8)

pytest.importorskip("art", reason="the extra `defense` is not installed")


class Staircase(nn.Module):
    """Rounds what it is given: right, but without gradients."""

    def forward(self, images):
        return images.mul(4).round().div(4)


def test_gradient_masking_flags_only_masked_gradients(classifier, purifier, clean):
    pixels, labels = (each[:200] for each in clean)
    masked = DefendedClassifier(Staircase(), classifier)
    assert evaluate_defense(masked, pixels, labels).accuracy > 0.85
    assert gradient_masking(masked, pixels, labels).masked
    for plain in (DefendedClassifier(nn.Identity(), classifier), purifier.defend(classifier)):
        found = gradient_masking(plain, pixels, labels)
        assert not found.masked
        assert found.accuracy <= found.chance < 0.25


def verdict(folder, assessment):
    how = {"run": None, "passes": 1, "noise_std": 0.0, "votes": 0}
    settings = {"classifier": "it", "data": "these", **how}
    return write_assessment(folder, assessment, settings).splitlines()[-1]


def test_assess_checks_masking_only_with_a_hundred_images(classifier, clean, tmp_path):
    images = ArrayImages(clean[0][:300], clean[1][:300].numpy())
    chosen = {"attacks": ["fgsm"], "epsilons": [0.1]}
    plain = DefendedClassifier(nn.Identity(), classifier)
    told = verdict(tmp_path, assess(plain, images, **chosen, count=100))
    assert re.search(r"falls to \d+\.\d%: no sign of masking \(chance here: up to 2\d\.\d%\)", told)
    masked = DefendedClassifier(Staircase(), classifier)
    told = verdict(tmp_path, assess(masked, images, **chosen, count=100))
    assert "gradients are masked" in told
    assert json.loads((tmp_path / "attack.json").read_text())["masking"]["masked"]
    few = assess(masked, images, **chosen, count=99)
    assert "99 images are too few to detect gradient masking" in verdict(tmp_path, few)
    assert json.loads((tmp_path / "attack.json").read_text())["masking"] is None


def test_assess_depends_only_on_seed(trained, classifier, clean):
    images = ArrayImages(clean[0][:200], clean[1][:200].numpy())
    defended = Purifier(trained.network, SHAPE, noise_std=0.3).defend(classifier)
    found = []
    for other in (1, 2):
        torch.manual_seed(other)
        found.append(assess(defended, images, attacks=["fgsm"], epsilons=[0.1], count=50))
    assert found[0] == found[1]


def test_assess_allows_substitute_without_last_class(purifier, classifier, clean):
    pixels, labels = clean
    nine = predict_classes(classifier, pixels) == 9
    chosen = torch.cat([torch.where(~nine)[0][:30], torch.where(nine)[0][:10]])
    places = torch.from_numpy(np.random.default_rng(0).permutation(40)).argsort()
    images = ArrayImages(pixels[chosen][places], labels[chosen][places].numpy())
    found = assess(purifier.defend(classifier), images, attacks=["fgsm"], epsilons=[0.1])
    assert ("transfer", "fgsm") in found.curves
