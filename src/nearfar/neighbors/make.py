"""From settings to a finder."""

from __future__ import annotations

from collections.abc import Callable

from nearfar.config import FinderName
from nearfar.neighbors.clustered import SAMPLE_NUMBERS, SAMPLE_PER_CLUSTER, ClusteredFinder
from nearfar.neighbors.exact import ExactFinder
from nearfar.neighbors.finder import Finder
from nearfar.neighbors.kmeans import ITERATIONS


def make_finder(
    finder: FinderName | Callable[[int], Finder],
    count: int,
    *,
    clusters: int | None = None,
    far_share: float = 0.1,
    seed: int = 0,
) -> Finder:
    """Make a finder by name, or your own.

    Parameters
    ----------
    finder : {"clustered", "exact"} or callable
        Your own is called with the number of neighbors.
    count : int
        T, the number of near and of far rows.
    clusters, far_share, seed
        Of the clustered finder, see `ClusteredFinder`.

    Examples
    --------
    >>> make_finder("exact", 3).count
    3
    """
    if callable(finder):
        return finder(count)
    if finder == "exact":
        return ExactFinder(count)
    return ClusteredFinder(count, clusters, far_share, seed=seed)


def clustering_cost(n: int, d: int, clusters: int) -> int:
    """Multiplications of k-means on a sample of n×d rows, and of assigning all rows.

    Examples
    --------
    >>> clustering_cost(1000, 8, clusters=1)
    0
    """
    sample = min(n, SAMPLE_PER_CLUSTER * clusters, SAMPLE_NUMBERS // d)
    return (ITERATIONS * sample + n) * clusters * d if clusters > 1 else 0


def search_cost(n: int, d: int, clusters: int) -> int:
    """Multiplications of searching its own cluster for each of n×d rows.

    Examples
    --------
    >>> search_cost(1000, 8, clusters=10)
    800000
    """
    return n * (n // clusters) * d
