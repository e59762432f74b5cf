"""Encoding to files, nearest and farthest images of queries, and embedding indexes."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nearfar.search.encoding import encode, encode_to
    from nearfar.search.hits import IndexHits
    from nearfar.search.images import (
        MAX_QUERIES,
        Queries,
        SearchResult,
        find_neighbors,
        open_queries,
        search_embeddings,
    )
    from nearfar.search.index import Index, search_bank, write_index
    from nearfar.search.stored import StoredSearch, search_stored

#: Module that defines each public name. Names are imported on first use: a search in stored
#: embeddings needs no torch, which takes seconds.
_HOMES = {
    "MAX_QUERIES": "images",
    "Index": "index",
    "IndexHits": "hits",
    "Queries": "images",
    "SearchResult": "images",
    "StoredSearch": "stored",
    "encode": "encoding",
    "encode_to": "encoding",
    "find_neighbors": "images",
    "open_queries": "images",
    "search_bank": "index",
    "search_embeddings": "images",
    "search_stored": "stored",
    "write_index": "index",
}

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


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'nearfar.search' has no attribute {name!r}")
    return getattr(import_module(f"nearfar.search.{_HOMES[name]}"), name)
