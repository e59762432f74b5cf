"""Encoding of images, search for the nearest and farthest images, and embedding indexes."""

from typing import TYPE_CHECKING

from nearfar.lazy import on_first_use

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

__getattr__ = on_first_use(__name__, _HOMES)
