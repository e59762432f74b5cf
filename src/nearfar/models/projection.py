"""The head through which embeddings are related, and which is thrown away after training."""

from __future__ import annotations

from torch import nn

PROJECTION_HIDDEN = 256
PROJECTION_SIZE = 64


def projection_head(embedding_size: int) -> nn.Sequential:
    """Build the projection head, from embeddings float[b, d] to projections float[b, 64].

    What the relation does not need, such as the place of a shape in the image, it can leave to the
    embeddings, which the decoder and the user need [1]_.

    References
    ----------
    .. [1] T. Chen et al., "A simple framework for contrastive learning of visual
       representations", ICML 2020.
    """
    return nn.Sequential(
        nn.BatchNorm1d(embedding_size),
        nn.ReLU(),
        nn.Linear(embedding_size, PROJECTION_HIDDEN, bias=False),
        nn.BatchNorm1d(PROJECTION_HIDDEN),
        nn.ReLU(),
        nn.Linear(PROJECTION_HIDDEN, PROJECTION_SIZE),
    )
