"""Finders by configuration."""

from __future__ import annotations

from nearfar.config import NeighborSearch
from nearfar.neighbors.clustered import ClusteredFinder
from nearfar.neighbors.exact import ExactFinder
from nearfar.neighbors.finder import Finder


def make_finder(search: NeighborSearch, neighbors: int, seed: int = 0) -> Finder:
    """Build the finder of a configuration.

    Parameters
    ----------
    search : NeighborSearch
        Names a finder, or holds your own: a callable from the number of neighbors to a `Finder`.
    neighbors : int
        T, the number of near and of far rows per query, ≥ 1.
    seed : int
        Seed of the first centers and the far rows, ≥ 0.

    Raises
    ------
    NearfarError
        If a parameter is out of its range.

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
