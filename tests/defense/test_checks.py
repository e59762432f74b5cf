"""Inputs that are rejected with one line."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nearfar.data import ArrayImages
from nearfar.defense import (
    Classifier,
    DefendedClassifier,
    Purifier,
    assess,
    attack,
    evaluate_defense,
)
from nearfar.defense.robustness import check_better_than_chance
from nearfar.errors import NearfarError

SHAPE = (1, 8, 8)

pytest.importorskip("art", reason="the extra `defense` is not installed")


class OfTwo(nn.Module):
    """The first two classes alone."""

    def __init__(self, classifier):
        super().__init__()
        self.classifier = classifier

    def forward(self, images):
        return self.classifier(images)[:, :2]


class Asserting(nn.Module):
    """A classifier of somebody who trusts in assertions."""

    def forward(self, images):
        assert images.shape[1] == 3
        return images.flatten(1)[:, :10]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda x: x * 255, r"values in 0…25\d"),
        (lambda x: x - 0.5, "values in -0.5"),
        (lambda x: x.masked_fill(x > 0.9, torch.nan), "nan"),
        (lambda x: x.permute(0, 2, 3, 1), r"shape \(5, 8, 8, 1\)"),
        (lambda x: x.expand(-1, 3, -1, -1), r"shape \(5, 3, 8, 8\)"),
        (lambda x: x[0], r"shape \(1, 8, 8\)"),
        (lambda x: x.long(), "int64"),
    ],
)
def test_check_images_raises_for_other_range_or_layout(purifier, clean, change, expected):
    with pytest.raises(NearfarError, match=expected) as refused:
        purifier(change(clean[0][:5]))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (
            lambda p, c, x, y: p.defend(Classifier("target", (1, 28, 28), 10)),
            "does not take images",
        ),
        (lambda p, c, x, y: p.defend(nn.Flatten(0)), "expected logits"),
        (
            lambda p, c, x, y: [*attack("fgsm", "white-box-aware", p.defend(c), x, y, [0])],
            "epsilon=0",
        ),
        (
            lambda p, c, x, y: [*attack("fgsm", "white-box-aware", p.defend(c), x, y, [8])],
            "epsilon=8",
        ),
        (
            lambda p, c, x, y: [*attack("fgsm", "white-box-aware", p.defend(c), x, y, [])],
            "no epsilon",
        ),
        (
            lambda p, c, x, y: [*attack("magic", "white-box-aware", p.defend(c), x, y, [1])],
            "'magic'",
        ),
        (lambda p, c, x, y: [*attack("pgd", "decision-based", p.defend(c), x, y, [1])], "square"),
        (
            lambda p, c, x, y: [
                *attack(
                    "autoattack", "white-box-aware", DefendedClassifier(p, OfTwo(c)), x, y % 2, [1]
                )
            ],
            "on 2 classes",
        ),
        (lambda p, c, x, y: p.defend(Asserting()), "does not take images .*: assert"),
        (lambda p, c, x, y: assess(p.defend(c), ArrayImages(x, y.numpy() - 1)), "of class -1"),
        (lambda p, c, x, y: assess(p.defend(c), ArrayImages(x, y.numpy() * 0)), "all of class 0"),
        (
            lambda p, c, x, y: assess(p.defend(c), ArrayImages(x, y.numpy()), attacks=[]),
            "no attacks",
        ),
        (lambda p, c, x, y: [*attack("fgsm", "transfer", p.defend(c), x, y, [1])], "substitute"),
        (lambda p, c, x, y: [*attack("fgsm", "magic", p.defend(c), x, y, [1])], "'magic'"),
        (lambda p, c, x, y: Purifier(p.network, SHAPE, passes=0), "passes=0"),
        (lambda p, c, x, y: Purifier(p.network, SHAPE, noise_std=-1), "noise_std=-1"),
        (lambda p, c, x, y: p.defend(c, clean=x, false_positive_rate=1.5), "=1.5"),
        (
            lambda p, c, x, y: check_better_than_chance(
                evaluate_defense(DefendedClassifier(nn.Identity(), c), x, (y + 1) % 10), y
            ),
            "most frequent class",
        ),
    ],
)
def test_invalid_input_raises_one_line(purifier, classifier, clean, call, expected):
    pixels, labels = (each[:50] for each in clean)
    with pytest.raises(NearfarError, match=expected) as refused:
        call(purifier, classifier, pixels, labels)
    assert "\n" not in str(refused.value)
