"""The neighborhood-relational objective as pure functions on embeddings (Eq. 1 and 5)."""

from __future__ import annotations

from typing import Literal, NamedTuple

from torch import Tensor

from nearfar.config.weights import Weights
from nearfar.neighbors.similarity import Similarity

Reduction = Literal["sum", "mean"]


class Terms(NamedTuple):
    """The three terms of Eq. 5 before weighting, averaged over the batch, scalars."""

    own: Tensor
    near: Tensor
    far: Tensor


def relational_terms(
    reconstruction: Tensor,
    own: Tensor,
    near: Tensor,
    far: Tensor,
    similarity: Similarity,
    reduction: Reduction = "sum",
) -> Terms:
    """Distance to the sample and its near samples, similarity to its far samples (Eq. 5).

    Parameters
    ----------
    reconstruction : Tensor
        Embeddings R_𝒜(X′) of the reconstructions, float[b, d].
    own : Tensor
        Embeddings R_𝒜(X) of the samples, float[b, d].
    near, far : Tensor
        Embeddings of the T near samples X₀ and far samples X_∞ of each, float[b, T, d].
    similarity : Similarity
        𝕊; the distance is 𝔻 = 1 − 𝕊.
    reduction : {"sum", "mean"}
        How the T samples are combined: "sum" as in Eq. 5; "mean" keeps the balance of the weights
        whatever T is. With T = 1 both are Eq. 1.
    """
    combine = Tensor.sum if reduction == "sum" else Tensor.mean
    each = reconstruction.unsqueeze(1)
    return Terms(
        own=(1 - similarity(reconstruction, own)).mean(),
        near=combine(1 - similarity(each, near), dim=1).mean(),
        far=combine(similarity(each, far), dim=1).mean(),
    )


def relational_loss(terms: Terms, weights: Weights) -> Tensor:
    """λ₁·own + λ₂·near + λ₃·far (Eq. 5), a scalar.

    A term of weight zero takes no part, even if it is not finite.
    """
    weighted = [weight * term for weight, term in zip(weights, terms, strict=True) if weight > 0]
    return sum(weighted[1:], start=weighted[0])
