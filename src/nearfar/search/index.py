"""Indexes of embeddings, in memory or as files for other libraries."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self, cast, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nearfar.config import SimilarityName
from nearfar.embeddings import EmbeddingTable, read_embeddings, write_embedding_table
from nearfar.errors import NearfarError, require
from nearfar.files import atomic_path
from nearfar.neighbors import ExactFinder, Similarity, fit_similarity
from nearfar.search.hits import Floats, IndexHits

#: Queries whose similarities are computed at once.
_QUERIES = 1024


class Index:
    """Searchable collection of named embeddings. The search is exact.

    Parameters
    ----------
    similarity : {"cosine", "centered-cosine", "gaussian"}
        See `nearfar.neighbors.fit_similarity`.

    Attributes
    ----------
    embeddings : float32[n, d]
        Embeddings in the index.
    names : list of str
        Name of each embedding.

    Examples
    --------
    >>> import tempfile
    >>> index = Index().add([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]], ["cat", "lynx", "car"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     index.save(f"{folder}/index.parquet")
    ...     index = Index.load(f"{folder}/index.parquet")
    >>> hits = index.search(["cat"], count=1)
    >>> index.names[hits.near[0, 0]], index.names[hits.far[0, 0]]
    ('lynx', 'car')
    """

    def __init__(self, similarity: SimilarityName = "cosine") -> None:
        if similarity not in get_args(SimilarityName):
            raise NearfarError(
                f"similarity {similarity!r} is unknown: expected one of "
                f"{', '.join(get_args(SimilarityName))}"
            )
        self.similarity = similarity
        self.embeddings: Floats = np.empty((0, 0), np.float32)
        self.names: list[str] = []
        self._measure: Similarity | None = None

    def __len__(self) -> int:
        return len(self.names)

    def add(self, embeddings: npt.ArrayLike, names: Sequence[str] | None = None) -> Self:
        """Add embeddings (float[m, d]) with m names, and return the index.

        Default names are the row numbers.

        Raises
        ------
        NearfarError
            If the embeddings have a different dimension than those in the index, the number of
            names is not m, or a name is not unique.
        """
        added = np.asarray(embeddings, np.float32)
        if added.ndim != 2 or (len(self) and added.shape[1] != self.embeddings.shape[1]):
            expected = f"[m, {self.embeddings.shape[1]}]" if len(self) else "[m, d]"
            raise NearfarError(f"embeddings of shape {list(added.shape)}: expected {expected}")
        fresh = list(names) if names is not None else _numbers(len(self), len(added))
        if len(fresh) != len(added):
            raise NearfarError(f"{len(fresh)} names of {len(added)} embeddings: expected as many")
        combined = [*self.names, *fresh]
        if len(set(combined)) < len(combined):
            taken = next(name for name in fresh if combined.count(name) > 1)
            raise NearfarError(f"name {taken!r} of two embeddings: expected distinct names")
        self.embeddings = np.concatenate([self.embeddings, added]) if len(self) else added
        self.names, self._measure = combined, None
        return self

    def search(self, queries: Sequence[str] | npt.ArrayLike, count: int = 10) -> IndexHits:
        """Return the rows that are nearest to and farthest from each query.

        Parameters
        ----------
        queries : float[q, d] or sequence of str
            Embeddings, or names in the index. A query that is given by name is excluded from its
            own result.
        count : int
            Number of nearest rows and of farthest rows per query.

        Raises
        ------
        NearfarError
            If a name is unknown, or the index has too few embeddings.
        """
        bank = torch.from_numpy(self.embeddings)
        self._measure = self._measure or fit_similarity(self.similarity, bank)
        names = np.asarray(queries)
        if names.dtype.kind == "U":
            rows = torch.tensor([self._row(name) for name in names.tolist()])
            points = bank[rows]
        else:
            points = torch.from_numpy(names.astype(np.float32))
            rows = torch.full((len(points),), -1)
        return search_bank(points, rows, bank, self._measure, count)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the index to a .parquet file, which ``nearfar search`` can also read."""
        settings = {"similarity": self.similarity}
        table = EmbeddingTable(self.embeddings, self.names, settings=settings)
        write_embedding_table(path, table)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Index:
        """Return the index in a file written by `save` or by ``nearfar encode``.

        Raises
        ------
        NearfarError
            If the file does not contain embeddings.
        """
        table = read_embeddings(path)
        stored = table.settings.get("similarity")
        index = cls(cast(Any, stored) if stored in get_args(SimilarityName) else "cosine")
        index.embeddings, index.names = table.embeddings, table.names
        return index

    def _row(self, name: str) -> int:
        try:
            return self.names.index(name)
        except ValueError:
            raise NearfarError(f"query {name!r} is not in the index: expected a name") from None


def _numbers(start: int, count: int) -> list[str]:
    return [str(row) for row in range(start, start + count)]


def search_bank(
    queries: Tensor, query_rows: Tensor, bank: Tensor, similarity: Similarity, count: int
) -> IndexHits:
    """Return the rows of a bank that are nearest to and farthest from each query.

    Parameters
    ----------
    queries : float[q, d]
        Embeddings of the queries.
    query_rows : int64[q]
        Row number of each query in the bank, or −1 for a query outside the bank. The row is
        excluded from the result of the query.
    bank : float[n, d]
        Embeddings to search.
    similarity : Similarity
        Similarity, fitted to the bank.
    count : int
        Number of nearest rows and of farthest rows per query.

    Examples
    --------
    >>> bank = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    >>> search_bank(bank, torch.arange(3), bank, fit_similarity("cosine", bank), 1).near[0]
    array([1])
    """
    finder = ExactFinder(count, includes_queries=bool((query_rows >= 0).any())).fit(
        bank, similarity
    )
    near, far = finder.search(queries, query_rows)
    similarities = [
        torch.cat(
            [
                similarity(some.unsqueeze(1), bank[these])
                for some, these in zip(queries.split(_QUERIES), each.split(_QUERIES), strict=True)
            ]
        ).numpy()
        for each in (near, far)
    ]
    return IndexHits(near.numpy(), far.numpy(), *similarities)


def write_index(path: str | os.PathLike[str], index: Index, *, factory: str = "Flat") -> None:
    """Write an index as a file for faiss or usearch. The keys are the row numbers of the index.

    Gaussian similarity is converted to Euclidean distance. Cosine similarity is converted to the
    inner product of unit vectors; queries to faiss must therefore be scaled to unit length.

    Parameters
    ----------
    path : str or path
        Output path, ending in .faiss or .usearch.
    index : Index
        Index to write.
    factory : str
        Type of the faiss index, see ``faiss.index_factory``.

    Raises
    ------
    NearfarError
        If the path has another extension, the library is not installed, or the similarity is
        "centered-cosine", which neither library supports.

    Examples
    --------
    >>> import tempfile
    >>> import faiss
    >>> index = Index().add([[3.0, 0.0], [0.0, 2.0]], ["cat", "car"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_index(f"{folder}/index.faiss", index)
    ...     faiss.read_index(f"{folder}/index.faiss").search(np.float32([[0, 1]]), 1)[1]
    array([[1]])
    """
    path = Path(path)
    if index.similarity == "centered-cosine":
        raise NearfarError(
            f"{str(path)!r}: faiss and usearch do not support centered-cosine; expected cosine or "
            "gaussian"
        )
    cosine = index.similarity == "cosine"
    keys = index.embeddings
    if cosine:
        keys = fit_similarity("cosine", torch.from_numpy(keys)).keys(torch.from_numpy(keys)).numpy()
    if path.suffix == ".faiss":
        faiss = require("faiss", extra="faiss")
        metric = faiss.METRIC_INNER_PRODUCT if cosine else faiss.METRIC_L2
        try:
            made = faiss.index_factory(keys.shape[1], factory, metric)
            made.train(keys)
            made.add(keys)
        except RuntimeError as error:
            line = str(error).strip().splitlines()[-1]
            raise NearfarError(f"faiss cannot build an index {factory!r} ({line})") from error
        with atomic_path(path) as temporary:
            faiss.write_index(made, str(temporary))
    elif path.suffix == ".usearch":
        usearch = require("usearch.index", extra="usearch")
        made = usearch.Index(ndim=keys.shape[1], metric="cos" if cosine else "l2sq", dtype="f32")
        made.add(np.arange(len(keys)), keys)
        with atomic_path(path) as temporary:
            made.save(str(temporary))
    else:
        raise NearfarError(f"{str(path)!r}: expected a name that ends in .faiss or .usearch")
