"""Finders by configuration."""

from __future__ import annotations

from functools import partial

import pytest

from nearfar.config import NeighborSearch
from nearfar.errors import NearfarError
from nearfar.neighbors import ClusteredFinder, ExactFinder, make_finder


def test_make_finder_follows_the_configuration():
    exact = make_finder(NeighborSearch(finder="exact"), 3)
    assert isinstance(exact, ExactFinder)
    assert exact.count == 3
    search = NeighborSearch(clusters=7, far_share=0.3)
    clustered = make_finder(search, neighbors=2, seed=5)
    assert isinstance(clustered, ClusteredFinder)
    chosen = (clustered.count, clustered.clusters, clustered.far_share, clustered.seed)
    assert chosen == (2, 7, 0.3, 5)


def test_make_finder_calls_a_callable_with_the_number_of_neighbors():
    own = partial(ClusteredFinder, clusters=1, seed=9)
    finder = make_finder(NeighborSearch(finder=own), 4)
    assert (finder.count, finder.clusters, finder.seed) == (4, 1, 9)


def test_make_finder_refuses_no_neighbors():
    with pytest.raises(NearfarError, match="neighbors=0"):
        make_finder(NeighborSearch(finder="exact"), 0)
