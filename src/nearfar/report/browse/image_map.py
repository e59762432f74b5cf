"""Map of images: positions in two dimensions, near and far images, and columns for coloring."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nearfar.config import SimilarityName
from nearfar.curation import class_name, cluster
from nearfar.data import Images
from nearfar.errors import NearfarError
from nearfar.neighbors import fit_similarity
from nearfar.report.browse.projection import project
from nearfar.search import IndexHits, search_bank

#: Most images on a page.
MAX_BROWSED = 20_000
#: Near and far images per image.
_NEIGHBORS = 12


@dataclass(frozen=True)
class ImageMap:
    """Two-dimensional map of n images.

    Attributes
    ----------
    images : Images
        Images on the map.
    places : float32[n, 2]
        Positions of the images on the map.
    hits : IndexHits
        Near and far images of each image.
    columns : mapping of str to array
        Columns by which the map can be colored, with one value per image. Categories are text
        (None if unknown), and scores are floats (NaN if unknown). Images with an unknown value or
        the category "none" are gray.

    Examples
    --------
    >>> from nearfar.data import images_from_array
    >>> pixels = np.random.default_rng(0).random((20, 8, 8))
    >>> image_map = map_images(images_from_array(pixels), pixels.reshape(20, -1))
    >>> image_map.places.shape, image_map.hits.near.shape, list(image_map.columns)
    ((20, 2), (20, 12), ['cluster'])
    """

    images: Images
    places: npt.NDArray[np.float32]
    hits: IndexHits
    columns: Mapping[str, npt.NDArray[Any]]


def map_images(
    images: Images,
    embeddings: npt.NDArray[np.floating[Any]],
    *,
    similarity: SimilarityName | Callable[..., Any] = "cosine",
    columns: Mapping[str, npt.NDArray[Any]] | None = None,
    seed: int = 0,
) -> ImageMap:
    """Return a map of images, given their embeddings.

    Parameters
    ----------
    images : Images
        Images to map. If they have labels, these become the column "label".
    embeddings : float[n, d]
        Embeddings of the n ≥ 5 images.
    similarity : str or callable
        See `nearfar.neighbors.fit_similarity`.
    columns : mapping of str to array, optional
        See `ImageMap`. If there is no "cluster" column, it is added, with k-means clusters of the
        embeddings.
    seed : int
        Seed of the projection and of the clustering.

    Raises
    ------
    NearfarError
        If there are fewer than 5 images, or the numbers of images, embeddings and column values
        differ.

    Examples
    --------
    >>> from nearfar.data import images_from_array
    >>> pixels = np.random.default_rng(0).random((20, 8, 8))
    >>> images = images_from_array(pixels, labels=["cat", "dog"] * 10)
    >>> map_images(images, pixels.reshape(20, -1)).columns["label"][:3]
    array(['cat', 'dog', 'cat'], dtype=object)
    """
    n, columns = len(images), dict(columns or {})
    for name, values in {"embeddings": embeddings, **columns}.items():
        if len(values) != n:
            raise NearfarError(f"{len(values)} {name} of {n} images: expected as many")
    places = project(embeddings, seed=seed)
    bank = torch.from_numpy(np.ascontiguousarray(embeddings, np.float32))
    measure = fit_similarity(similarity, bank)
    hits = search_bank(bank, torch.arange(n), bank, measure, min(_NEIGHBORS, n - 1))
    if images.labels is not None:
        names = [class_name(images, label) for label in images.labels]
        columns = {"label": np.array(names, object), **columns}
    if "cluster" not in columns:
        numbers, _ = cluster(bank.numpy(), seed=seed)
        columns["cluster"] = np.array([f"cluster {number}" for number in numbers], object)
    return ImageMap(images, places, hits, columns)


def choose_rows(images: Images, *, seed: int = 0) -> Tensor:
    """Return the row numbers of at most 20,000 random images (int64[m]).

    If the images have labels, one image of each class comes first.

    Examples
    --------
    >>> from nearfar.data import images_from_array
    >>> len(choose_rows(images_from_array(np.ones((9, 8, 8)))))
    9
    """
    rows = np.random.default_rng(seed).permutation(len(images))
    if images.labels is not None:
        _, firsts = np.unique(images.labels[rows], return_index=True)
        rows = np.concatenate([rows[firsts], np.delete(rows, firsts)])
    return torch.from_numpy(rows[:MAX_BROWSED])
