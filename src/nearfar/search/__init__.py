"""Encoding to files, nearest and farthest images of queries, and embedding indexes."""

from nearfar.search.encode import encode, encode_to
from nearfar.search.images import (
    MAX_QUERIES,
    Queries,
    SearchResult,
    find_neighbors,
    open_queries,
    search_embeddings,
)
from nearfar.search.index import Index, IndexHits, search_bank, write_index
from nearfar.search.stored import StoredSearch, search_stored

__all__ = [
    "MAX_QUERIES",
    "Index",
    "IndexHits",
    "Queries",
    "SearchResult",
    "StoredSearch",
    "encode",
    "encode_to",
    "find_neighbors",
    "open_queries",
    "search_bank",
    "search_embeddings",
    "search_stored",
    "write_index",
]
