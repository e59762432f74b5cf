"""Learning how normal things look: odd is what principal components of normal patches leave out.

As many components are taken as leave out no more than the camera's noise; the squared error of a
patch is then that of the best linear autoencoder [1]_, without any training.

References
----------
.. [1] P. Baldi, K. Hornik, "Neural networks and principal component analysis", Neural Networks
   2(1), 1989.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from math import isqrt
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nearfar.anomaly.clips import Clip, Frame, Pixels
from nearfar.anomaly.patches import Grid, Map, gather_patches
from nearfar.anomaly.scoring import as_map, batches
from nearfar.data import Images, in_order, to_unit
from nearfar.errors import NearfarError
from nearfar.progress import Track, silent

#: Gray levels: where two frames differ by less, nothing has moved.
STILL = 12
#: Variance of a gray level that is rounded.
ROUNDING = 1 / 12
#: The largest middle of a patch, in pixels.
LARGEST = 32
AT_ONCE = 8192


class Components(NamedTuple):
    """Principal axes of images, as rows: those that are kept, and those of the least variance.

    Shapes: center float32[p], kept float32[k, p], left_out float32[p - k, p].
    """

    center: Tensor
    kept: Tensor
    left_out: Tensor


class Appearance:
    """Squared error of the middle of a patch in the latest frame by principal components.

    Parameters
    ----------
    center : float32[p]
        The mean of normal patches.
    left_out : float32[k, p]
        The axes of least variance in normal patches.
    """

    def __init__(self, center: Tensor, left_out: Tensor) -> None:
        self.center, self.left_out = center, left_out
        self.side = isqrt(len(center))

    def __call__(self, window: Pixels, grid: Grid) -> Map:
        """See `nearfar.anomaly.scoring.Scorer`."""
        border = (grid.patch - self.side) // 2
        middle = slice(border, border + self.side)
        errors = [
            ((patches[:, 0, middle, middle].flatten(1) - self.center) @ self.left_out.T)
            .square()
            .sum(1)
            / len(self.center)
            for patches in batches(window[-1:], grid)
        ]
        return as_map(errors, grid)


def fit_appearance(
    clips: Sequence[Clip], grid: Grid, seed: int = 0, *, track: Track = silent
) -> Appearance:
    """Learn how normal clips look where patches of the grid lie.

    The clips are read twice, a frame at a time.

    Raises
    ------
    NearfarError
        If frames are of another size than the grid's; see also `still_noise`.
    """
    border = max(grid.patch // 4, (grid.patch - LARGEST + 1) // 2)
    side = grid.patch - 2 * border
    noise = still_noise(
        _checked(clip, grid) for clip in track(clips, "measuring noise", len(clips))
    )
    patches = gather_patches(
        track(clips, "cutting patches", len(clips)),
        side,
        min(grid.stride, side),
        1,
        name="normal patches",
        seed=seed,
        border=border,
    )
    center, _, left_out = principal_components(patches, noise)
    return Appearance(center, left_out)


def still_noise(clips: Iterable[Iterable[Frame]]) -> float:
    """Variance of the camera's noise on the scale where 0…1 is black…white.

    Half of the mean squared difference of consecutive frames where nothing has moved: at least what
    rounding makes, and at most that of a standard deviation of 4.7 gray levels, as more looks like
    motion.

    Raises
    ------
    NearfarError
        If consecutive frames are nowhere alike.
    """
    total, count = 0.0, 0
    for clip in clips:
        for before, after in pairwise(clip):
            change = after.pixels.astype(np.int16) - before.pixels
            still = change[np.abs(change) < STILL]
            total, count = total + float(np.square(still).sum()), count + still.size
    if not count:
        raise NearfarError(
            "two consecutive normal frames are nowhere alike: expected clips of at least two "
            "frames, of a camera that does not move"
        )
    return max(total / count / 2, ROUNDING) / 255**2


def principal_components(images: Images, noise: float) -> Components:
    """Find the fewest principal components that leave out only noise; they leave out one at least.

    Parameters
    ----------
    noise : float
        Variance of a pixel; the mean squared error on `images` is at most that.
    """
    mean, covariance = _moments(images)
    variances, axes = torch.linalg.eigh(covariance)
    left_out = variances.clamp(min=0).cumsum(0) / len(variances)
    count = max(1, int((left_out <= noise).sum()))
    rows = axes.T.float()
    return Components(mean.float(), rows[count:].flip(0), rows[:count].contiguous())


def _checked(clip: Clip, grid: Grid) -> Iterator[Frame]:
    for frame in clip:
        grid.check(frame.pixels.shape, clip.name)
        yield frame


def _moments(images: Images) -> tuple[Tensor, Tensor]:
    """Mean and covariance of the pixels, float64[p] and float64[p, p], read once."""
    pixels = int(np.prod(images.shape))
    total, products = torch.zeros(pixels).double(), torch.zeros(pixels, pixels).double()
    for rows in in_order(range(len(images)), AT_ONCE):
        batch = to_unit(images.batch(rows)).flatten(1).double()
        total += batch.sum(0)
        products += batch.T @ batch
    mean = total / len(images)
    return mean, products / len(images) - torch.outer(mean, mean)
