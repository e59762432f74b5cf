"""Near and far rows of a bank of codes: similarities, finders, and how good a finder is."""

from nearfar.neighbors.bank import allocate_rows, open_rows
from nearfar.neighbors.clustered import ClusteredFinder
from nearfar.neighbors.exact import ExactFinder
from nearfar.neighbors.finder import Finder, Neighbors
from nearfar.neighbors.recall import FinderQuality, compare
from nearfar.neighbors.similarity import (
    Cosine,
    Gaussian,
    Similarity,
    SimilarityName,
    fit_similarity,
)

__all__ = [
    "ClusteredFinder",
    "Cosine",
    "ExactFinder",
    "Finder",
    "FinderQuality",
    "Gaussian",
    "Neighbors",
    "Similarity",
    "SimilarityName",
    "allocate_rows",
    "compare",
    "fit_similarity",
    "open_rows",
]
