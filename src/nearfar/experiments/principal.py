"""Linear autoencoder from principal components, for use as an initial network.

A linear autoencoder converges to principal components, which have a lower pixel error than any
network that we trained for hours. Each component becomes two ReLU units, with positive and negative
sign. Embeddings are therefore ≥ 0, as in the paper, without loss of information.
"""

from __future__ import annotations

import torch
from torch import nn

from nearfar.anomaly.methods.appearance import principal_components
from nearfar.data import Images
from nearfar.models import Autoencoder


def principal_autoencoder(images: Images, noise: float) -> Autoencoder:
    """Return an autoencoder from the fewest principal components that discard only noise.

    Parameters
    ----------
    images : Images
        Images from which to compute the components.
    noise : float
        Noise variance per pixel, see `principal_components`.
    """
    center, kept, _ = principal_components(images, noise)
    both = torch.cat([kept, -kept])
    encoder, decoder = nn.Linear(len(center), len(both)), nn.Linear(len(both), len(center))
    with torch.no_grad():
        for parameter, value in (
            (encoder.weight, both),
            (encoder.bias, -both @ center),
            (decoder.weight, both.T),
            (decoder.bias, center),
        ):
            parameter.copy_(value)
    return Autoencoder(
        nn.Sequential(nn.Flatten(), encoder, nn.ReLU()),
        nn.Sequential(decoder, nn.Unflatten(1, images.shape)),
    )
