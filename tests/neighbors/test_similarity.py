"""Similarities, and their keys and queries for search."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics.pairwise import cosine_similarity, rbf_kernel
from torch import Tensor

from nearfar.errors import NearfarError
from nearfar.neighbors import Cosine, fit_similarity

NAMES = ["cosine", "centered-cosine", "gaussian"]


@pytest.fixture
def bank() -> Tensor:
    return torch.randn(80, 6, generator=torch.Generator().manual_seed(0)) + 1


def test_cosine_agrees_with_scikit_learn(bank):
    expected = torch.from_numpy(cosine_similarity(bank))
    torch.testing.assert_close(fit_similarity("cosine", bank)(bank[:, None], bank[None]), expected)


def test_centered_cosine_is_the_cosine_seen_from_the_mean(bank):
    expected = torch.from_numpy(cosine_similarity(bank - bank.mean(0)))
    found = fit_similarity("centered-cosine", bank)(bank[:, None], bank[None])
    torch.testing.assert_close(found, expected)


def test_gaussian_agrees_with_scikit_learn(bank):
    variance = bank.var(0, correction=0).sum().item()
    expected = torch.from_numpy(rbf_kernel(bank, gamma=0.5 / variance))
    found = fit_similarity("gaussian", bank)(bank[:, None], bank[None])
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", NAMES)
def test_inner_products_of_keys_and_queries_rank_as_the_similarity_does(bank, name):
    similarity = fit_similarity(name, bank)
    measured = similarity(bank[:, None], bank[None])
    products = similarity.queries(bank) @ similarity.keys(bank).T
    torch.testing.assert_close(
        measured.gather(1, products.argsort(1)), measured.sort(1).values, atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("name", NAMES)
def test_distances_between_queries_rank_as_the_similarity_does(bank, name):
    similarity = fit_similarity(name, bank)
    measured = similarity(bank[:, None], bank[None])
    distances = torch.cdist(similarity.queries(bank), similarity.queries(bank))
    torch.testing.assert_close(
        measured.gather(1, distances.argsort(1, descending=True)),
        measured.sort(1).values,
        atol=1e-5,
        rtol=0,
    )


@given(scale=st.floats(1e-3, 1e3), seed=st.integers(0, 2**31))
def test_cosine_does_not_depend_on_the_scale(scale, seed):
    a, b = torch.randn(2, 10, 5, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(Cosine()(a * scale, b), Cosine()(a, b))


def test_cosine_of_a_zero_embedding_is_zero_with_a_finite_gradient():
    embeddings = torch.zeros(3, 4, requires_grad=True)
    similarity = Cosine()(embeddings, torch.ones(3, 4))
    assert torch.equal(similarity, torch.zeros(3))
    similarity.sum().backward()
    assert embeddings.grad.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_a_bank_of_equal_rows_has_finite_similarities(name):
    bank = torch.ones(5, 3)
    assert fit_similarity(name, bank)(bank, bank).isfinite().all()


def test_fit_similarity_refuses_an_unknown_name(bank):
    with pytest.raises(NearfarError, match="similarity 'dot' is unknown"):
        fit_similarity("dot", bank)


def test_fit_similarity_calls_a_callable_with_the_bank(bank):
    similarity = fit_similarity(lambda rows: Cosine(rows[0]), bank)
    assert torch.equal(similarity.center, bank[0])
