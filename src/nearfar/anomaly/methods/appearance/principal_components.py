"""Camera noise, and the smallest number of principal components that leave only noise."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nearfar.anomaly.clips import Frame
from nearfar.data import Images, sequential_batches, to_unit
from nearfar.errors import NearfarError

#: Change between two frames, in gray levels, below which it is noise, not motion.
MAX_STILL_CHANGE = 12
#: Variance from rounding to gray levels.
_ROUNDING_VARIANCE = 1 / 12
#: Images per batch.
_BATCH_SIZE = 8192


class Components(NamedTuple):
    """Principal components of images with p pixels.

    Attributes
    ----------
    center : float32[p]
        Mean image.
    kept : float32[k, p]
        Axes of largest variance, the largest first.
    left_out : float32[p - k, p]
        Axes of least variance, the least first.

    Examples
    --------
    >>> from nearfar.data import ArrayImages
    >>> images = ArrayImages(np.random.default_rng(0).integers(0, 256, (99, 1, 4, 4), np.uint8))
    >>> principal_components(images, noise=0.05).center.shape
    torch.Size([16])
    """

    center: Tensor
    kept: Tensor
    left_out: Tensor


def still_noise(clips: Iterable[Iterable[Frame]]) -> float:
    """Estimate the variance of camera noise, for pixel values in [0, 1].

    The estimate is half the mean squared difference between consecutive frames at pixels without
    motion, and at least the variance due to rounding. Large differences count as motion, so the
    estimated standard deviation is at most 4.7 gray levels.

    Parameters
    ----------
    clips : iterable of iterables of Frame
        Clips from a fixed camera.

    Raises
    ------
    NearfarError
        If consecutive frames differ everywhere.

    Examples
    --------
    >>> frames = [Frame(n, np.full((8, 8), 128 + 2 * (n % 2), np.uint8)) for n in range(4)]
    >>> round(still_noise([frames]) * 255**2, 3)
    2.0
    """
    total, count = 0.0, 0
    for clip in clips:
        for before, after in pairwise(clip):
            change = after.pixels.astype(np.int16) - before.pixels
            still = change[np.abs(change) < MAX_STILL_CHANGE]
            total, count = total + float(np.square(still).sum()), count + still.size
    if not count:
        raise NearfarError(
            "consecutive normal frames differ everywhere: expected clips of at least two frames, "
            "from a fixed camera"
        )
    return max(total / count / 2, _ROUNDING_VARIANCE) / 255**2


def principal_components(images: Images, noise: float) -> Components:
    """Return as few principal components as possible, with an error of at most the noise.

    The error is the mean squared error of reconstruction. At least one component is always left
    out.

    Parameters
    ----------
    images : Images
        Images to analyze.
    noise : float
        Variance of pixel noise, for pixel values in [0, 1]; at least 0.

    Returns
    -------
    Components

    Examples
    --------
    >>> from nearfar.data import ArrayImages
    >>> ramp = np.arange(0, 100, dtype=np.uint8)[:, None, None, None].repeat(2, 2).repeat(2, 3)
    >>> center, kept, left_out = principal_components(ArrayImages(ramp), noise=1e-9)
    >>> kept.shape, left_out.shape
    (torch.Size([1, 4]), torch.Size([3, 4]))
    """
    mean, covariance = _moments(images)
    variances, axes = torch.linalg.eigh(covariance)
    left_out = variances.clamp(min=0).cumsum(0) / len(variances)
    count = max(1, int((left_out <= noise).sum()))
    rows = axes.T.float()
    return Components(mean.float(), rows[count:].flip(0), rows[:count].contiguous())


def _moments(images: Images) -> tuple[Tensor, Tensor]:
    """Return the mean (float64[p]) and covariance (float64[p, p]) of the pixels, in one pass."""
    pixels = int(np.prod(images.shape))
    total, products = torch.zeros(pixels).double(), torch.zeros(pixels, pixels).double()
    for rows in sequential_batches(range(len(images)), _BATCH_SIZE):
        batch = to_unit(images.batch(rows)).flatten(1).double()
        total += batch.sum(0)
        products += batch.T @ batch
    mean = total / len(images)
    return mean, products / len(images) - torch.outer(mean, mean)
