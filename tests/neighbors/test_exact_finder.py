"""The exact finder against a full comparison, faiss and scikit-learn."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors
from torch import Tensor
from torch.nn.functional import normalize

from nearfar.neighbors import ExactFinder, Similarity, fit_similarity


@pytest.fixture(scope="module")
def bank(digits) -> Tensor:
    return torch.from_numpy(digits).flatten(1).float() / 16


def all_similarities(
    bank: Tensor, queries: Tensor, query_rows: Tensor, similarity: Similarity
) -> Tensor:
    """Similarity of each query to each row by the definition, NaN to the own one."""
    table = similarity(queries[:, None], bank[None])
    known = (query_rows >= 0).nonzero().squeeze(1)
    table[known, query_rows[known]] = torch.nan
    return table


@settings(max_examples=150, deadline=None)
@given(
    rows=st.integers(2, 400),
    width=st.integers(1, 8),
    count=st.integers(1, 30),
    name=st.sampled_from(["cosine", "centered-cosine", "gaussian"]),
    repeated=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_finds_the_ends_of_the_whole_ranking(rows, width, count, name, repeated, seed):
    generator = torch.Generator().manual_seed(seed)
    bank = torch.randn(rows, width, generator=generator)
    if repeated:  # many equal rows, and rows of zeros
        bank = bank.round().relu()
    count = min(count, rows - 1)
    query_rows = torch.randint(-1, rows, (9,), generator=generator)
    queries = bank[query_rows] + 0.1 * torch.randn(9, width, generator=generator)
    similarity = fit_similarity(name, bank)

    near, far = ExactFinder(count).fit(bank, similarity).search(queries, query_rows)

    table = all_similarities(bank, queries, query_rows, similarity)
    for found, ranked in (
        (near, table.nan_to_num(-torch.inf).sort(descending=True).values),
        (far, table.nan_to_num(torch.inf).sort().values),
    ):
        torch.testing.assert_close(table.gather(1, found), ranked[:, :count], atol=2e-6, rtol=1e-5)
        assert (found.sort(1).values.diff(dim=1) > 0).all()


@settings(max_examples=30, deadline=None)
@given(scale=st.floats(1e-3, 1e3), seed=st.integers(0, 2**31))
def test_cosine_neighbors_do_not_depend_on_the_scale(scale, seed):
    bank = torch.randn(200, 8, generator=torch.Generator().manual_seed(seed)).relu() + 0.01
    query_rows = torch.arange(200)
    similarity = fit_similarity("cosine", bank)
    once = ExactFinder(3).fit(bank, similarity).search(bank, query_rows)
    scaled = ExactFinder(3).fit(bank * scale, similarity).search(bank, query_rows)
    for a, b in zip(once, scaled, strict=True):
        torch.testing.assert_close(
            similarity(bank[:, None], bank[a]), similarity(bank[:, None], bank[b])
        )


@pytest.mark.parametrize("count", [1, 5, 40])
def test_agrees_with_faiss(bank, count):
    faiss = pytest.importorskip("faiss")
    keys = normalize(bank)
    index = faiss.IndexFlatIP(keys.shape[1])
    index.add(keys.numpy())
    expected, rows = index.search(keys.numpy(), count + 1)
    assert (rows[:, 0] == range(len(bank))).all()  # without the own row, the nearest to itself
    near = ExactFinder(count).fit(bank, fit_similarity("cosine", bank))
    near = near.search(bank, torch.arange(len(bank))).near
    torch.testing.assert_close(
        (keys[:, None] * keys[near]).sum(-1), torch.from_numpy(expected[:, 1:])
    )
    assert (near == torch.from_numpy(rows[:, 1:])).float().mean() > 0.999


def test_agrees_with_scikit_learn(bank):
    search = NearestNeighbors(n_neighbors=3, metric="cosine", algorithm="brute").fit(bank[:1500])
    expected = torch.from_numpy(search.kneighbors(bank[1500:], return_distance=False))
    finder = ExactFinder(3).fit(bank[:1500], fit_similarity("cosine", bank))
    found = finder.search(bank[1500:], torch.full((297,), -1))
    assert torch.equal(found.near, expected)


def test_a_bank_larger_than_a_piece_keeps_the_best_of_all_pieces():
    bank = torch.rand(70_000, 2, generator=torch.Generator().manual_seed(0)) + 0.1
    queries, query_rows = bank[-20:], torch.arange(69_980, 70_000)
    similarity = fit_similarity("gaussian", bank)
    near, far = ExactFinder(2).fit(bank, similarity).search(queries, query_rows)
    distances = torch.cdist(queries.double(), bank.double())
    assert torch.equal(far, distances.topk(2).indices)
    distances[torch.arange(20), query_rows] = torch.inf
    found = distances.gather(1, near)
    torch.testing.assert_close(found, distances.topk(2, largest=False).values, atol=1e-3, rtol=0)
