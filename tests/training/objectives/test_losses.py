"""Losses: Eq. 1 and 5, and the contrastive loss, as formulas say them."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cosine_similarity, normalize

from nearfar.config import Weights
from nearfar.neighbors import Cosine, fit_similarity
from nearfar.training import contrastive_loss, relational_loss, relational_terms


def embeddings(batch: int = 4, neighbors: int = 3, size: int = 5, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    one = (batch, size)
    many = (batch, neighbors, size)
    return [torch.rand(shape, generator=generator, dtype=dtype) for shape in (one, one, many, many)]


# --- relational ----------------------------------------------------------------------------------


def test_relational_terms_are_those_of_equation_5():
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


def test_mean_reduction_is_the_sum_over_t():
    total = relational_terms(*embeddings(neighbors=3), Cosine(), "sum")
    mean = relational_terms(*embeddings(neighbors=3), Cosine(), "mean")
    torch.testing.assert_close(mean.near * 3, total.near)
    torch.testing.assert_close(mean.far * 3, total.far)
    torch.testing.assert_close(mean.own, total.own)


@pytest.mark.parametrize("name", ["cosine", "centered-cosine", "gaussian"])
def test_relational_gradient_is_that_of_the_loss(name):
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


# --- contrastive ---------------------------------------------------------------------------------


def test_contrastive_loss_is_the_cross_entropy_written_out():
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


def test_contrastive_loss_repels_far_samples_only():
    first, second = torch.randn(2, 4, 3)
    far = torch.zeros(8, 8, dtype=torch.bool)
    assert contrastive_loss(first, second, far).item() == pytest.approx(0, abs=1e-6)
    far[0, 1] = True
    row = normalize(torch.cat([first, second]), dim=1)
    near, other = (row[0] @ row[4] / 0.2), (row[0] @ row[1] / 0.2)
    expected = torch.log1p(torch.exp(other - near)) / 8
    assert contrastive_loss(first, second, far).item() == pytest.approx(expected.item(), rel=1e-4)


def test_contrastive_loss_ignores_the_scale_of_embeddings():
    first, second = torch.randn(2, 6, 4)
    torch.testing.assert_close(
        contrastive_loss(first * 7, second * 0.1), contrastive_loss(first, second)
    )


def test_contrastive_loss_does_not_change_the_far_mask():
    far = torch.ones(8, 8, dtype=torch.bool)
    contrastive_loss(*torch.randn(2, 4, 3), far)
    assert far.all()


def test_contrastive_gradient_is_that_of_the_loss():
    embeddings = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda both: contrastive_loss(*both), embeddings, eps=1e-3, atol=1e-2
    )
