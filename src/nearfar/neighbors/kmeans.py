"""k-means clustering, used to partition the bank for the clustered search."""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import Tensor

from nearfar.neighbors.bank import bank_chunks
from nearfar.neighbors.keys import factor, inner_products

#: Maximum number of iterations of Lloyd's algorithm.
KMEANS_ITERATIONS = 25

#: Points to compare with all centers at once, on CPUs and on other devices.
CPU_POINTS = 1024
POINTS = 65_536


def kmeans(
    points: Tensor,
    clusters: int,
    generator: torch.Generator,
    *,
    iterations: int = KMEANS_ITERATIONS,
) -> Tensor:
    """Return k-means centers, computed by Lloyd's algorithm from random points as initial centers.

    As in scikit-learn, the center of an empty cluster is moved to the point that is farthest from
    the center of its own cluster.

    Parameters
    ----------
    points : float[n, d]
        Points to cluster.
    clusters : int
        Number of clusters K, from 1 to n.
    generator : torch.Generator
        Random generator on the CPU for the initial centers.
    iterations : int
        Maximum number of iterations.

    Returns
    -------
    float[K, d]
        Centers of the clusters.
    """
    centers = points[torch.randperm(len(points), generator=generator)[:clusters].to(points.device)]
    labels = None
    for _ in range(iterations):
        previous, labels = labels, nearest(points, centers)
        if previous is not None and torch.equal(labels, previous):
            break
        sizes = torch.bincount(labels, minlength=clusters)
        sums = torch.zeros_like(centers).index_add_(0, labels, points)
        empty = sizes == 0
        if empty.any():
            parts = [
                (points[some] - centers[labels[some]]).square_().sum(1)
                for some in bank_chunks(points)
            ]
            distances = torch.cat(parts)
            sums[empty] = points[distances.topk(int(empty.sum())).indices]
        centers = sums / sizes.clamp(min=1)[:, None]
    return centers


def nearest(points: Tensor, centers: Tensor) -> Tensor:
    """Return the index of the nearest center for each point (int64[b]).

    On CPUs, faiss is used if installed, otherwise torch. The results differ only for ties.

    Parameters
    ----------
    points : float[b, d]
        Points to assign.
    centers : float[K, d]
        Centers of the clusters.
    """
    if points.device.type == "cpu" and find_spec("faiss"):
        return _nearest_by_faiss(points, centers)
    return _nearest_by_torch(points, centers)


def _nearest_by_torch(points: Tensor, centers: Tensor) -> Tensor:
    halves = centers.square().sum(1) / 2
    at_once = CPU_POINTS if points.device.type == "cpu" else POINTS
    factors = factor(centers)
    return torch.cat(
        [
            (inner_products(factor(some), factors) - halves).max(1).indices
            for some in points.split(at_once)
        ]
    )


def _nearest_by_faiss(points: Tensor, centers: Tensor) -> Tensor:
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())
    index = faiss.IndexFlatL2(centers.shape[1])
    index.add(centers.numpy())
    return torch.from_numpy(index.search(points.numpy(), 1)[1][:, 0])
