"""Search for all pairs of similar embeddings, within clusters and between nearby clusters."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import normalize

from nearfar.errors import NearfarError
from nearfar.neighbors.bank import CHUNK
from nearfar.neighbors.kmeans import kmeans
from nearfar.neighbors.similarity import ZERO_NORM

#: Maximum number of embeddings for which all pairs are compared.
_EXACT = 16_384
#: Number of clusters as a multiple of √n; rows per cluster and iterations for k-means.
_CLUSTERS, _SAMPLE_PER_CLUSTER, _ITERATIONS = 2, 32, 5
#: Numbers of queries to compare with a cluster, and of points with all centers, at once.
_QUERIES = 1024
#: Number of embeddings whose pairs are searched exactly to measure recall.
_MEASURED = 256
#: Maximum number of pairs.
_MOST_PAIRS = 2**25

Rows = npt.NDArray[np.int64]


class NearPairs(NamedTuple):
    """Pairs of similar embeddings.

    Attributes
    ----------
    pairs : int64[m, 2]
        Row numbers of each pair, the smaller one first. Pairs are in ascending order.
    similarities : float32[m]
        Cosine similarity of each pair.
    recall : float
        Share of the pairs found by exact search that are in `pairs`, measured on random rows. NaN
        if exact search finds no pairs.
    seconds : float
        Duration of the search, excluding the recall measurement.

    Examples
    --------
    >>> near_pairs(np.float32([[1, 0], [0, 1], [1, 0.1]]), 0.9).pairs
    array([[0, 2]])
    """

    pairs: Rows
    similarities: npt.NDArray[np.float32]
    recall: float
    seconds: float


@torch.no_grad()
def near_pairs(
    embeddings: npt.NDArray[np.floating], threshold: float, *, probes: int = 4, seed: int = 0
) -> NearPairs:
    """Find all pairs of embeddings with a cosine similarity at or above a threshold.

    Up to 16,384 embeddings are compared exhaustively. Larger sets are partitioned into 2√n clusters
    by k-means, and each embedding is compared with the embeddings in the clusters with the nearest
    centers. Recall relative to exact search is measured on 256 random rows. In addition to the
    embeddings, the search needs about 32·`probes` bytes of memory per row and 50 bytes per pair.

    Parameters
    ----------
    embeddings : float[n, d]
        Embeddings, in memory or memory-mapped, such as ``numpy.load(path, mmap_mode="r")``.
    threshold : float
        Minimum cosine similarity, in [−1, 1].
    probes : int
        Number of clusters with which each embedding is compared, ≥ 1. More clusters yield more
        pairs but take longer.
    seed : int
        Seed of k-means and of the random rows for the recall measurement.

    Raises
    ------
    NearfarError
        If an argument is out of range, the embeddings contain NaN or infinity, or there are more
        than 33 million pairs.

    Examples
    --------
    >>> points = np.random.default_rng(0).normal(size=(100, 8))
    >>> points[70] = 2 * points[20] + 0.01
    >>> found = near_pairs(points, 0.99)
    >>> found.pairs, found.recall
    (array([[20, 70]]), 1.0)
    """
    if embeddings.ndim != 2 or not len(embeddings):
        raise NearfarError(f"embeddings of shape {list(embeddings.shape)}: expected [n, d]")
    if not -1 <= threshold <= 1:
        raise NearfarError(f"threshold={threshold}: expected a cosine similarity, -1 to 1")
    if probes < 1:
        raise NearfarError(f"probes={probes}: expected at least 1")
    start, n = time.perf_counter(), len(embeddings)
    centers = _centers(embeddings, seed)
    nearest = _nearest_clusters(embeddings, centers, min(probes, len(centers)))
    rows, scores, total = [], [], 0
    for some, similarities in _compare(embeddings, nearest, len(centers), threshold):
        total += len(some)
        if total > _MOST_PAIRS:
            raise NearfarError(
                f"more than {_MOST_PAIRS:,} pairs have a similarity of {threshold} or more: "
                "expected a higher threshold"
            )
        rows.append(some)
        scores.append(similarities)
    keys, first = np.unique(np.concatenate(rows), return_index=True)
    pairs = np.stack([keys // n, keys % n], 1)
    seconds = time.perf_counter() - start
    recall = _recall(embeddings, threshold, keys, seed)
    return NearPairs(pairs, np.concatenate(scores)[first], recall, seconds)


def _unit(embeddings: npt.NDArray[np.floating], rows: slice | Rows) -> Tensor:
    """Return the embeddings in the given rows, scaled to unit length (float32[m, d])."""
    return normalize(torch.from_numpy(np.array(embeddings[rows], np.float32)), eps=ZERO_NORM)


def _centers(embeddings: npt.NDArray[np.floating], seed: int) -> Tensor:
    """Return k-means centers (float32[K, d]); up to 16,384 embeddings form a single cluster."""
    n, d = embeddings.shape
    clusters = round(_CLUSTERS * n**0.5) if n > _EXACT else 1
    if clusters == 1:
        return torch.zeros(1, d)
    size = min(n, _SAMPLE_PER_CLUSTER * clusters)
    sample = np.sort(np.random.default_rng(seed).choice(n, size, replace=False))
    generator = torch.Generator().manual_seed(seed)
    return kmeans(_unit(embeddings, sample), clusters, generator, iterations=_ITERATIONS)


def _nearest_clusters(
    embeddings: npt.NDArray[np.floating], centers: Tensor, count: int
) -> npt.NDArray[np.int32]:
    """Return the `count` clusters with the nearest centers per row (int32[n, count]).

    The nearest cluster is first.
    """
    halves, room = centers.square().sum(1) / 2, torch.empty(_QUERIES, len(centers))
    found = np.empty((len(embeddings), count), np.int32)
    for start in range(0, len(embeddings), CHUNK):
        points = _unit(embeddings, slice(start, start + CHUNK))
        if not points.isfinite().all():
            raise NearfarError(
                f"embeddings hold NaN or infinity in rows {start} to {start + len(points) - 1}"
            )
        place = start
        for some in points.split(_QUERIES):
            scores = torch.addmm(-halves, some, centers.T, out=room[: len(some)])
            best = scores.topk(count).indices
            found[place : place + len(some)] = best.numpy()
            place += len(some)
    return found


def _compare(
    embeddings: npt.NDArray[np.floating],
    nearest: npt.NDArray[np.int32],
    clusters: int,
    threshold: float,
) -> Iterator[tuple[Rows, npt.NDArray[np.float32]]]:
    """Yield arrays of similar pairs and of their similarities; some pairs occur twice.

    A pair of rows a < b is encoded as the integer a·n + b.
    """
    n = len(embeddings)
    members = _by_cluster(nearest[:, :1], clusters)
    visitors = _by_cluster(nearest[:, 1:], clusters)
    room = torch.empty(_QUERIES * max(map(len, members)))  # reused, to avoid page faults
    for own, others in zip(members, visitors, strict=True):
        if not len(own):
            continue
        keys = _unit(embeddings, own)
        for rows in (own, others):
            for start in range(0, len(rows), _QUERIES):
                some = rows[start : start + _QUERIES]
                inside = rows is own
                queries = keys[start : start + _QUERIES] if inside else _unit(embeddings, some)
                products = room[: len(some) * len(own)].view(len(some), len(own))
                torch.mm(queries, keys.T, out=products)
                values = products.numpy().reshape(-1)
                hits = np.flatnonzero(values >= threshold)
                a, b, values = some[hits // len(own)], own[hits % len(own)], values[hits]
                if inside:  # each pair once, and no row with itself
                    once = a < b
                    a, b, values = a[once], b[once], values[once]
                yield np.minimum(a, b) * n + np.maximum(a, b), values


def _by_cluster(chosen: npt.NDArray[np.int32], clusters: int) -> list[Rows]:
    """Return the rows of each cluster, given the clusters of each row (int32[n, count])."""
    flat = chosen.reshape(-1)
    order = flat.argsort(kind="stable")
    bounds = np.searchsorted(flat[order], np.arange(1, clusters))
    return np.split(order // max(chosen.shape[1], 1), bounds)


def _recall(embeddings: npt.NDArray[np.floating], threshold: float, keys: Rows, seed: int) -> float:
    """Return the share of the exact pairs of 256 random rows that are in `keys`.

    `keys` holds the pairs of rows a < b as sorted integers a·n + b.
    """
    n = len(embeddings)
    rows = np.random.default_rng(seed + 1).choice(n, min(n, _MEASURED), replace=False)
    queries, total, hits = _unit(embeddings, rows), 0, 0
    for start in range(0, n, CHUNK):
        products = queries @ _unit(embeddings, slice(start, start + CHUNK)).T
        own, others = (products >= threshold).nonzero().numpy().T
        a, b = rows[own], others + start
        a, b = a[a != b], b[a != b]
        exact = np.minimum(a, b) * n + np.maximum(a, b)
        total += len(exact)
        hits += _count_in(exact, keys)
    return hits / total if total else float("nan")


def _count_in(wanted: Rows, keys: Rows) -> int:
    """Return how many of the `wanted` values occur in the sorted array `keys`."""
    places = np.searchsorted(keys, wanted)
    inside = places < len(keys)
    return int((keys[places[inside]] == wanted[inside]).sum())
