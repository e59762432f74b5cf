"""Linear autoencoder of principal components, in closed form, as an initial network.

A linear autoencoder converges to principal components. Their pixel error is lower than that of any
network that we trained for hours. Each component and its negative become two embedding units with a
ReLU, so that embeddings are ≥ 0, as in the paper, without losing information.
"""

from __future__ import annotations

import torch
from torch import nn

from nearfar.anomaly.methods.appearance import principal_components
from nearfar.data import Images
from nearfar.models import Autoencoder


def principal_autoencoder(images: Images, noise: float) -> Autoencoder:
    """Return an autoencoder of the fewest principal components that leave out only noise.

    Parameters
    ----------
    images : Images
        Images to encode.
    noise : float
        Variance of the noise of a pixel, see `principal_components`.
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
