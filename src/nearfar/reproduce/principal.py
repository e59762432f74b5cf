"""The best linear autoencoder of given images, in closed form, for the relations to begin from.

Principal components [1]_ are what a linear autoencoder converges to, and reach errors that no
network here came near to in hours. A component and its negative make two code units with a ReLU,
so that codes are ≥ 0, as the paper asks, and nothing is lost.

References
----------
.. [1] P. Baldi, K. Hornik, "Neural networks and principal component analysis", Neural Networks
   2(1), 1989.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from nearfar.anomaly.clips import Clip
from nearfar.data import Images, in_order, to_unit
from nearfar.errors import NearfarError
from nearfar.models import Autoencoder

#: Gray levels: where two frames differ by less, nothing has moved.
STILL = 12
AT_ONCE = 8192


def still_noise(clips: Iterable[Clip]) -> float:
    """Variance of the camera's noise on the scale where 0…1 is black…white.

    Half of the mean squared difference of consecutive frames where nothing has moved.
    """
    total, count = 0.0, 0
    for clip in clips:
        for before, after in pairwise(clip):
            change = after.pixels.astype(np.int64) - before.pixels
            still = change[np.abs(change) < STILL]
            total, count = total + float(np.square(still).sum()), count + still.size
    if not count:
        raise NearfarError("no two normal frames are alike anywhere: cannot tell noise")
    return total / count / 2 / 255**2


def principal_autoencoder(images: Images, noise: float) -> Autoencoder:
    """Make an autoencoder of the fewest principal components that leave out only noise.

    Parameters
    ----------
    noise : float
        Variance of a pixel; the mean squared error on `images` is at most that.
    """
    mean, covariance = _moments(images)
    variances, axes = torch.linalg.eigh(covariance)
    left_out = variances.clamp(min=0).cumsum(0) / len(variances)
    kept = axes[:, int((left_out <= noise).sum()) :].T.flip(0).float()
    both, center = torch.cat([kept, -kept]), mean.float()
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


def _moments(images: Images) -> tuple[Tensor, Tensor]:
    """Mean and covariance of the pixels, float64[p] and float64[p, p], read once."""
    pixels = int(np.prod(images.shape))
    total, products = torch.zeros(pixels).double(), torch.zeros(pixels, pixels).double()
    for rows in in_order(range(len(images)), AT_ONCE):
        batch = to_unit(images.__getitems__(rows)).flatten(1).double()
        total += batch.sum(0)
        products += batch.T @ batch
    mean = total / len(images)
    return mean, products / len(images) - torch.outer(mean, mean)
