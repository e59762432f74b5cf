"""`ReferenceBank`: when, where and relative to what near and far samples are searched."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch

from nearfar.data import to_unit
from nearfar.training import Contrastive, train
from nearfar.training.objectives.reference_bank import ReferenceBank
from trainings import changed, quick


@pytest.fixture
def after_start(monkeypatch):
    """Return what a function makes of each bank, and the encoder, at the start of its epochs."""

    def observe(function):
        found = []
        start = ReferenceBank.start_epoch

        def spy(self, epoch, encoder):
            start(self, epoch, encoder)
            found.append(function(self, encoder))

        monkeypatch.setattr(ReferenceBank, "start_epoch", spy)
        return found

    return observe


def test_search_per_epoch_is_search_per_step_while_nothing_moves(images):
    still = quick(finder="exact", lr=1e-12, epochs=2)
    by_step = train(images, changed(still, search_every="step")).log[-1]
    by_epoch = train(images, still).log[-1]
    for term in ("own", "near", "far"):
        assert by_epoch[term] == pytest.approx(by_step[term], rel=1e-3)


@pytest.mark.parametrize("search_every", ["epoch", "step"])
@pytest.mark.parametrize("finder", ["exact", "clustered"])
def test_no_sample_is_its_own_neighbor(images, monkeypatch, finder, search_every):
    found = []
    neighbors = ReferenceBank.neighbors

    def spy(self, rows, embeddings, epoch):
        answer = neighbors(self, rows, embeddings, epoch)
        found.append((rows, answer))
        return answer

    monkeypatch.setattr(ReferenceBank, "neighbors", spy)
    train(images, quick(finder=finder, search_every=search_every))
    assert len(found) == 15
    for rows, (near, far) in found:
        assert (near != rows[:, None]).all()
        assert (far != rows[:, None]).all()


def test_refreshing_the_reference_changes_the_embeddings(images):
    once, each = (train(images, quick(refresh_reference_every=k)).embeddings for k in (0, 1))
    assert not np.array_equal(once, each)


def test_refreshed_bank_holds_the_embeddings_of_the_encoder_as_trained_so_far(images, after_start):
    @torch.no_grad()
    def observed(bank, encoder):
        return bank.bank.clone(), encoder(to_unit(images.batch(range(len(images)))))

    banks = after_start(observed)
    train(images, quick(refresh_reference_every=1))
    assert len(banks) == 3
    for bank, now in banks:
        torch.testing.assert_close(bank, now)
    assert not torch.allclose(banks[0][0], banks[1][0])


@pytest.mark.parametrize("relative_to", ["reconstruction", "image"])
def test_neighbors_are_relative_to_reconstructions_or_images(images, after_start, relative_to):
    """The images do not move from epoch to epoch; their reconstructions do."""
    found = after_start(lambda bank, _: (bank.bank.clone(), bank.neighbors_of_epoch.near))
    run = train(images, quick(relative_to=relative_to, finder="exact"))
    assert len(run.log) == 5
    for bank, near in found:
        similarity = torch.nn.functional.normalize(bank, dim=1)
        similarity = (similarity @ similarity.T).fill_diagonal_(-1)
        is_own = (near.squeeze(1) == similarity.argmax(1)).float().mean()
        assert is_own == 1 or relative_to == "reconstruction"
    assert torch.equal(found[0][1], found[2][1]) == (relative_to == "image")


def test_far_samples_are_drawn_anew_each_epoch(images, after_start):
    found = after_start(lambda bank, _: bank.neighbors_of_epoch)
    train(images, quick(lr=1e-12))
    _, (near, far), (near_again, far_again) = found
    assert (near == near_again).float().mean() > 0.5
    assert (far == far_again).float().mean() < 0.5


@pytest.mark.parametrize(
    "options",
    [
        {"refresh_reference_every": 1},
        {"objective": "contrastive", "refresh_neighbors_every": 1, "batch_norm": True},
    ],
    ids=str,
)
def test_refreshed_bank_does_not_stand_beside_the_old_one(images, monkeypatch, options):
    kept = []
    for kind in (ReferenceBank, Contrastive):

        def spy(self, *arguments, make_bank=kind._make_bank):
            assert all(reference() is None for reference in kept)
            return make_bank(self, *arguments)

        def seen(self, epoch, *encoder, start=kind.start_epoch):
            start(self, epoch, *encoder)
            if self.bank is not None:
                kept.extend(weakref.ref(each) for each in (self.bank, self.finder))

        monkeypatch.setattr(kind, "_make_bank", spy)
        monkeypatch.setattr(kind, "start_epoch", seen)
    train(images, quick(**options))
    assert len(kept) >= 4
