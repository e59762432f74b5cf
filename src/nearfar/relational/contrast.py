"""Our relation between embeddings: a softmax over near and far samples, as a pure function."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize


def contrastive_loss(
    first: Tensor, second: Tensor, far: Tensor | None = None, temperature: float = 0.2
) -> Tensor:
    """How badly each sample tells its near sample from its far ones, a scalar.

    Row i of `first` and row i of `second` are near to each other. With the cosine 𝕊 of Eq. 4, each
    row r of the 2b takes part with −log of exp(𝕊(r, near)/τ) as a share of its sum with all
    exp(𝕊(r, far)/τ): the normalized temperature-scaled cross entropy of SimCLR [1]_, where only
    samples known to be far repel.

    Parameters
    ----------
    first, second : Tensor
        Embeddings, float[b, d].
    far : Tensor, optional
        Whether two rows are far from each other, bool[2b, 2b], rows of `first` before those of
        `second`; all but the row itself and the near one if not given.
    temperature : float
        τ > 0: the smaller, the more the most similar far samples matter.

    References
    ----------
    .. [1] T. Chen et al., "A simple framework for contrastive learning of visual
       representations", ICML 2020.
    """
    rows = normalize(torch.cat([first, second]).float(), dim=1)
    near = torch.arange(len(rows), device=rows.device).roll(len(first))
    if far is None:
        far = torch.ones(len(rows), len(rows), dtype=torch.bool, device=rows.device)
    allowed = far.clone().fill_diagonal_(False)
    allowed[torch.arange(len(rows), device=rows.device), near] = True
    similarities = (rows @ rows.T / temperature).masked_fill(~allowed, -torch.inf)
    return cross_entropy(similarities, near)
