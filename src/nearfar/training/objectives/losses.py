"""Losses on embeddings, as pure functions: Eq. 1 and 5, and the contrastive loss."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from nearfar.config import Weights
from nearfar.neighbors import Similarity

Reduction = Literal["sum", "mean"]


class RelationalTerms(NamedTuple):
    """The three terms of Eq. 5 before weighting, averaged over the batch; scalars.

    Examples
    --------
    >>> terms = RelationalTerms(*torch.tensor([0.1, 0.2, 0.3]))
    >>> terms.far
    tensor(0.3000)
    """

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
) -> RelationalTerms:
    """Distance to the image and its near samples, similarity to its far samples (Eq. 5).

    Parameters
    ----------
    reconstruction : Tensor
        Embeddings R_𝒜(X′) of the reconstructions, float[b, d].
    own : Tensor
        Embeddings R_𝒜(X) of the images, float[b, d].
    near, far : Tensor
        Embeddings of the T near samples X₀ and far samples X_∞ of each, float[b, T, d].
    similarity : Similarity
        𝕊; the distance is 𝔻 = 1 − 𝕊.
    reduction : {"sum", "mean"}
        Sum over the T samples as in Eq. 5, or their mean, which keeps the balance of the weights
        for any T. With T = 1 both are Eq. 1.

    Examples
    --------
    >>> from nearfar.neighbors import Cosine
    >>> x = torch.eye(2)
    >>> terms = relational_terms(x, x, x[:, None], x.flip(0)[:, None], Cosine())
    >>> [round(float(term), 4) for term in terms]
    [0.0, 0.0, 0.0]
    """
    combine = Tensor.sum if reduction == "sum" else Tensor.mean
    each = reconstruction.unsqueeze(1)
    return RelationalTerms(
        own=(1 - similarity(reconstruction, own)).mean(),
        near=combine(1 - similarity(each, near), dim=1).mean(),
        far=combine(similarity(each, far), dim=1).mean(),
    )


def relational_loss(terms: RelationalTerms, weights: Weights) -> Tensor:
    """λ₁·own + λ₂·near + λ₃·far (Eq. 5), a scalar.

    A term of weight zero is ignored, even if it is not finite.

    Examples
    --------
    >>> terms = RelationalTerms(torch.tensor(1.0), torch.tensor(2.0), torch.tensor(float("nan")))
    >>> float(relational_loss(terms, Weights(0.5, 0.5, 0.0)))
    1.5
    """
    weighted = [weight * term for weight, term in zip(weights, terms, strict=True) if weight > 0]
    return sum(weighted[1:], start=weighted[0])


def contrastive_loss(
    first: Tensor, second: Tensor, far: Tensor | None = None, temperature: float = 0.2
) -> Tensor:
    """Normalized temperature-scaled cross entropy (NT-Xent [1]_) with far samples as negatives.

    Row i of `first` and row i of `second` are positives of each other. With the cosine 𝕊 of Eq. 4,
    each of the 2b rows r contributes −log of exp(𝕊(r, near)/τ) over its sum with exp(𝕊(r, far)/τ)
    of all far rows, divided by 2b.

    Parameters
    ----------
    first, second : Tensor
        Embeddings, float[b, d].
    far : Tensor, optional
        Whether two rows are far from each other, bool[2b, 2b], rows of `first` before those of
        `second`. Default: all pairs of other rows.
    temperature : float
        τ > 0. The smaller, the more the most similar far samples matter.

    Returns
    -------
    Tensor
        A scalar.

    References
    ----------
    .. [1] T. Chen et al., "A simple framework for contrastive learning of visual
       representations", ICML 2020.

    Examples
    --------
    >>> x = torch.eye(4)
    >>> bool(contrastive_loss(x, x) < contrastive_loss(x, x.flip(0)))
    True
    """
    rows = normalize(torch.cat([first, second]).float(), dim=1)
    near = torch.arange(len(rows), device=rows.device).roll(len(first))
    if far is None:
        far = torch.ones(len(rows), len(rows), dtype=torch.bool, device=rows.device)
    allowed = far.clone().fill_diagonal_(False)
    allowed[torch.arange(len(rows), device=rows.device), near] = True
    similarities = (rows @ rows.T / temperature).masked_fill(~allowed, -torch.inf)
    return cross_entropy(similarities, near)
