"""Contract of all finders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from nearfar.errors import NearfarError
from nearfar.neighbors import (
    ClusteredFinder,
    DiskBank,
    ExactFinder,
    Finder,
    fit_similarity,
)
from nearfar.neighbors import bank as bank_module
from nearfar.neighbors import clustered_finder as clustered_module
from nearfar.neighbors import exact_finder as exact_module
from nearfar.neighbors import keys as keys_module
from nearfar.neighbors import kmeans as kmeans_module

SIMILARITIES = ["cosine", "centered-cosine", "gaussian"]
FINDERS: dict[str, Callable[[int], Finder]] = {
    "exact": ExactFinder,
    "clustered": lambda count: ClusteredFinder(count, clusters=7),
    "one cluster": lambda count: ClusteredFinder(count, clusters=1),
    "sqrt(n) clusters": ClusteredFinder,
}


@pytest.fixture(params=FINDERS.values(), ids=FINDERS.keys())
def make(request: pytest.FixtureRequest) -> Callable[[int], Finder]:
    return request.param


@pytest.fixture
def bank(digits) -> Tensor:
    images = torch.from_numpy(digits[:600]).flatten(1).float() / 255
    # With some noise, so that no two rows are equally near.
    return images + 0.1 * torch.rand(images.shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("count", [1, 5])
def test_rows_are_distinct_in_range_and_never_the_own_one(make, bank, count, similarity):
    finder = make(count).fit(bank, fit_similarity(similarity, bank))
    query_rows = torch.arange(len(bank))
    for rows in finder.search(bank, query_rows):
        assert rows.shape == (len(bank), count)
        assert rows.dtype == torch.int64
        assert rows.min() >= 0
        assert rows.max() < len(bank)
        assert (rows != query_rows[:, None]).all()
        assert (rows.sort(1).values.diff(dim=1) > 0).all()


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_near_rows_come_most_similar_first_and_are_nearer_than_far_ones(make, bank, similarity):
    measure = fit_similarity(similarity, bank)
    near, far = make(4).fit(bank, measure).search(bank, torch.arange(len(bank)))
    to_near = measure(bank[:, None], bank[near])
    assert (to_near.diff(dim=1) <= 1e-5).all()
    assert to_near.mean() > measure(bank[:, None], bank[far]).mean() + 0.2


def test_a_query_without_an_own_row_may_get_any_row(make, bank):
    finder = make(1).fit(bank, fit_similarity("gaussian", bank))
    near = finder.search(bank[:50], torch.full((50,), -1)).near
    assert torch.equal(bank[near[:, 0]], bank[:50])


def test_an_answer_does_not_depend_on_the_batch(make, bank):
    finder = make(3).fit(bank, fit_similarity("cosine", bank))
    query_rows = torch.randperm(len(bank), generator=torch.Generator().manual_seed(1))
    queries = bank[query_rows] + 0.01
    whole = finder.search(queries, query_rows, draw=4)
    parts = [
        finder.search(queries[i : i + 37], query_rows[i : i + 37], draw=4)
        for i in range(0, 600, 37)
    ]
    assert torch.equal(whole.near, torch.cat([part.near for part in parts]))
    assert torch.equal(whole.far, torch.cat([part.far for part in parts]))


def test_the_same_finder_twice_gives_the_same_answers(make, bank):
    query_rows = torch.arange(len(bank))
    first, second = (
        make(3).fit(bank, fit_similarity("cosine", bank)).search(bank, query_rows, draw=2)
        for _ in range(2)
    )
    assert torch.equal(first.near, second.near)
    assert torch.equal(first.far, second.far)


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_a_bank_on_disk_searched_in_pieces_gives_the_same_answers(
    make, bank, similarity, tmp_path: Path, monkeypatch
):
    query_rows = torch.arange(len(bank))
    bank = bank.half().float()
    measure = fit_similarity(similarity, bank)
    in_memory = make(3).fit(bank, measure).search(bank, query_rows)

    monkeypatch.setattr(bank_module, "SHARD_BYTES", 50 * 2 * bank.shape[1])
    monkeypatch.setattr(bank_module, "CHUNK", 128)
    DiskBank.create(tmp_path / "bank", *bank.shape)
    on_disk = DiskBank(tmp_path / "bank", *bank.shape)
    on_disk[query_rows] = bank
    monkeypatch.setattr(keys_module, "HELD_KEYS_BYTES", 0)
    monkeypatch.setattr(keys_module, "PIECE_NUMBERS", 100 * bank.shape[1])
    monkeypatch.setattr(keys_module, "BLOCK", 30)
    monkeypatch.setattr(exact_module, "CHUNK", 128)
    monkeypatch.setattr(exact_module, "CPU_KEYS", 48)
    monkeypatch.setattr(exact_module, "QUERIES", 50)
    monkeypatch.setattr(exact_module, "CANDIDATES", 1)
    monkeypatch.setattr(clustered_module, "QUERIES", 50)
    piecewise = make(3).fit(on_disk, measure).search(bank, query_rows)
    assert torch.equal(in_memory.near, piecewise.near)
    assert torch.equal(in_memory.far, piecewise.far)


def test_mixed_precision_around_a_search_changes_nothing(make, bank, monkeypatch):
    monkeypatch.setattr(kmeans_module, "find_spec", lambda name: None)
    query_rows = torch.arange(len(bank))
    query_rows[::2] = -1
    measure = fit_similarity("cosine", bank)
    expected = make(3).fit(bank, measure).search(bank, query_rows)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = make(3).fit(bank, measure).search(bank, query_rows)
    assert torch.equal(found.near, expected.near)
    assert torch.equal(found.far, expected.far)


def test_queries_may_need_gradients(make, bank):
    finder = make(1).fit(bank, fit_similarity("gaussian", bank))
    near, far = finder.search(bank[:9].requires_grad_(), torch.arange(9))
    assert not near.requires_grad
    assert not far.requires_grad


@pytest.mark.parametrize("similarity", ["cosine", "centered-cosine"])
def test_zero_embeddings_have_neighbors(make, similarity):
    bank = torch.randn(90, 6, generator=torch.Generator().manual_seed(0)).relu()
    bank[::3] = 0
    finder = make(5).fit(bank, fit_similarity(similarity, bank))
    for rows in finder.search(bank, torch.arange(90)):
        assert (rows.sort(1).values.diff(dim=1) > 0).all()
        assert (rows != torch.arange(90)[:, None]).all()
        assert rows.max() < 90


def test_as_many_neighbors_as_there_are_other_rows(make):
    bank = torch.rand(5, 3, generator=torch.Generator().manual_seed(0))
    finder = ExactFinder(4) if make is ExactFinder else ClusteredFinder(4)
    others = [[j for j in range(5) if j != i] for i in range(5)]
    for rows in finder.fit(bank, fit_similarity("cosine", bank)).search(bank, torch.arange(5)):
        assert rows.sort(1).values.tolist() == others


def test_too_few_neighbors_are_refused(make):
    with pytest.raises(NearfarError, match="neighbors=0 is too few: expected at least 1"):
        make(0)


def test_more_neighbors_than_other_rows_are_refused(make):
    bank = torch.rand(20, 4)
    with pytest.raises(NearfarError, match=r"neighbors=20 .* the data has only 20 images"):
        make(20).fit(bank, fit_similarity("cosine", bank))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_the_answers_of_the_cpu(make, bank):
    query_rows = torch.arange(len(bank))
    expected = make(3).fit(bank, fit_similarity("cosine", bank)).search(bank, query_rows)
    moved = bank.cuda()
    found = make(3).fit(moved, fit_similarity("cosine", moved)).search(moved, query_rows.cuda())
    agreement = (found.near.cpu() == expected.near).float().mean()
    assert found.near.is_cuda
    assert agreement > 0.99
