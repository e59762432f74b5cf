"""Search in stored embeddings, for any number of queries, with results as a file."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow
import torch
from pyarrow import parquet

from nearfar.data import Images, open_images, read_embeddings
from nearfar.encoders import Encoder, StoredEmbeddings
from nearfar.errors import NearfarError
from nearfar.files import atomic_path
from nearfar.neighbors import fit_similarity
from nearfar.progress import Track, silent
from nearfar.search.index import Floats, IndexHits, Rows, search_bank


@dataclass(frozen=True)
class StoredSearch:
    """Nearest and farthest stored embeddings of queries.

    Attributes
    ----------
    queries : list of str
        Name of each query.
    names : list of str
        Name of each row.
    hits : IndexHits
        Rows and similarities.

    Examples
    --------
    >>> zero, one = np.zeros((1, 1), int), np.ones((1, 1), np.float32)
    >>> StoredSearch(["cat"], ["lynx"], IndexHits(zero, zero, one, one)).to_table().num_rows
    2
    """

    queries: list[str]
    names: list[str]
    hits: IndexHits

    def to_table(self) -> pyarrow.Table:
        """Return one row per result: query, side, rank from 1, file, row and similarity."""
        count = self.hits.near.shape[1]
        files = np.array(self.names, object)
        sides = {
            "near": (self.hits.near, self.hits.near_similarity),
            "far": (self.hits.far, self.hits.far_similarity),
        }
        return pyarrow.concat_tables(
            pyarrow.table(
                {
                    "query": np.repeat(np.array(self.queries, object), count),
                    "side": [side] * rows.size,
                    "rank": np.tile(np.arange(1, count + 1, dtype=np.int32), len(rows)),
                    "file": files[rows.ravel()],
                    "row": rows.ravel(),
                    "similarity": similarity.ravel(),
                }
            )
            for side, (rows, similarity) in sides.items()
        )

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the results of `to_table` to a .parquet file."""
        with atomic_path(Path(path)) as temporary:
            parquet.write_table(self.to_table(), temporary)


def search_stored(
    embeddings: str | os.PathLike[str],
    queries: Sequence[str | os.PathLike[str]],
    *,
    count: int = 10,
    open_source: Callable[[Encoder, str], Images] | None = None,
    device: str | torch.device = "auto",
    track: Track = silent,
) -> StoredSearch:
    """Find the nearest and farthest stored embeddings of queries.

    Parameters
    ----------
    embeddings : str or path
        Path written by `encode_to`.
    queries : sequence of str or path
        Each is a name in the file; a row number; a .parquet of embeddings, all of which are
        queries; or images, which are opened, and encoded by the file's encoder.
    count : int
        Number of nearest and farthest images per query.
    open_source : callable, optional
        Function that opens images for an encoder. Default: `nearfar.data.open_images`.
    device : str or torch.device
        Device of the encoder, if any images are encoded.

    Raises
    ------
    NearfarError
        If a query cannot be opened, embeddings have a different length, or there are too few.

    Examples
    --------
    >>> import tempfile
    >>> from nearfar.search import Index
    >>> index = Index().add([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]], ["cat", "lynx", "car"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     index.save(f"{folder}/index.parquet")
    ...     result = search_stored(f"{folder}/index.parquet", ["cat"], count=1)
    >>> [result.names[row] for row in result.hits.near[0]]
    ['lynx']
    """
    if not queries:
        raise NearfarError("no queries: expected names, row numbers, embeddings or images")
    stored = StoredEmbeddings(embeddings)
    names: list[str] = []
    rows: list[Rows] = []
    points: list[Floats] = []
    for query in [str(query) for query in queries]:
        row = _row(query, stored)
        if row is not None:
            names.append(stored.table.names[row])
            rows.append(np.array([row]))
            points.append(stored.embeddings[row : row + 1])
            continue
        if query.endswith(".parquet"):
            table = read_embeddings(query)
            files, found = table.names, table.embeddings
            if found.shape[1] != stored.embeddings.shape[1]:
                raise NearfarError(
                    f"{query!r} holds embeddings of length {found.shape[1]}: expected "
                    f"{stored.embeddings.shape[1]}, as in {stored.name!r}"
                )
        else:
            encoder = stored.open_encoder()
            images = (open_source or _open)(encoder, query)
            files, found = images.names(), encoder.embed(images, device=device, track=track)
        names += files
        rows.append(np.full(len(files), -1))
        points.append(found)
    bank = torch.from_numpy(stored.embeddings)
    hits = search_bank(
        torch.from_numpy(np.concatenate(points)),
        torch.from_numpy(np.concatenate(rows)),
        bank,
        fit_similarity(stored.similarity, bank),
        count,
    )
    return StoredSearch(names, stored.table.names, hits)


def _row(query: str, stored: StoredEmbeddings) -> int | None:
    """Return the row of a query by its name or number, if it is in the file."""
    row = stored.rows.get(query)
    if row is None and query.isdecimal() and not Path(query).exists():
        row = int(query)
        if row >= len(stored.rows):
            raise NearfarError(
                f"query {row}: {stored.name!r} has rows 0 to {len(stored.rows) - 1} only"
            )
    return row


def _open(encoder: Encoder, source: str) -> Images:
    return open_images(source, size=encoder.size, channels=encoder.channels)
