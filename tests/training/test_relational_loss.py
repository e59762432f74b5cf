"""The objective of the paper, as formulas say it."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nearfar.relational.objective import relational_loss, relational_terms
from torch.nn.functional import cosine_similarity

from nearfar.config.weights import Weights, WeightSchedule, check_weights
from nearfar.errors import NearfarError
from nearfar.neighbors import Cosine, Gaussian, fit_similarity


def embeddings(batch: int = 4, neighbors: int = 3, size: int = 5, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    one = (batch, size)
    many = (batch, neighbors, size)
    return [torch.rand(shape, generator=generator, dtype=dtype) for shape in (one, one, many, many)]


def test_equation_5_term_by_term():
    reconstruction, own, near, far = embeddings()
    terms = relational_terms(reconstruction, own, near, far, Cosine())
    expected_own = (1 - cosine_similarity(reconstruction, own)).mean()
    expected_near = sum(1 - cosine_similarity(reconstruction, near[:, i]) for i in range(3)).mean()
    expected_far = sum(cosine_similarity(reconstruction, far[:, i]) for i in range(3)).mean()
    torch.testing.assert_close(terms.own, expected_own)
    torch.testing.assert_close(terms.near, expected_near)
    torch.testing.assert_close(terms.far, expected_far)
    loss = relational_loss(terms, Weights(0.5, 0.2, 0.3))
    torch.testing.assert_close(loss, 0.5 * expected_own + 0.2 * expected_near + 0.3 * expected_far)


def test_mean_is_the_sum_over_t():
    total = relational_terms(*embeddings(neighbors=3), Cosine(), "sum")
    mean = relational_terms(*embeddings(neighbors=3), Cosine(), "mean")
    torch.testing.assert_close(mean.near * 3, total.near)
    torch.testing.assert_close(mean.far * 3, total.far)
    torch.testing.assert_close(mean.own, total.own)


@pytest.mark.parametrize("name", ["cosine", "centered-cosine", "gaussian"])
def test_gradient_is_that_of_the_loss(name):
    reconstruction, own, near, far = embeddings()
    similarity = fit_similarity(name, own)
    reconstruction.requires_grad_()

    def loss(rows):
        return relational_loss(
            relational_terms(rows, own, near, far, similarity), Weights(0.5, 0.2, 0.3)
        )

    assert torch.autograd.gradcheck(loss, (reconstruction,))


def test_weights_1_0_0_ignore_neighbors():
    reconstruction, own, near, far = embeddings()
    weights = Weights(1, 0, 0)
    plain = relational_loss(relational_terms(reconstruction, own, near, far, Cosine()), weights)
    nothing = torch.full_like(near, torch.nan)
    without = relational_loss(
        relational_terms(reconstruction, own, nothing, nothing, Cosine()), weights
    )
    torch.testing.assert_close(plain, without)


@given(scale=st.floats(1e-3, 1e3), seed=st.integers(0, 100))
def test_cosine_does_not_see_scale(scale, seed):
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.rand(2, 3, 6, generator=generator, dtype=torch.float64) + 0.01
    torch.testing.assert_close(Cosine()(a * scale, b), Cosine()(a, b))


def test_a_zero_code_is_similar_to_nothing_and_has_a_finite_gradient():
    zero = torch.zeros(1, 4, requires_grad=True)
    similarity = Cosine()(zero, torch.ones(1, 4))
    similarity.sum().backward()
    assert similarity.item() == 0
    assert torch.isfinite(zero.grad).all()


def test_gaussian_is_one_for_equal_codes_and_falls_with_distance():
    similarity = Gaussian(torch.tensor(2.0))
    a = torch.zeros(1, 3)
    assert similarity(a, a).item() == 1
    far = torch.tensor([[2.0, 0, 0]])
    assert similarity(a, far).item() == pytest.approx(math.exp(-1))


@pytest.mark.parametrize(
    ("weights", "culprit"),
    [
        ((0.5, 0.5), "expected three"),
        ((-0.1, 0.6, 0.5), "not negative"),
        ((0.5, 0.2, 0.2), "sum to 0.9"),
        ((math.nan, 0.5, 0.5), "not negative"),
    ],
)
def test_weights_that_are_refused(weights, culprit):
    with pytest.raises(NearfarError, match=culprit):
        check_weights(weights)


def test_zero_weights_are_legal():
    assert check_weights((0.6, 0.4, 0)) == Weights(0.6, 0.4, 0)


@pytest.mark.parametrize("shape", ["constant", "linear", "cosine"])
@given(progress=st.floats(0, 1))
def test_scheduled_weights_stay_legal(shape, progress):
    schedule = WeightSchedule(Weights(1, 0, 0), Weights(0.5, 0.2, 0.3), shape)
    check_weights(schedule.at(progress))


def test_schedules_go_from_start_to_end():
    start, end = Weights(1, 0, 0), Weights(0.4, 0.3, 0.3)
    for shape in ("linear", "cosine"):
        schedule = WeightSchedule(start, end, shape)
        assert schedule.at(0) == pytest.approx(start)
        assert schedule.at(1) == pytest.approx(end)
        assert schedule.at(0.5) == pytest.approx((0.7, 0.15, 0.15))
    assert WeightSchedule(start, end, "cosine").at(0.1).own > 0.98
    assert WeightSchedule(start, end, "constant").at(1) == start
