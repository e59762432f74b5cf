"""Projection head for contrastive training, discarded afterward."""

from __future__ import annotations

from torch import nn

#: Units of the hidden layer.
_HIDDEN = 256
#: Length of a projection.
PROJECTION_SIZE = 64


def projection_head(embedding_size: int) -> nn.Sequential:
    """Build a projection head [1]_ that maps embeddings, float[b, d], to projections, float[b, 64].

    The contrastive loss removes information, such as the position of a shape, from projections.
    Embeddings retain this information for the decoder and other tasks.

    Examples
    --------
    >>> import torch
    >>> projection_head(128)(torch.rand(2, 128)).shape
    torch.Size([2, 64])

    References
    ----------
    .. [1] T. Chen et al., "A simple framework for contrastive learning of visual
       representations", ICML 2020.
    """
    return nn.Sequential(
        nn.BatchNorm1d(embedding_size),
        nn.ReLU(),
        nn.Linear(embedding_size, _HIDDEN, bias=False),
        nn.BatchNorm1d(_HIDDEN),
        nn.ReLU(),
        nn.Linear(_HIDDEN, PROJECTION_SIZE),
    )
