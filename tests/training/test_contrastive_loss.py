"""The softmax relation between embeddings."""

from __future__ import annotations

import pytest
import torch
from nearfar.relational.contrast import contrastive_loss

from nearfar.neighbors import ClusteredFinder, Cosine


def test_it_is_the_cross_entropy_written_out() -> None:
    first, second = torch.randn(2, 5, 7).double()
    rows = torch.cat([first, second])
    rows = rows / rows.norm(dim=1, keepdim=True)
    expected = 0.0
    for i in range(10):
        similar = torch.exp(rows @ rows[i] / 0.3)
        others = [j for j in range(10) if j != i]
        expected -= torch.log(similar[(i + 5) % 10] / similar[others].sum()) / 10
    found = contrastive_loss(first, second, temperature=0.3)
    assert found.item() == pytest.approx(float(expected), rel=1e-5)


def test_only_far_samples_repel() -> None:
    first, second = torch.randn(2, 4, 3)
    far = torch.zeros(8, 8, dtype=torch.bool)
    assert contrastive_loss(first, second, far).item() == pytest.approx(0, abs=1e-6)
    far[0, 1] = True
    row = torch.nn.functional.normalize(torch.cat([first, second]), dim=1)
    near, other = (row[0] @ row[4] / 0.2), (row[0] @ row[1] / 0.2)
    expected = torch.log1p(torch.exp(other - near)) / 8
    assert contrastive_loss(first, second, far).item() == pytest.approx(expected.item(), rel=1e-4)


def test_scale_of_the_codes_does_not_matter() -> None:
    first, second = torch.randn(2, 6, 4)
    torch.testing.assert_close(
        contrastive_loss(first * 7, second * 0.1), contrastive_loss(first, second)
    )


def test_far_mask_is_not_changed() -> None:
    far = torch.ones(8, 8, dtype=torch.bool)
    contrastive_loss(*torch.randn(2, 4, 3), far)
    assert far.all()


def test_gradient() -> None:
    embeddings = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda both: contrastive_loss(*both), embeddings, eps=1e-3, atol=1e-2
    )


def test_rows_that_are_far_are_those_that_could_be_drawn() -> None:
    centers = torch.eye(6).repeat_interleave(30, 0)
    bank = centers + 0.01 * torch.randn(180, 6, generator=torch.Generator().manual_seed(0))
    finder = ClusteredFinder(2, clusters=6, far_share=0.4, seed=0).fit(bank, Cosine())
    rows = torch.arange(180)
    allowed = finder.are_far(rows)
    assert not allowed.diagonal().any()
    drawn = torch.zeros_like(allowed)
    for draw in range(40):
        drawn[rows.unsqueeze(1), finder.search(bank, rows, draw).far] = True
    assert not (drawn & ~allowed).any()
    alone = ClusteredFinder(2, clusters=1, seed=0).fit(bank, Cosine())
    assert alone.are_far(torch.tensor([3, 3, 4])).tolist() == [
        [False, False, True],
        [False, False, True],
        [True, True, False],
    ]
    # Two of the five other clusters, each of which has about 30 rows.
    assert allowed.float().mean().item() == pytest.approx(2 / 6, abs=0.1)
