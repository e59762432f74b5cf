"""Search for the images that are nearest to and farthest from query images."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nearfar.config import SimilarityName
from nearfar.data import Images, StoredImages, open_images, to_unit
from nearfar.encoders import Encoder, open_encoder
from nearfar.errors import NearfarError
from nearfar.neighbors import Similarity, fit_similarity
from nearfar.progress import Track, silent
from nearfar.search.index import search_bank

if TYPE_CHECKING:
    from nearfar.runs import Run

#: Most queries per search.
MAX_QUERIES = 32

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


class Queries(NamedTuple):
    """Query images.

    Attributes
    ----------
    names : list of str
        Name of each query.
    rows : int64[q]
        Row number of each query in the searched images; −1 for other query images.
    pixels : float[q, c, h, w]
        Query images, with values in [0, 1].

    Examples
    --------
    >>> Queries(["cat"], np.array([-1]), torch.zeros(1, 1, 8, 8)).names
    ['cat']
    """

    names: list[str]
    rows: Rows
    pixels: Tensor


@dataclass(frozen=True)
class SearchResult:
    """Nearest and farthest images of queries.

    Attributes
    ----------
    queries : Queries
        Query images.
    images : Images
        Searched images.
    near, far : int64[q, count]
        Row numbers of the nearest images, nearest first, and of the farthest images, farthest
        first. The query itself is excluded.
    near_similarity, far_similarity : float32[q, count]
        Similarities of the images in `near` and in `far` to the query.

    Examples
    --------
    >>> from nearfar.data import ArrayImages
    >>> images = ArrayImages(np.zeros((3, 1, 8, 8), np.float32))
    >>> result = search_embeddings(
    ...     open_queries([0], images), torch.tensor([[1.0, 0.0]]), images,
    ...     torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]), count=1,
    ... )
    >>> result.near, result.far
    (array([[1]]), array([[2]]))
    """

    queries: Queries
    images: Images
    near: Rows
    far: Rows
    near_similarity: Floats
    far_similarity: Floats

    def pixels(self, rows: Rows) -> Floats:
        """Return the images in the given rows of the searched images.

        For rows int64[q, count], the result is float32[q, count, c, h, w].
        """
        pixels = to_unit(self.images.batch(rows.flatten().tolist()))
        return pixels.unflatten(0, rows.shape).numpy()

    def names(self) -> list[list[str]]:
        """Return one list per query: the names of the query, nearest images and farthest images."""
        names = self.images.names()
        return [
            [query if own < 0 else names[own], *(names[row] for row in found)]
            for query, own, found in zip(
                self.queries.names,
                self.queries.rows.tolist(),
                np.concatenate([self.near, self.far], 1).tolist(),
                strict=True,
            )
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return the names, row numbers and similarities of all results, as JSON types."""
        names = self.images.names()
        sides = {
            "near": (self.near.tolist(), self.near_similarity.tolist()),
            "far": (self.far.tolist(), self.far_similarity.tolist()),
        }
        return {
            "data": self.images.name,
            "queries": [
                {"query": query}
                | {
                    side: [
                        {"row": row, "name": names[row], "similarity": similarity}
                        for row, similarity in zip(rows[i], values[i], strict=True)
                    ]
                    for side, (rows, values) in sides.items()
                }
                for i, query in enumerate(self.queries.names)
            ],
        }


def find_neighbors(
    encoder: Encoder | Run | str | os.PathLike[str],
    queries: Queries | Sequence[str | os.PathLike[str] | int],
    images: Images | npt.ArrayLike,
    *,
    count: int = 6,
    device: str | torch.device = "auto",
    track: Track = silent,
) -> SearchResult:
    """Return the images that are nearest to and farthest from query images.

    The images are compared by the embeddings and the similarity of an encoder.

    Parameters
    ----------
    encoder, images, device, track
        See `encode`.
    queries : Queries or sequence of str, path or int
        See `open_queries`.
    count : int
        Number of nearest images and of farthest images per query. At most n, or n − 1 if a query is
        one of the n images.

    Raises
    ------
    NearfarError
        If a query cannot be opened, or there are too few images.

    Examples
    --------
    >>> import tempfile
    >>> from nearfar import NRE
    >>> from nearfar.runs import read_run
    >>> photos = np.random.default_rng(0).random((20, 8, 8))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     NRE(epochs=1, clusters=2, device="cpu").fit(photos).save(f"{folder}/run")
    ...     result = find_neighbors(read_run(Path(folder, "run")), [3, 7], photos, count=5)
    >>> result.near.shape, result.queries.names
    ((2, 5), ['3', '7'])
    """
    encoder = open_encoder(encoder)
    if not isinstance(images, Images):
        images = encoder.open_array(images)
    if not isinstance(queries, Queries):
        queries = open_queries(queries, images, track=track)
    embeddings = encoder.embed(images, device=device, track=track)
    return search_embeddings(
        queries,
        encoder.embed_queries(queries.pixels, queries.rows, embeddings, device),
        images,
        torch.from_numpy(embeddings),
        count=count,
        similarity=encoder.similarity,
    )


def search_embeddings(
    queries: Queries,
    query_embeddings: Tensor,
    images: Images,
    embeddings: Tensor,
    *,
    count: int,
    similarity: SimilarityName | Callable[..., Similarity] = "cosine",
) -> SearchResult:
    """Return the images that are nearest to and farthest from query images, given all embeddings.

    Parameters
    ----------
    queries : Queries
        Query images, see `open_queries`.
    query_embeddings : float[q, d]
        Embeddings of the queries.
    images : Images
        Images to search.
    embeddings : float[n, d]
        Embeddings of `images`.
    count : int
        Number of nearest images and of farthest images per query. At most n, or n − 1 if a query is
        one of the n images.
    similarity : {"cosine", "centered-cosine", "gaussian"}
        See `nearfar.neighbors.fit_similarity`.

    Raises
    ------
    NearfarError
        If there are too few images.

    Examples
    --------
    >>> from nearfar.data import ArrayImages
    >>> images = ArrayImages(np.zeros((3, 1, 8, 8), np.float32))
    >>> embeddings = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    >>> queries = open_queries([2], images)
    >>> search_embeddings(queries, embeddings[2:], images, embeddings, count=1).near
    array([[1]])
    """
    hits = search_bank(
        query_embeddings,
        torch.as_tensor(queries.rows),
        embeddings,
        fit_similarity(similarity, embeddings),
        count,
    )
    return SearchResult(queries, images, *hits)


def open_queries(
    queries: Sequence[str | os.PathLike[str] | int],
    images: Images,
    *,
    open_source: Callable[[str], Images] | None = None,
    track: Track = silent,
) -> Queries:
    """Open query images, given as row numbers, names, files, folders or arrays.

    The name or the path of a searched image selects this image, even if the path contains links. A
    folder selects all searched images in it. A selected image is excluded from its own result.

    Parameters
    ----------
    queries : sequence of int, str or path
        Row numbers or names of searched images, image files, folders, array files, or any other
        source that `open_source` opens.
    images : Images
        Images to search.
    open_source : callable, optional
        Function that takes the text of a query and returns `Images` of the same shape. It is called
        for queries that are not among the searched images. Default: `nearfar.data.open_images`.

    Raises
    ------
    NearfarError
        If there are no queries or more than 32, or a query cannot be opened.

    Examples
    --------
    >>> from nearfar.data import ArrayImages
    >>> open_queries([0, "2"], ArrayImages(np.zeros((3, 1, 8, 8), np.uint8))).rows
    array([0, 2])
    """
    if not len(queries):
        raise NearfarError("no queries: expected image files, or indices of images")
    if open_source is None:
        channels, height, width = images.shape
        open_source = partial(
            open_images,
            size=(height, width),
            channels=3 if channels == 3 else 1,
            progress=track,
        )
    files = None
    if isinstance(images, StoredImages):
        files = cache(partial(_files, images))  # following links is slow
    opened: list[tuple[str, int, Tensor]] = []
    for query in queries:
        text = str(query) if isinstance(query, int) else os.fspath(query)
        if isinstance(query, int):
            opened.append((text, query, _row(query, images)))
        elif found := _among(Path(text), images, files) or _named(text, images):
            opened += found
        elif text.isdecimal() and not Path(text).exists():
            opened.append((text, int(text), _row(int(text), images)))
        else:
            opened += _elsewhere(open_source(text))
    if len(opened) > MAX_QUERIES:
        raise NearfarError(f"{len(opened)} query images or more: expected at most {MAX_QUERIES}")
    names, rows, pixels = zip(*opened, strict=True)
    return Queries(list(names), np.array(rows, np.int64), torch.stack(list(map(to_unit, pixels))))


def _row(row: int, images: Images) -> Tensor:
    if not 0 <= row < len(images):
        raise NearfarError(f"query {row}: {images.name!r} has images 0 to {len(images) - 1} only")
    return images[row]


def _among(
    path: Path, images: Images, files: Callable[[Callable[[Path], Path]], dict[int, Path]] | None
) -> list[tuple[str, int, Tensor]]:
    """Return the name, row number and pixels of each searched image at or below a path."""
    if files is None:
        return []
    rows: list[int] = []
    for form in (Path.absolute, Path.resolve):  # by its name, or else by resolving links
        whole = form(path)
        rows = [row for row, file in files(form).items() if file.is_relative_to(whole)]
        if rows:
            break
    names = images.names()
    return [(names[row], row, images[row]) for row in rows[: MAX_QUERIES + 1]]


def _named(name: str, images: Images) -> list[tuple[str, int, Tensor]]:
    """Return the name, row number and pixels of each searched image with this name."""
    rows = [row for row, own in enumerate(images.names()) if own == name]
    return [(name, row, images[row]) for row in rows[: MAX_QUERIES + 1]]


def _files(images: StoredImages, form: Callable[[Path], Path]) -> dict[int, Path]:
    """Return the path of each image that is a file, by row number; `form` converts each path."""
    files = {row: path for row, item in enumerate(images.items) if (path := item.path)}
    return {row: form(path) for row, path in files.items()}


def _elsewhere(images: Images) -> list[tuple[str, int, Tensor]]:
    """Return the name, row number (−1) and pixels of each query outside the searched images."""
    first = range(min(len(images), MAX_QUERIES + 1))
    return [(f"{images.name}: {images.names()[row]}", -1, images[row]) for row in first]
