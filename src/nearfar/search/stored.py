"""Search in stored embeddings for any number of queries, with the results as a table."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

import numpy as np
import pyarrow
from pyarrow import parquet

from nearfar.config import SimilarityName
from nearfar.embeddings import EmbeddingFile
from nearfar.errors import NearfarError
from nearfar.files import atomic_path, exists
from nearfar.progress import Track, silent, tracked
from nearfar.search.hits import Floats, IndexHits, Rows, search_file

if TYPE_CHECKING:
    import torch

    from nearfar.data import Images
    from nearfar.encoders import Encoder

#: Most queries to compare with the file while it is read; for more, it is read first.
_FEW = 32


@dataclass(frozen=True)
class StoredSearch:
    """Stored images that are nearest to and farthest from each query.

    Attributes
    ----------
    queries : list of str
        Name of each query.
    near, far : list of list of str
        For each query, the names of the nearest images, nearest first, and of the farthest images,
        farthest first.
    hits : IndexHits
        Row numbers and similarities of the nearest and farthest images.

    Examples
    --------
    >>> zero, one = np.zeros((1, 1), int), np.ones((1, 1), np.float32)
    >>> hits = IndexHits(zero, zero, one, one)
    >>> StoredSearch(["cat"], [["lynx"]], [["lynx"]], hits).to_table().num_rows
    2
    """

    queries: list[str]
    near: list[list[str]]
    far: list[list[str]]
    hits: IndexHits

    def to_table(self) -> pyarrow.Table:
        """Return the results as a table with one row per found image.

        The columns are `query`, `side` ("near" or "far"), `rank` (from 1), `file`, `row` and
        `similarity`.
        """
        count = self.hits.near.shape[1]
        sides = {
            "near": (self.near, self.hits.near, self.hits.near_similarity),
            "far": (self.far, self.hits.far, self.hits.far_similarity),
        }
        return pyarrow.concat_tables(
            pyarrow.table(
                {
                    "query": np.repeat(np.array(self.queries, object), count),
                    "side": [side] * rows.size,
                    "rank": np.tile(np.arange(1, count + 1, dtype=np.int32), len(rows)),
                    "file": [name for row in names for name in row],
                    "row": rows.ravel(),
                    "similarity": similarity.ravel(),
                }
            )
            for side, (names, rows, similarity) in sides.items()
        )

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the table that `to_table` returns to a .parquet file."""
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
    """Return the stored images that are nearest to and farthest from each query.

    Parameters
    ----------
    embeddings : str or path
        A .parquet file or folder written by `encode_to`.
    queries : sequence of str or path
        Each query is a name in the file of embeddings, a row number, a .parquet file with query
        embeddings, or a source of images. Images are encoded with the encoder recorded in the file
        of embeddings. A query image that is also in the file, with the same name and content, is
        excluded from its own result.
    count : int
        Number of nearest images and of farthest images per query.
    open_source : callable, optional
        Function that takes the encoder and the text of a query and returns `Images`. Default:
        `nearfar.data.open_images`, with the image size of the encoder.
    device : str or torch.device
        Device on which query images are encoded.
    track : Track
        Progress display, see `nearfar.progress.Track`.

    Raises
    ------
    NearfarError
        If a query cannot be opened, query embeddings have a different dimension, or there are too
        few stored embeddings.

    Examples
    --------
    >>> import tempfile
    >>> from nearfar.search import Index
    >>> index = Index().add([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]], ["cat", "lynx", "car"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     index.save(f"{folder}/index.parquet")
    ...     result = search_stored(f"{folder}/index.parquet", ["cat"], count=1)
    >>> result.near
    [['lynx']]
    """
    if not queries:
        raise NearfarError("no queries: expected names, row numbers, embeddings or images")
    file = EmbeddingFile(embeddings)
    texts = [str(query) for query in queries]
    names: list[str] = []
    rows: list[Rows] = []
    points: list[Floats] = []
    for query, found in zip(texts, file.find(texts), strict=True):
        row = _row(query, found, file)
        if row is not None:
            own = np.array([row])
            names += file.names(own)
            rows.append(own)
            points.append(file.take(own))
            continue
        if query.endswith(".parquet"):
            others = EmbeddingFile(query)
            files, found = others.names(np.arange(len(others))), others.read()
            rows.append(np.full(len(files), -1))
            if others.embedding_size != file.embedding_size:
                raise NearfarError(
                    f"{query!r} holds embeddings of length {others.embedding_size}: expected "
                    f"{file.embedding_size}, as in {file.name!r}"
                )
        else:
            if not _is_source(query):
                raise NearfarError(
                    f"{query!r} is not among the {len(file)} images of {file.name!r}, and not a "
                    "file or folder: expected one of them"
                )
            encoder = tracked(track, "loading the encoder", partial(_reopen, file))
            images = (open_source or _open)(encoder, query)
            files, found = images.names(), encoder.embed(images, device=device, track=track)
            rows.append(_own_rows(images, file))
        names += files
        points.append(found)
    hits = _search(file, np.concatenate(points), np.concatenate(rows), count)
    near, far = (
        np.array(file.names(each.ravel()), object).reshape(each.shape).tolist()
        for each in (hits.near, hits.far)
    )
    return StoredSearch(names, near, far, hits)


def _is_source(query: str) -> bool:
    """Return whether a query is an existing path, a pattern of shards, or a named data set."""
    if exists(Path(query)) or "{" in query:
        return True
    from nearfar.data import DATASETS

    return query in DATASETS


def _row(query: str, found: int, file: EmbeddingFile) -> int | None:
    """Return the row number of a query that is a name, path or row number in the file.

    `found` is the row with the name `query`, or −1. Return None for any other query.
    """
    if found < 0 and Path(query).is_file():
        found = file.find_files([Path(query)])[0]
    if found >= 0:
        return int(found)
    if not query.isdecimal() or exists(Path(query)):
        return None
    if int(query) >= len(file):
        raise NearfarError(f"query {query}: {file.name!r} has rows 0 to {len(file) - 1} only")
    return int(query)


def _reopen(file: EmbeddingFile) -> Encoder:
    from nearfar.encoders import reopen_encoder  # torch takes seconds

    return reopen_encoder(file.settings, file.name)


def _own_rows(images: Images, file: EmbeddingFile) -> Rows:
    """Return the row number of each image in the file; −1 for images that are not in the file."""
    from nearfar.data import StoredImages

    rows = np.full(len(images), -1)
    if isinstance(images, StoredImages):
        files = {place: path for place, item in enumerate(images.items) if (path := item.path)}
        rows[list(files)] = file.find_files(list(files.values()))
    return rows


def _search(file: EmbeddingFile, points: Floats, rows: Rows, count: int) -> IndexHits:
    stored = file.settings.get("similarity")
    similarity = cast(SimilarityName, stored if stored in get_args(SimilarityName) else "cosine")
    if similarity == "cosine" and len(points) <= _FEW and 0 < count < len(file):
        return search_file(file, points, rows, count)
    import torch

    from nearfar.neighbors import fit_similarity
    from nearfar.search.index import search_bank

    bank = torch.from_numpy(file.read())
    return search_bank(
        torch.from_numpy(points),
        torch.from_numpy(rows),
        bank,
        fit_similarity(similarity, bank),
        count,
    )


def _open(encoder: Encoder, source: str) -> Images:
    from nearfar.data import open_images

    return open_images(source, size=encoder.size, channels=encoder.channels, **encoder.reading)
