"""The clustered finder: its clusters, near rows and random far rows."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nearfar.errors import NearfarError
from nearfar.neighbors import ClusteredFinder, ExactFinder, fit_similarity, kmeans
from nearfar.neighbors.counter_rng import stratified_draws
from nearfar.neighbors.kmeans import _nearest_by_faiss, _nearest_by_torch


@pytest.fixture(scope="module")
def bank(digits) -> Tensor:
    return torch.from_numpy(digits).flatten(1).float() / 16


def half_circle(rows: int) -> tuple[Tensor, Tensor]:
    """Points on a half circle, float[n, 2], and their angles in degrees, ascending."""
    angles = torch.linspace(0, math.pi, rows)
    return torch.stack([angles.cos(), angles.sin()], dim=1), angles.rad2deg()


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(2, 200),
    count=st.integers(1, 6),
    name=st.sampled_from(["cosine", "centered-cosine", "gaussian"]),
    seed=st.integers(0, 2**31),
)
def test_one_cluster_gives_the_exact_near_rows(rows, count, name, seed):
    bank = torch.randn(rows, 5, generator=torch.Generator().manual_seed(seed))
    count = min(count, rows - 1)
    query_rows = torch.arange(rows)
    query_rows[::2] = -1
    similarity = fit_similarity(name, bank)
    exact = ExactFinder(count).fit(bank, similarity).search(bank, query_rows).near
    near = ClusteredFinder(count, clusters=1).fit(bank, similarity).search(bank, query_rows).near
    torch.testing.assert_close(
        similarity(bank[:, None], bank[near]),
        similarity(bank[:, None], bank[exact]),
        atol=2e-6,
        rtol=1e-5,
    )


def test_near_rows_are_mostly_the_exact_ones_and_far_rows_are_far():
    bank, angles = half_circle(1000)
    similarity = fit_similarity("gaussian", bank)
    query_rows = torch.arange(1000)
    found = ClusteredFinder(2, clusters=10).fit(bank, similarity).search(bank, query_rows)
    assert ((found.near - query_rows[:, None]).abs() <= 4).all()
    assert (angles[found.far[:20]] > 130).all()
    assert (angles[found.far[-20:]] < 50).all()


def test_the_share_of_far_clusters_bounds_where_far_rows_come_from():
    bank, angles = half_circle(1000)
    similarity = fit_similarity("gaussian", bank)
    first = torch.zeros(1, dtype=torch.int64)

    def nearest_far(share: float) -> float:
        finder = ClusteredFinder(50, clusters=10, far_share=share).fit(bank, similarity)
        return angles[finder.search(bank[first], first).far].min().item()

    assert nearest_far(0.1) > 120
    assert 60 < nearest_far(0.5) < 120
    assert nearest_far(1.0) < 45


def test_every_row_of_the_pool_is_drawn_sometimes():
    bank = torch.rand(30, 4, generator=torch.Generator().manual_seed(0))
    finder = ClusteredFinder(1, clusters=1).fit(bank, fit_similarity("cosine", bank))
    query_rows = torch.tensor([7])
    drawn = torch.cat(
        [finder.search(bank[query_rows], query_rows, draw).far for draw in range(600)]
    ).flatten()
    counts = torch.bincount(drawn, minlength=30)
    assert counts[7] == 0
    assert (counts[torch.arange(30) != 7] > 4).all()


def test_far_rows_change_with_the_draw_and_with_the_seed(bank):
    query_rows = torch.arange(len(bank))

    def far(seed: int, draw: int) -> Tensor:
        finder = ClusteredFinder(1, clusters=1, seed=seed)
        return finder.fit(bank, fit_similarity("cosine", bank)).search(bank, query_rows, draw).far

    assert (far(0, 0) == far(0, 1)).float().mean() < 0.01
    assert (far(0, 0) == far(1, 0)).float().mean() < 0.01
    assert torch.equal(far(0, 1), far(0, 1))


def test_the_clusters_change_with_the_seed(bank):
    similarity, query_rows = fit_similarity("cosine", bank), torch.arange(len(bank))
    first, second = (
        ClusteredFinder(1, clusters=60, seed=seed)
        .fit(bank, similarity)
        .search(bank, query_rows)
        .near
        for seed in (0, 1)
    )
    assert not torch.equal(first, second)


def test_far_rows_depend_on_the_own_row_not_on_the_query(bank):
    finder = ClusteredFinder(2, clusters=9).fit(bank, fit_similarity("cosine", bank))
    query_rows = torch.arange(100)
    assert torch.equal(
        finder.search(bank[:100], query_rows).far, finder.search(bank[100:200], query_rows).far
    )


def test_small_clusters_are_dissolved():
    generator = torch.Generator().manual_seed(0)
    crowd, strays = torch.randn(300, 3, generator=generator), torch.eye(3) * 1000
    bank = torch.cat([crowd, strays])
    query_rows = torch.arange(len(bank))
    finder = ClusteredFinder(9, clusters=30).fit(bank, fit_similarity("gaussian", bank))
    near, far = finder.search(bank, query_rows)
    for rows in (near, far):
        assert (rows.sort(1).values.diff(dim=1) > 0).all()
        assert (rows != query_rows[:, None]).all()


def test_a_bank_of_equal_rows_can_be_searched():
    bank = torch.ones(100, 4)
    finder = ClusteredFinder(3, clusters=10).fit(bank, fit_similarity("cosine", bank))
    near, _ = finder.search(bank, torch.arange(100))
    assert (near != torch.arange(100)[:, None]).all()


@pytest.mark.parametrize("clusters", [0, -3])
def test_too_few_clusters_are_refused(clusters):
    with pytest.raises(NearfarError, match=f"clusters={clusters} is too few"):
        ClusteredFinder(1, clusters=clusters)


@pytest.mark.parametrize("share", [0.0, 1.5, float("nan")])
def test_an_impossible_share_is_refused(share):
    with pytest.raises(NearfarError, match="far_share="):
        ClusteredFinder(1, far_share=share)


def test_more_clusters_than_the_rows_can_fill_are_refused(bank):
    similarity = fit_similarity("cosine", bank)
    ClusteredFinder(3, clusters=25).fit(bank[:100], similarity)
    with pytest.raises(NearfarError, match=r"clusters=26 .* 100 images make at most 25 clusters"):
        ClusteredFinder(3, clusters=26).fit(bank[:100], similarity)


def test_kmeans_settles_where_every_center_is_the_mean_of_its_points(bank):
    centers = kmeans.kmeans(bank, 12, torch.Generator().manual_seed(0))
    labels = torch.cdist(bank, centers).argmin(1)
    for number, center in enumerate(centers):
        torch.testing.assert_close(bank[labels == number].mean(0), center, atol=0.05, rtol=0.05)


def test_kmeans_leaves_no_cluster_empty():
    points = torch.cat([torch.zeros(500, 2), torch.eye(2), torch.ones(1, 2)])
    centers = kmeans.kmeans(points, 4, torch.Generator().manual_seed(0))
    assert len(centers.unique(dim=0)) == 4


def test_faiss_and_torch_give_the_same_clusters(bank, monkeypatch):
    pytest.importorskip("faiss")
    centers = bank[torch.randperm(len(bank), generator=torch.Generator().manual_seed(0))[:40]]
    assert torch.equal(_nearest_by_faiss(bank, centers), _nearest_by_torch(bank, centers))

    similarity, query_rows = fit_similarity("cosine", bank), torch.arange(len(bank))
    with_faiss = ClusteredFinder(4).fit(bank, similarity).search(bank, query_rows)
    monkeypatch.setattr(kmeans, "find_spec", lambda name: None)
    monkeypatch.setattr(kmeans, "_nearest_by_faiss", None)
    without = ClusteredFinder(4).fit(bank, similarity).search(bank, query_rows)
    assert torch.equal(with_faiss.near, without.near)
    assert torch.equal(with_faiss.far, without.far)


@given(
    totals=st.lists(st.integers(7, 10**12), min_size=1, max_size=20),
    seed=st.integers(0, 2**31),
    draw=st.integers(0, 2**31),
)
def test_draws_are_distinct_and_one_from_each_part(totals, seed, draw):
    totals = torch.tensor(totals)
    counters = torch.arange(len(totals)) * 10**9
    draws = stratified_draws(counters, totals, 7, seed=seed, draw=draw)
    steps = torch.arange(8)
    bounds = totals[:, None] * steps // 7
    assert (draws >= bounds[:, :-1]).all()
    assert (draws < bounds[:, 1:]).all()
    alone = stratified_draws(counters[-1:], totals[-1:], 7, seed=seed, draw=draw)
    assert torch.equal(alone, draws[-1:])


def test_draws_are_even_and_unrelated():
    counters = torch.arange(100_000)
    first, second = (
        stratified_draws(counters, torch.full((100_000,), 100), 2, seed=0, draw=draw).T
        for draw in (0, 1)
    )
    for part, start in zip(first, (0, 50), strict=True):
        spread = torch.bincount(part - start, minlength=50)
        assert (spread - 2000).abs().max() < 5 * 2000**0.5
    columns = torch.cat([first, second, first.roll(1, 1), second.roll(1, 1)])
    assert torch.corrcoef(columns.double()).fill_diagonal_(0).abs().max() < 0.02


def test_splitmix64_is_the_published_generator():
    from nearfar.neighbors.counter_rng import _splitmix64

    # The first outputs for seed 1234567, as in the test vectors of several implementations.
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    got = _splitmix64(torch.tensor([1, 2, 3]), 1234567).tolist()
    assert got == [number % 2**63 for number in expected]
