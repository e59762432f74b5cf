"""Quality of finders."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nearfar.neighbors import (
    ClusteredFinder,
    ExactFinder,
    Neighbors,
    compare_finders,
    fit_similarity,
)


@pytest.fixture
def bank() -> Tensor:
    return torch.randn(400, 8, generator=torch.Generator().manual_seed(0))


class Given:
    """A finder that gives one answer."""

    def __init__(self, neighbors: Neighbors) -> None:
        self.neighbors = neighbors

    def search(self, queries: Tensor, query_rows: Tensor, draw: int = 0) -> Neighbors:
        return self.neighbors


def test_the_exact_finder_finds_everything(bank):
    exact = ExactFinder(3).fit(bank, fit_similarity("cosine", bank))
    quality = compare_finders(exact, exact, bank, torch.arange(400))
    assert quality.recall == 1
    assert quality.far_hubs == quality.exact_far_hubs


def test_recall_is_the_share_of_the_exact_near_rows_in_any_order(bank):
    exact = ExactFinder(4).fit(bank, fit_similarity("cosine", bank))
    query_rows = torch.arange(400)
    near, far = exact.search(bank, query_rows)
    near = near.flip(1)
    near[:, 0] = query_rows  # one of four is wrong
    assert compare_finders(Given(Neighbors(near, far)), exact, bank, query_rows).recall == 0.75


def test_hubs_are_the_hundredth_of_the_rows_that_is_picked_most(bank):
    exact = ExactFinder(1).fit(bank, fit_similarity("cosine", bank))
    query_rows = torch.arange(400)
    near = exact.search(bank, query_rows).near
    even = compare_finders(
        Given(Neighbors(near, query_rows.flip(0)[:, None])), exact, bank, query_rows
    )
    assert even.far_hubs == 0.01
    one = compare_finders(Given(Neighbors(near, torch.zeros_like(near))), exact, bank, query_rows)
    assert one.far_hubs == 1
    few = Given(Neighbors(near[:50], query_rows[:50, None]))
    assert compare_finders(few, exact, bank[:50], query_rows[:50]).far_hubs == 1 / 50
    half = torch.where(query_rows < 200, 7, query_rows)[:, None]
    mixed = compare_finders(Given(Neighbors(near, half)), exact, bank, query_rows)
    assert mixed.far_hubs == (200 + 3) / 400


def test_random_far_rows_have_fewer_hubs_than_the_farthest(digits):
    bank = torch.from_numpy(digits).flatten(1).float()
    similarity = fit_similarity("cosine", bank)
    query_rows = torch.arange(len(bank))
    exact = ExactFinder(1).fit(bank, similarity)
    quality = compare_finders(ClusteredFinder(1).fit(bank, similarity), exact, bank, query_rows)
    assert 0.4 < quality.recall < 1
    assert quality.far_hubs < quality.exact_far_hubs / 2
