"""The best linear autoencoder of given images, in closed form, as a start for the relations.

A linear autoencoder converges to principal components, and they reach errors that no network here
approached in hours. A component and its negative make two embedding units with a ReLU, so that
embeddings are ≥ 0, as the paper asks, and nothing is lost.
"""

from __future__ import annotations

import torch
from torch import nn

from nearfar.anomaly.methods.appearance import principal_components
from nearfar.data import Images
from nearfar.models import Autoencoder


def principal_autoencoder(images: Images, noise: float) -> Autoencoder:
    """Make an autoencoder of the fewest principal components that leave out nothing but noise.

    Parameters
    ----------
    noise : float
        Variance of a pixel, see `principal_components`.
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
