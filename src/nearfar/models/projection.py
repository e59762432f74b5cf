"""Projection head for contrastive training. It is discarded after training."""

from __future__ import annotations

from torch import nn

#: Units of the hidden layer.
_HIDDEN = 256
#: Length of a projection.
PROJECTION_SIZE = 64


def projection_head(embedding_size: int) -> nn.Sequential:
    """Build a projection head [1]_, which takes embeddings (float[b, d]) and returns float[b, 64].

    The contrastive loss is computed from these projections. The loss removes information from the
    projections, such as the position of a shape. The embeddings retain this information for the
    decoder and for other tasks.

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
