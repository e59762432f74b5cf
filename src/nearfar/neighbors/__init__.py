"""Near and far rows of a bank of embeddings: similarities, finders, and how good a finder is."""

from nearfar.neighbors.bank import Bank, DiskBank, allocate_rows, disk_bytes
from nearfar.neighbors.clustered import ClusteredFinder
from nearfar.neighbors.exact import ExactFinder
from nearfar.neighbors.finder import Finder, Neighbors, Workers
from nearfar.neighbors.recall import FinderQuality, compare
from nearfar.neighbors.similarity import (
    Cosine,
    Gaussian,
    Similarity,
    SimilarityName,
    fit_similarity,
)

__all__ = [
    "Bank",
    "ClusteredFinder",
    "Cosine",
    "DiskBank",
    "ExactFinder",
    "Finder",
    "FinderQuality",
    "Gaussian",
    "Neighbors",
    "Similarity",
    "SimilarityName",
    "Workers",
    "allocate_rows",
    "compare",
    "disk_bytes",
    "fit_similarity",
]
