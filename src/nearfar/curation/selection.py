"""Clustering of images, and selection of representative images."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import normalize

from nearfar.errors import NearfarError

#: Maximum number of images for k-means without batches.
_ALL_AT_ONCE = 20_000
#: Maximum number of images for facility location, unless more are to be selected.
_REPRESENTED = 10_000
#: Maximum default number of clusters.
_MOST_CLUSTERS = 30
#: Images whose gains are computed together in facility location.
_TRIED = 32


def cluster(
    embeddings: npt.NDArray[np.float32], clusters: int | None = None, *, seed: int = 0
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Cluster images by k-means on their normalized embeddings.

    Parameters
    ----------
    embeddings : float32[n, d]
        Embeddings.
    clusters : int, optional
        Number of clusters. Default: √(n/2), at most 30.

    Returns
    -------
    cluster_of : int64[n]
        Cluster of each image. Clusters are numbered by decreasing size.
    typical : int64[K]
        Row of the image nearest to the center of each cluster.

    Examples
    --------
    >>> cluster(np.float32([[1, 0], [1, 0.1], [1, 0.2], [0, 1]]), 2)
    (array([0, 0, 0, 1]), array([1, 3]))
    """
    count = clusters or max(1, min(round((len(embeddings) / 2) ** 0.5), _MOST_CLUSTERS))
    points = normalize(embeddings)
    kind = KMeans if len(points) <= _ALL_AT_ONCE else MiniBatchKMeans
    with warnings.catch_warnings():  # equal images need fewer clusters
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = kind(min(count, len(points)), n_init=1, random_state=seed)
        model.fit(points)
    order = np.argsort(-np.bincount(model.labels_), kind="stable")
    distances = np.linalg.norm(points - model.cluster_centers_[model.labels_], axis=1)
    typical = [
        rows[distances[rows].argmin()]
        for each in order
        if len(rows := np.flatnonzero(model.labels_ == each))
    ]
    return order.argsort()[model.labels_].astype(np.int64), np.array(typical, np.int64)


def select(
    embeddings: npt.NDArray[np.float32], count: int, *, seed: int = 0
) -> npt.NDArray[np.int64]:
    """Select representative images such that every image is similar to a selected one.

    Images are selected by greedy facility location [1]_: each step selects the image that most
    increases the objective. The objective is the cosine similarity of an image to the most similar
    selected image, averaged over all images. If there are more than 10,000 images, a random subset
    of 10,000 is used.

    Parameters
    ----------
    embeddings : float32[n, d]
        Embeddings.
    count : int
        Number of images to select, 1 to n.

    Returns
    -------
    int64[count]
        Row numbers in the order of selection. The first k rows are the selection for a count of k.

    Raises
    ------
    NearfarError
        If `count` is below 1 or above n.

    References
    ----------
    .. [1] K. Wei, R. Iyer, J. Bilmes, "Submodularity in Data Subset Selection and Active Learning",
       ICML 2015.

    Examples
    --------
    >>> select(np.float32([[1, 0], [1, 0.1], [1, 0.2], [0, 1]]), 2)
    array([2, 3])
    """
    if not 1 <= count <= len(embeddings):
        raise NearfarError(
            f"select={count} of {len(embeddings)} images: expected 1 to {len(embeddings)}"
        )
    if count == len(embeddings):
        return np.arange(count)
    rows = np.arange(len(embeddings))
    if len(rows) > (limit := max(_REPRESENTED, count)):
        rows = np.sort(np.random.default_rng(seed).choice(rows, limit, replace=False))
    return rows[_represent(normalize(embeddings[rows]), count)]


def _represent(points: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.int64]:
    """Return the rows that greedy facility location selects from unit vectors, in order."""
    covered = np.full(len(points), -1, np.float32)  # similarity to the nearest selected image
    gains = len(points) + (points @ points.sum(0)).astype(np.float64)
    selected = []
    for _ in range(count):
        # Gains only shrink, so old gains are upper bounds, and few have to be recomputed.
        outdated = np.ones(len(points), bool)
        while outdated[best := int(gains.argmax())]:
            bounds = np.where(outdated, gains, -np.inf)
            tried = np.argpartition(-bounds, min(_TRIED, len(bounds) - 1))[:_TRIED]
            gained = np.maximum(points[tried] @ points.T - covered, 0).sum(1)
            gains[tried] = np.where(np.isfinite(gains[tried]), gained, -np.inf)
            outdated[tried] = False
        selected.append(best)
        covered = np.maximum(covered, points @ points[best])
        gains[best] = -np.inf
    return np.array(selected, np.int64)
