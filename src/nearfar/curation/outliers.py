"""Outliers: images that are far from their nearest neighbors."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import normalize

from nearfar.neighbors import ExactFinder, fit_similarity

#: Number of nearest neighbors of an image to average over.
NEIGHBORS = 5
#: Outlier threshold, in robust standard deviations above the median.
DEVIATIONS = 3.5
#: Minimum number of images among which outliers can be found.
MIN_IMAGES = 30
#: Median distance below which all images count as similar.
_ALIKE = 1e-4
#: Standard deviation of a normal distribution, in median absolute deviations.
_NORMAL = 1.4826


class Outliers(NamedTuple):
    """Distances of images to their nearest neighbors.

    Attributes
    ----------
    distances : float32[n]
        Mean cosine distance of each image to the five nearest images, in [0, 2].
    deviations : float32[n]
        Deviation of the logarithm of the distance from the median, in robust standard deviations.
        Images with deviations of 3.5 or more are outliers.

    Examples
    --------
    >>> Outliers(np.array([0.1, 0.9]), np.array([0.0, 7.0])).rows()
    array([1])
    """

    distances: npt.NDArray[np.float32]
    deviations: npt.NDArray[np.float32]

    def rows(self) -> npt.NDArray[np.int64]:
        """Return the rows of the outliers, the farthest first."""
        rows = np.flatnonzero(self.deviations >= DEVIATIONS)
        return rows[np.argsort(-self.deviations[rows], kind="stable")]


def find_outliers(embeddings: npt.NDArray[np.float32]) -> Outliers | str:
    """Find images that are far from all others.

    If this is impossible, the reason is returned instead.

    Parameters
    ----------
    embeddings : float32[n, d]
        Embeddings of images without duplicates, since duplicates are close to each other.

    Examples
    --------
    >>> points = np.random.default_rng(0).normal([9, 0, 0], 1, (100, 3)).astype(np.float32)
    >>> points[7] = [0, 0, 9]
    >>> find_outliers(points).rows()[:1]
    array([7])
    >>> find_outliers(points[:9])
    'only 9 images: expected at least 30 to find outliers'
    """
    if len(embeddings) < MIN_IMAGES:
        return f"only {len(embeddings)} images: expected at least {MIN_IMAGES} to find outliers"
    distances = _neighbor_distances(embeddings)
    if np.median(distances) < _ALIKE:
        return "most images have the same embedding: outliers cannot be found"
    logs = np.log(distances.clip(_ALIKE))
    spread = _NORMAL * np.median(np.abs(logs - np.median(logs)))
    return Outliers(distances, ((logs - np.median(logs)) / max(spread, _ALIKE)).astype(np.float32))


def _neighbor_distances(embeddings: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the mean cosine distance of each embedding to its five nearest ones (float32[n])."""
    count = min(NEIGHBORS, len(embeddings) - 1)
    points = normalize(torch.from_numpy(embeddings))
    finder = ExactFinder(count).fit(points, fit_similarity("cosine", points))
    near = finder.search(points, torch.arange(len(points))).near
    similarity = torch.stack([(points * points[row]).sum(1) for row in near.unbind(1)])
    return (1 - similarity.mean(0)).clamp(min=0).numpy()
