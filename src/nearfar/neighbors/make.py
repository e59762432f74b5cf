"""Construction of finders from a configuration, and their cost."""

from __future__ import annotations

from nearfar.config import NeighborSearch
from nearfar.neighbors.clustered import (
    KMEANS_SAMPLE_NUMBERS,
    KMEANS_SAMPLE_PER_CLUSTER,
    ClusteredFinder,
)
from nearfar.neighbors.exact import ExactFinder
from nearfar.neighbors.finder import Finder
from nearfar.neighbors.kmeans import KMEANS_ITERATIONS


def make_finder(search: NeighborSearch, neighbors: int, seed: int = 0) -> Finder:
    """Return the finder for a configuration.

    Parameters
    ----------
    search : NeighborSearch
        Settings of the search. `search.finder` is the name of a finder, or a callable of your own
        from the number of neighbors to a `Finder`.
    neighbors : int
        T, the number of near rows and of far rows per query, ≥ 1.
    seed : int
        Seed of the initial centers and the far rows, ≥ 0.

    Raises
    ------
    NearfarError
        If a parameter is out of range.

    Examples
    --------
    >>> from nearfar.config import NeighborSearch
    >>> make_finder(NeighborSearch(finder="exact"), neighbors=3).count
    3
    >>> make_finder(NeighborSearch(finder=ExactFinder), neighbors=2).count
    2
    """
    if callable(search.finder):
        finder: Finder = search.finder(neighbors)
        return finder
    if search.finder == "exact":
        return ExactFinder(neighbors)
    return ClusteredFinder(neighbors, search.clusters, search.far_share, seed)


def clustering_cost(n: int, d: int, clusters: int) -> int:
    """Return the number of multiplications to cluster embeddings, float[n, d].

    k-means runs on a sample; then each embedding is assigned to its nearest center.

    Examples
    --------
    >>> clustering_cost(1000, 8, clusters=1)
    0
    """
    sample = min(n, KMEANS_SAMPLE_PER_CLUSTER * clusters, KMEANS_SAMPLE_NUMBERS // d)
    return (KMEANS_ITERATIONS * sample + n) * clusters * d if clusters > 1 else 0


def search_cost(n: int, d: int, clusters: int) -> int:
    """Return the number of multiplications to compare each embedding with its cluster.

    The embeddings, float[n, d], are assumed to be spread evenly over the clusters.

    Examples
    --------
    >>> search_cost(1000, 8, clusters=10)
    800000
    """
    return n * (n // clusters) * d
