"""Loss functions on embeddings: Eq. 1 and 5, and the contrastive loss."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from nearfar.config import Weights
from nearfar.neighbors import Similarity

Reduction = Literal["sum", "mean"]


class RelationalTerms(NamedTuple):
    """Terms of Eq. 5 before weighting, averaged over the batch.

    Attributes
    ----------
    own, near : Tensor
        Distances of the reconstruction to the original image and to the near samples; scalars.
    far : Tensor
        Similarity of the reconstruction to the far samples; a scalar.

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
    """Return the terms of Eq. 5 for a batch of reconstructions.

    Parameters
    ----------
    reconstruction : Tensor
        Embeddings R_𝒜(X′) of the reconstructions (float[b, d]).
    own : Tensor
        Embeddings R_𝒜(X) of the original images (float[b, d]).
    near, far : Tensor
        Embeddings of the T near samples X₀ and of the T far samples X_∞ of each image
        (float[b, T, d]).
    similarity : Similarity
        Similarity 𝕊. The distance is 𝔻 = 1 − 𝕊.
    reduction : {"sum", "mean"}
        Sum over the T samples, as in Eq. 5, or mean over the samples, which keeps the terms
        balanced for any T. For T = 1, both yield Eq. 1.

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
    """Return the loss of Eq. 5: the weighted sum λ₁·own + λ₂·near + λ₃·far, a scalar.

    A term with weight zero is ignored, even if it is NaN or infinite.

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
    """Return the normalized temperature-scaled cross entropy (NT-Xent [1]_) with far negatives.

    Row i of `first` and row i of `second` are positives of each other. The loss of one row r is
    −log(exp(𝕊(r, p)/τ) / (exp(𝕊(r, p)/τ) + Σ exp(𝕊(r, f)/τ))). Here, 𝕊 is the cosine similarity
    (Eq. 4), p is the positive of r, and the sum is over the negatives f of r. The result is the
    mean over all 2b rows.

    Parameters
    ----------
    first, second : Tensor
        Embeddings (float[b, d]).
    far : Tensor, optional
        Mask (bool[2b, 2b]) that is true at [i, j] if row j is a negative of row i. Rows of `first`
        are numbered from 0, rows of `second` from b. Default: all other rows are negatives.
    temperature : float
        Temperature τ, > 0. A lower temperature gives more weight to the most similar negatives.

    Returns
    -------
    Tensor
        Loss, a scalar.

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
