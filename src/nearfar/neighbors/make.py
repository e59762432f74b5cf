"""Construction of finders from a configuration, and estimation of the cost of a search."""

from __future__ import annotations

from nearfar.config import NeighborSearch
from nearfar.neighbors.clustered_finder import (
    KMEANS_SAMPLE_NUMBERS,
    KMEANS_SAMPLE_PER_CLUSTER,
    ClusteredFinder,
)
from nearfar.neighbors.exact_finder import ExactFinder
from nearfar.neighbors.finder import Finder
from nearfar.neighbors.kmeans import KMEANS_ITERATIONS


def make_finder(search: NeighborSearch, neighbors: int, seed: int = 0) -> Finder:
    """Return the finder for a configuration.

    Parameters
    ----------
    search : NeighborSearch
        Settings of the search. `search.finder` is the name of a finder, or a function that takes
        the number of neighbors and returns a `Finder`.
    neighbors : int
        Number of near rows and of far rows per query, T ≥ 1.
    seed : int
        Seed of the initial k-means centers and of the far rows, ≥ 0.

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


def finder_cost(finder: Finder, n: int, d: int, *, fits: int, searches: int) -> int:
    """Return the estimated number of multiplications to search for neighbors of all rows of a bank.

    A `ClusteredFinder` computes k-means on a sample, assigns each embedding to the nearest center,
    and compares each embedding with the others in its cluster. The estimate assumes clusters of
    equal size. Any other finder is assumed to compare each embedding with all others.

    Parameters
    ----------
    finder : Finder
        Finder, which need not be fitted.
    n, d : int
        Number and dimension of the embeddings.
    fits : int
        How often the finder is fitted.
    searches : int
        How often the neighbors of all rows are searched.

    Examples
    --------
    >>> finder_cost(ExactFinder(1), 1000, 8, fits=1, searches=2)
    16000000
    """
    if not isinstance(finder, ClusteredFinder):
        return searches * n * n * d
    clusters = finder.n_clusters(n)
    sample = min(n, KMEANS_SAMPLE_PER_CLUSTER * clusters, KMEANS_SAMPLE_NUMBERS // d)
    fitting = (KMEANS_ITERATIONS * sample + n) * clusters * d if clusters > 1 else 0
    return fits * fitting + searches * n * (n // clusters) * d
