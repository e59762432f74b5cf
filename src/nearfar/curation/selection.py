"""Clusters with a typical image each, and selection of representative images."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import normalize

from nearfar.curation.outliers import neighbor_distances
from nearfar.errors import NearfarError

#: Most images per k-means batch.
_ALL_AT_ONCE = 20_000
#: Most clusters by default.
_MOST_CLUSTERS = 30
#: Smallest distance to neighbors, so that equal images have some weight.
_ALIKE = 1e-6


def cluster(
    embeddings: npt.NDArray[np.float32], clusters: int | None = None, *, seed: int = 0
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Cluster images by k-means of their unit embeddings.

    Parameters
    ----------
    embeddings : float32[n, d]
        Embeddings.
    clusters : int, optional
        Number of clusters. Default: √(n/2), at most 30.

    Returns
    -------
    cluster_of : int64[n]
        Cluster of each image; clusters are numbered largest first.
    typical : int64[K]
        Row of the image nearest to each cluster's center.

    Examples
    --------
    >>> cluster(np.float32([[1, 0], [1, 0.1], [1, 0.2], [0, 1]]), 2)
    (array([0, 0, 0, 1]), array([1, 3]))
    """
    count = clusters or max(1, min(round((len(embeddings) / 2) ** 0.5), _MOST_CLUSTERS))
    return _kmeans(embeddings, count, None, seed)


def _kmeans(
    embeddings: npt.NDArray[np.float32],
    count: int,
    weights: npt.NDArray[np.float32] | None,
    seed: int,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the cluster of each image, and the image nearest to each center; see `cluster`."""
    points = normalize(embeddings)
    kind = KMeans if len(points) <= _ALL_AT_ONCE else MiniBatchKMeans
    with warnings.catch_warnings():  # equal images need fewer clusters
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = kind(min(count, len(points)), n_init=1, random_state=seed)
        model.fit(points, sample_weight=weights)
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
    """Select representative images: the one nearest to each cluster's center.

    The number of k-means clusters is the number of images to select. Images weigh as much as they
    differ from their nearest neighbors, so that rare kinds are selected, too: otherwise, most
    clusters would lie where images are most alike.

    Parameters
    ----------
    embeddings : float32[n, d]
        Embeddings.
    count : int
        Number of images, 1…n.

    Returns
    -------
    int64[count]
        Rows, largest clusters first, so that the first few represent most images.

    Raises
    ------
    NearfarError
        If there are fewer images.

    Examples
    --------
    >>> select(np.float32([[1, 0], [1, 0.1], [1, 0.2], [0, 1]]), 2)
    array([1, 3])
    """
    if not 1 <= count <= len(embeddings):
        raise NearfarError(
            f"select={count} of {len(embeddings)} images: expected 1 to {len(embeddings)}"
        )
    if count == len(embeddings):
        return np.arange(count)
    # Square root: the distance of unit embeddings instead of its square.
    weights = np.sqrt(neighbor_distances(embeddings).clip(_ALIKE))
    return _kmeans(embeddings, count, weights, seed)[1]
