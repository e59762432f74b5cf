"""Search for near and far rows in a bank of embeddings: similarities, finders and recall.

A bank holds the embeddings of all images, one per row. The objective of the paper uses far rows
that a finder draws for each query, see `ClusteredFinder`. The contrastive objective uses the far
images within a batch instead, see `nearfar.training.objectives`.
"""

from nearfar.neighbors.all_pairs import NearPairs, near_pairs
from nearfar.neighbors.bank import Bank, DiskBank, allocate_rows, bank_chunks, disk_bytes
from nearfar.neighbors.clustered_finder import ClusteredFinder
from nearfar.neighbors.exact_finder import ExactFinder
from nearfar.neighbors.finder import Finder, Neighbors, Workers, check_count, check_enough_rows
from nearfar.neighbors.keys import HELD_KEYS_BYTES
from nearfar.neighbors.make import finder_cost, make_finder
from nearfar.neighbors.recall import FinderQuality, compare_finders
from nearfar.neighbors.similarity import ZERO_NORM, Cosine, Gaussian, Similarity, fit_similarity

__all__ = [
    "HELD_KEYS_BYTES",
    "ZERO_NORM",
    "Bank",
    "ClusteredFinder",
    "Cosine",
    "DiskBank",
    "ExactFinder",
    "Finder",
    "FinderQuality",
    "Gaussian",
    "NearPairs",
    "Neighbors",
    "Similarity",
    "Workers",
    "allocate_rows",
    "bank_chunks",
    "check_count",
    "check_enough_rows",
    "compare_finders",
    "disk_bytes",
    "finder_cost",
    "fit_similarity",
    "make_finder",
    "near_pairs",
]
