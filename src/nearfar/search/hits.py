"""Search for nearest and farthest rows while reading a file of embeddings."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from nearfar.embeddings import EmbeddingFile
from nearfar.errors import NearfarError

#: Norm below which an embedding counts as zero, as in `nearfar.neighbors.Cosine`.
_ZERO_NORM = 1e-6

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


class IndexHits(NamedTuple):
    """Nearest and farthest rows of each query.

    Attributes
    ----------
    near, far : int64[q, count]
        Row numbers of the nearest rows, nearest first, and of the farthest rows, farthest first.
    near_similarity, far_similarity : float32[q, count]
        Similarities of the rows in `near` and in `far` to the query.

    Examples
    --------
    >>> from nearfar.search import Index
    >>> index = Index().add([[1.0, 0.0], [0.0, 1.0]])
    >>> index.search([[2.0, 0.1]], count=1).near
    array([[0]])
    """

    near: Rows
    far: Rows
    near_similarity: Floats
    far_similarity: Floats


def search_file(file: EmbeddingFile, points: Floats, rows: Rows, count: int) -> IndexHits:
    """Return the nearest and farthest rows in a file, by cosine similarity.

    The file is read once.

    Parameters
    ----------
    file : EmbeddingFile
        File with more than `count` embeddings.
    points : float32[q, d]
        Embeddings of a few queries.
    rows : int64[q]
        Row number of each query in the file, or −1 for a query outside the file. The row is
        excluded from the result of the query.
    count : int
        Number of nearest rows and of farthest rows per query.

    Raises
    ------
    NearfarError
        If the embeddings in the file contain NaN or infinity.
    """
    queries = np.ascontiguousarray(_unit(points).T)
    near, far = _Best(len(points), count), _Best(len(points), count)
    with threadpool_limits(1, "blas"):  # each product is too small to share
        for start, batch in file.batches():
            similarities = (batch @ queries).T / _norms(batch, file.name)
            near.add(similarities, start, rows - start)
            far.add(-similarities, start, rows - start)
    return IndexHits(near.rows, far.rows, near.values, -far.values)


class _Best:
    """Rows with the largest values so far, for each query, in descending order of the value."""

    def __init__(self, queries: int, count: int) -> None:
        self.values = np.full((queries, count), -np.inf, np.float32)
        self.rows = np.full((queries, count), -1, np.int64)

    def add(self, values: Floats, start: int, own: Rows) -> None:
        """Add the values of m consecutive rows (float32[q, m]), the first with number `start`.

        `own` is the position of each query among these rows. At this position, the value is
        ignored.
        """
        for query in np.flatnonzero(values.max(1) > self.values[:, -1]):
            some = values[query].copy()
            if 0 <= own[query] < len(some):
                some[own[query]] = -np.inf
            places = np.flatnonzero(some > self.values[query, -1])
            both = np.concatenate([self.values[query], some[places]])
            order = np.argsort(-both, kind="stable")[: len(self.rows[query])]
            self.values[query] = both[order]
            self.rows[query] = np.concatenate([self.rows[query], start + places])[order]


def _unit(points: Floats) -> Floats:
    return points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), _ZERO_NORM)


def _norms(batch: Floats, name: str) -> Floats:
    norms = np.sqrt(np.einsum("ij,ij->i", batch, batch))
    if not np.isfinite(norms).all():
        raise NearfarError(f"{name!r} holds NaN or infinity: encode again")
    return np.maximum(norms, _ZERO_NORM)
