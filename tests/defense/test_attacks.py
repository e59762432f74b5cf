"""Attacks and the threat models they run under."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy

from nearfar.defense import (
    REJECTED,
    THREATS,
    DefendedClassifier,
    NeighborPurifier,
    Purifier,
    attack,
    evaluate_defense,
    magnet,
    security_curve,
)
from nearfar.defense.attacks import ATTACKS
from nearfar.defense.threats import ExpectedOutput, WithRejectionClass
from nearfar.models import Autoencoder

SHAPE = (1, 8, 8)

pytest.importorskip("art", reason="the extra `defense` is not installed")


def test_fgsm_is_sign_of_gradient(classifier, purifier, clean):
    pixels, labels = clean[0][:64], clean[1][:64]
    defended = purifier.defend(classifier)
    for threat, seen in (("white-box-unaware", classifier), ("white-box-aware", defended)):
        variable = pixels.clone().requires_grad_()
        cross_entropy(seen(variable), labels).backward()
        expected = (pixels + 0.1 * variable.grad.sign()).clamp(0, 1)
        (found,) = attack("fgsm", threat, defended, pixels, labels, [0.1])
        # A gradient of nearly zero may have either sign.
        same = (found - expected).abs() < 1e-5
        assert float(same[variable.grad.abs() > 1e-7].double().mean()) > 0.999


@pytest.mark.parametrize("name", sorted(ATTACKS.keys() - {"autoattack"}))
@settings(
    max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(epsilon=st.floats(0.004, 1.0), first=st.integers(0, 700), seed=st.integers(0, 100))
def test_attack_stays_within_epsilon_and_range(
    classifier, purifier, clean, name, epsilon, first, seed
):
    pixels, labels = (each[first : first + 3] for each in clean)
    labels = labels.clone()
    labels[0] = (labels[1] + 1) % 10  # not all of one class
    threat = "decision-based" if name in ("square", "hop-skip-jump") else "white-box-aware"
    defended = purifier.defend(classifier)
    (found,) = attack(name, threat, defended, pixels, labels, [epsilon], seed=seed)
    assert found.shape == pixels.shape
    assert found.dtype == torch.float32
    assert float((found - pixels).abs().max()) <= epsilon + 1e-6
    assert 0 <= float(found.min()) <= float(found.max()) <= 1


@pytest.mark.slow
def test_autoattack_is_at_least_as_strong_as_fgsm(classifier, purifier, clean):
    pixels, labels = (each[:4] for each in clean)
    defended = purifier.defend(classifier)
    harm = {}
    for name in ("fgsm", "autoattack"):
        (found,) = attack(name, "white-box-aware", defended, pixels, labels, [0.1])
        assert float((found - pixels).abs().max()) <= 0.1 + 1e-6
        harm[name] = evaluate_defense(defended, found, labels).accuracy
    assert harm["autoattack"] <= harm["fgsm"]


@pytest.mark.parametrize("name", ["pgd", "hop-skip-jump"])
def test_attack_depends_only_on_seed(classifier, purifier, clean, name):
    pixels, labels = (each[:6] for each in clean)
    threat = "decision-based" if name == "hop-skip-jump" else "white-box-aware"
    defended = purifier.defend(classifier)
    found = []
    for seed in (0, 0, 1):
        np.random.seed(len(found))
        before = np.random.get_state()[1].copy()
        (made,) = attack(name, threat, defended, pixels, labels, [0.2], seed=seed)
        assert (np.random.get_state()[1] == before).all()
        found.append(made)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_hop_skip_jump_ends_despite_rounding():
    # In float32, 1/255 + (3/255 − 1/255) is less than 3/255.
    clean, other = (torch.full((1, 1, 2, 2), value / 255) for value in (1, 3))
    asked = 0

    class OnlyThatImage(nn.Module):
        def forward(self, images):
            nonlocal asked
            asked += len(images)
            assert asked < 100_000, "the attack does not end"
            is_other = (images == other).flatten(1).all(1).float()
            return torch.stack([1 - is_other, is_other], 1)

    defended = DefendedClassifier(nn.Identity(), OnlyThatImage())
    images, labels = torch.cat([clean, other]), torch.tensor([0, 1])
    (found,) = attack("hop-skip-jump", "decision-based", defended, images, labels, [1.0])
    assert torch.equal(found[0], other[0])


def test_hop_skip_jump_keeps_misclassified_images(classifier, clean):
    pixels, labels = (each[:12] for each in clean)
    defended = DefendedClassifier(nn.Identity(), classifier)
    labels = labels.clone()
    labels[::3] = (defended.predict(pixels[::3]) + 1) % 10
    (found,) = attack("hop-skip-jump", "decision-based", defended, pixels, labels, [1.0])
    same = (found == pixels).flatten(1).all(1)
    assert same[::3].all(), "an attack sets nothing right"
    assert not same[1::3].any()


def test_attack_with_more_access_does_more_harm(classifier, substitute, purifier, clean):
    pixels, labels = (each[:200] for each in clean)
    defended = purifier.defend(classifier)
    harm = {
        threat: security_curve(
            "pgd", threat, defended, pixels, labels, [0.2], substitute=substitute
        )[0].accuracy
        for threat in ("transfer", "white-box-aware")
    }
    assert (
        harm["white-box-aware"]
        < harm["transfer"]
        < evaluate_defense(defended, pixels, labels).accuracy
    )
    unguarded = DefendedClassifier(nn.Identity(), classifier)
    unaware, aware = (
        security_curve("pgd", threat, unguarded, pixels, labels, [0.2])
        for threat in ("white-box-unaware", "white-box-aware")
    )
    assert unaware == aware


def test_aware_attack_evades_detectors(reformer, classifier, clean):
    pixels, labels = clean
    defended = magnet(reformer, classifier, pixels[:400], false_positive_rate=0.06)
    some, truth = pixels[400:460], labels[400:460]
    blind = security_curve("pgd", "white-box-unaware", defended, some, truth, [0.3])[0]
    evading = security_curve("pgd", "white-box-aware", defended, some, truth, [0.3])[0]
    assert evading.defended < blind.defended


def test_rejection_class_agrees_with_predict(reformer, classifier, clean):
    pixels, _ = clean
    defended = magnet(reformer, classifier, pixels[:400], false_positive_rate=0.3)
    with torch.no_grad():
        found = WithRejectionClass(defended)(pixels).argmax(1)
    predicted = defended.predict(pixels)
    assert (predicted == REJECTED).any()
    assert torch.equal(torch.where(found == 10, REJECTED, found), predicted)


def test_attack_succeeds_where_all_neighbors_agree():
    """Bright left and bright right halves, many of each: 50 nearest are always of one kind."""
    halves = torch.zeros(2, *SHAPE)
    halves[0, ..., :4], halves[1, ..., 4:] = 0.9, 0.9
    noise = torch.rand(2, 100, 64, generator=torch.Generator().manual_seed(0)) / 10
    bank = (halves.flatten(1).unsqueeze(1) + noise).flatten(0, 1)
    sides = nn.Sequential(nn.Flatten(), nn.Linear(64, 2, bias=False))
    with torch.no_grad():
        sides[1].weight.copy_(1000 * halves.flatten(1))
    network = Autoencoder(nn.Flatten(), nn.Unflatten(1, SHAPE))
    defended = NeighborPurifier(network, SHAPE, bank).defend(sides)
    labels = torch.tensor([0, 1])
    assert evaluate_defense(defended, halves, labels).accuracy == 1
    curve = security_curve("pgd", "white-box-aware", defended, halves, labels, [0.1, 0.6])
    assert [outcome.accuracy for outcome in curve] == [1, 0]


def test_expected_output_is_mean_probability(trained, classifier, clean):
    pixels = clean[0][:5]
    defended = Purifier(trained.network, SHAPE, noise_std=0.3).defend(classifier)
    with torch.no_grad():
        many = torch.stack([defended(pixels).softmax(1) for _ in range(400)]).mean(0)
        averaged = ExpectedOutput(defended, 400)(pixels).softmax(1)
        exact = ExpectedOutput(classifier, 3)(pixels).softmax(1)
        expected = classifier(pixels).softmax(1)
    torch.testing.assert_close(averaged, many, atol=0.1, rtol=0)
    torch.testing.assert_close(exact, expected)


def test_threats_lists_all_threat_models():
    assert list(THREATS) == ["transfer", "white-box-unaware", "white-box-aware", "decision-based"]
