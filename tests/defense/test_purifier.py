"""Purifiers: reconstructions, neighbors, gradients."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from nearfar.defense import (
    NeighborPurifier,
    Purifier,
)

SHAPE = (1, 8, 8)


def bank_of(run):
    return torch.from_numpy(run.embeddings)


def test_purify_is_reconstruction(trained, purifier, clean):
    pixels, _ = clean
    with torch.no_grad():
        expected = trained.network.cpu().eval()(pixels).reconstruction
    torch.testing.assert_close(purifier.purify(pixels), expected)
    bytes_ = (pixels * 255).round().byte()
    torch.testing.assert_close(purifier.purify(bytes_), expected, atol=1e-4, rtol=1e-3)
    error = (expected - pixels).square().flatten(1).mean(1)
    torch.testing.assert_close(purifier.reconstruction_error(pixels), error)


def test_passes_repeat_purification(trained, purifier, clean):
    pixels, _ = clean
    twice = Purifier(trained.network, SHAPE, passes=2).purify(pixels)
    torch.testing.assert_close(twice, purifier.purify(purifier.purify(pixels)))


def test_noise_std_makes_purifier_random(trained, purifier, clean):
    pixels, _ = clean
    noisy = Purifier(trained.network, SHAPE, noise_std=0.3)
    assert noisy.random
    assert not purifier.random
    assert not torch.equal(noisy.purify(pixels), noisy.purify(pixels))
    faint = Purifier(trained.network, SHAPE, noise_std=1e-4).purify(pixels)
    torch.testing.assert_close(faint, purifier.purify(pixels), atol=1e-2, rtol=0)


def test_neighbor_purifier_decodes_mean_of_nearest(trained, clean):
    pixels, _ = clean
    projecting = NeighborPurifier(trained.network, SHAPE, bank_of(trained), votes=3)
    network = trained.network.cpu().eval()
    with torch.no_grad():
        embeddings = network.encoder(pixels[:20])
        normal = nn.functional.normalize
        nearest = (normal(embeddings) @ normal(bank_of(trained)).T).topk(3).indices
        expected = network.decoder(bank_of(trained)[nearest].mean(1))
    torch.testing.assert_close(projecting.purify(pixels[:20]), expected)


@pytest.mark.parametrize("options", [{}, {"passes": 2}, {"noise_std": 0.1}, {"votes": 3}])
def test_gradients_pass_through_every_purifier(trained, classifier, clean, options):
    make = Purifier if "votes" not in options else partial(NeighborPurifier, bank=bank_of(trained))
    defended = make(trained.network, SHAPE, **options).defend(classifier)
    pixels = clean[0][:8].clone().requires_grad_()
    cross_entropy(defended(pixels), clean[1][:8]).backward()
    assert float(pixels.grad.abs().amax((1, 2, 3)).min()) > 0


@pytest.mark.parametrize("at_once", [2**24, 1000])
def test_neighbor_purifier_gradient_is_that_of_softmax_mean(trained, clean, at_once, monkeypatch):
    monkeypatch.setattr("nearfar.defense.neighbor_purifier._CHUNK_SIMILARITIES", at_once)
    network = copy.deepcopy(trained.network).cpu().eval()
    pixels = clean[0][:5].clone().requires_grad_()
    purifier = NeighborPurifier(network, SHAPE, bank_of(trained), votes=3)
    (found,) = torch.autograd.grad(purifier(pixels).sum(), pixels)

    embeddings = network.encoder(pixels)
    similarity = nn.functional.normalize(embeddings) @ nn.functional.normalize(bank_of(trained)).T
    nearest, rows = similarity.topk(50)
    near = bank_of(trained)[rows]
    soft = ((nearest / 0.02).softmax(1).unsqueeze(2) * near).sum(1)
    mean = near[:, :3].mean(1)
    (expected,) = torch.autograd.grad(network.decoder(soft + (mean - soft).detach()).sum(), pixels)
    torch.testing.assert_close(found, expected)


def test_neighbor_voting_averages_predictions_on_neighbors(trained, classifier, clean):
    network, pixels = copy.deepcopy(trained.network).cpu().eval(), clean[0][:20]
    purifier = NeighborPurifier(network, SHAPE, bank_of(trained), votes=3)
    defended = purifier.defend(classifier, clean=clean[0], false_positive_rate=0.1)
    normal = nn.functional.normalize
    with torch.no_grad():
        embeddings = network.encoder(pixels)
        nearest = (normal(embeddings) @ normal(bank_of(trained)).T).topk(3).indices
        seen = network.decoder(bank_of(trained)[nearest.flatten()]).clamp(0, 1)
        expected = classifier(seen).softmax(1).unflatten(0, (-1, 3)).mean(1)
    for consensus in (defended, defended.without_detectors()):
        torch.testing.assert_close(consensus(pixels).softmax(1), expected, atol=1e-4, rtol=1e-3)
    assert float(defended.rejection_score(clean[0]).max()) > 1
    assert float(defended.without_detectors().rejection_score(clean[0]).max()) == 0


def test_purifier_copies_network(trained):
    before = [weights.requires_grad for weights in trained.network.parameters()]
    Purifier(trained.network, SHAPE)
    assert [weights.requires_grad for weights in trained.network.parameters()] == before
    assert any(before)
