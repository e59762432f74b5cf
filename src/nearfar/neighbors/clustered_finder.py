"""Clustered search as in the paper: near rows in the same cluster, far ones in distant clusters."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from nearfar.errors import NearfarError
from nearfar.neighbors.bank import Bank, bank_chunks, rows_at_once
from nearfar.neighbors.counter_rng import stratified_draws
from nearfar.neighbors.finder import (
    SINGLE_PROCESS,
    Neighbors,
    Workers,
    check_count,
    check_enough_rows,
)
from nearfar.neighbors.keys import Keys
from nearfar.neighbors.kmeans import kmeans, nearest
from nearfar.neighbors.similarity import Similarity

#: k-means sample: rows per cluster, as in faiss, and maximum number of values in total.
KMEANS_SAMPLE_PER_CLUSTER = 256
KMEANS_SAMPLE_NUMBERS = 2**28

#: Maximum numbers of queries and of similarities per batch of the search.
QUERIES = 1024
SIMILARITIES = 2**26


class ClusteredFinder:
    """Finder of near rows in the same cluster and of random far rows in distant clusters (§3.1).

    The bank is partitioned by k-means. Near rows are the T most similar rows in the cluster of the
    query. For a query outside the bank, this is the cluster with the nearest center. Far rows are
    drawn at random from the farthest clusters, which make up the share `far_share` of all other
    clusters. The drawn rows depend only on `seed`, on `draw` and on the row number of the query.
    (For a query outside the bank, its position among the queries replaces the row number.) The
    result is therefore independent of the batches and of the number of processes.

    Clusters with at most T rows are dissolved: each row is assigned to the nearest larger cluster.
    With one cluster, near rows are exact, and far rows are drawn from all other rows.

    Parameters
    ----------
    count : int
        Number of near rows and of far rows per query, T ≥ 1.
    clusters : int, optional
        Number of clusters K before small clusters are dissolved, ≥ 1. Default: about √n.
    far_share : float
        Share of the other clusters from which far rows are drawn, in (0, 1]. At least one cluster
        is used.
    seed : int
        Seed of the initial centers and of the far rows, ≥ 0.

    Raises
    ------
    NearfarError
        If a parameter is out of range.

    Examples
    --------
    >>> from nearfar.neighbors import ClusteredFinder, fit_similarity
    >>> bank = torch.randn(100, 8)
    >>> finder = ClusteredFinder(2, clusters=5).fit(bank, fit_similarity("cosine", bank))
    >>> near, far = finder.search(bank[:3], query_rows=torch.arange(3))
    >>> near.shape, far.shape
    (torch.Size([3, 2]), torch.Size([3, 2]))
    """

    def __init__(
        self, count: int, clusters: int | None = None, far_share: float = 0.1, seed: int = 0
    ) -> None:
        check_count(count)
        if clusters is not None and clusters < 1:
            raise NearfarError(f"clusters={clusters} is too few: expected at least 1")
        if not 0 < far_share <= 1:
            raise NearfarError(f"far_share={far_share} is not a share: expected 0 < far_share ≤ 1")
        self.count = count
        self.clusters = clusters
        self.far_share = far_share
        self.seed = seed

    def check(self, rows: int) -> None:
        """See `Finder.check`. Clusters need at least T + 1 rows on average."""
        check_enough_rows(self.count, rows)
        most = rows // (self.count + 1)
        if self.clusters is not None and self.clusters > most:
            raise NearfarError(
                f"clusters={self.clusters} is too many: {rows} images make at most {most} clusters"
                f" with neighbors={self.count}; reduce one of them"
            )

    def n_clusters(self, rows: int) -> int:
        """Return the number of clusters K for a bank of `rows` rows.

        Small clusters are not yet dissolved.
        """
        return self.clusters or min(round(rows**0.5), rows // (self.count + 1))

    @torch.no_grad()
    def fit(self, bank: Bank, similarity: Similarity, workers: Workers = SINGLE_PROCESS) -> Self:
        """See `Finder.fit`."""
        self.check(len(bank))
        self._similarity = similarity
        with torch.autocast(bank.device.type, enabled=False):
            self._partition(bank, self.n_clusters(len(bank)), workers)
            self._order = self._cluster_of.argsort(stable=True)
            self._keys = Keys(bank, similarity, self._order)
            self._rank_clusters()
        self._place_of = self._order.argsort()
        return self

    def query_order(self) -> Tensor:
        """See `Finder.query_order`. Rows are sorted by cluster."""
        return self._order

    @torch.no_grad()
    def search(self, queries: Tensor, query_rows: Tensor, draw: int = 0) -> Neighbors:
        """See `Finder.search`."""
        device = self._keys.device
        query_rows = query_rows.to(device)
        with torch.autocast(device.type, enabled=False):
            points = self._similarity.queries(queries.to(device, torch.float32))
            clusters = self._cluster_of[query_rows]
            if len(new := (query_rows < 0).nonzero().squeeze(1)):
                clusters[new] = nearest(points[new], self._centers)
            near = self._near(points, query_rows, clusters)
        far = self._far(query_rows, clusters, draw)
        return Neighbors(near.to(queries.device), far.to(queries.device))

    def are_far(self, rows: Tensor) -> Tensor:
        """Return a matrix (bool[b, b]): whether `rows[j]` can be drawn as a far row of `rows[i]`.

        Parameters
        ----------
        rows : int64[b]
            Row numbers in the bank.
        """
        clusters = self._cluster_of[rows]
        # A single cluster counts as far from itself; a row never does.
        return self._are_far[clusters[:, None], clusters] & (rows[:, None] != rows)

    def _partition(self, bank: Bank, clusters: int, workers: Workers) -> None:
        """Assign each row of the bank to a cluster of more than T rows."""
        centers = self._learn_centers(bank, clusters, workers)
        mine = workers.rank_rows(len(bank))
        cluster_of = torch.zeros(len(bank), dtype=torch.int64, device=bank.device)
        rows = torch.arange(mine.start, mine.stop, device=bank.device)
        cluster_of[mine.start : mine.stop] = self._assign(bank, rows, centers)
        cluster_of = workers.all_sum(cluster_of)

        large = torch.bincount(cluster_of, minlength=clusters) > self.count
        dissolved = (~large[cluster_of]).nonzero().squeeze(1)
        self._centers = centers[large]
        self._cluster_of = (large.cumsum(0) - 1)[cluster_of]
        if len(dissolved):
            self._cluster_of[dissolved] = self._assign(bank, dissolved, self._centers)

    def _learn_centers(self, bank: Bank, clusters: int, workers: Workers) -> Tensor:
        """Return k-means centers (float[K, d]), which one process computes from a sample."""
        width = self._similarity.queries(bank[:1].float()).shape[1]
        if not workers.rank_rows(1):
            return workers.all_sum(torch.zeros(clusters, width, device=bank.device))
        generator = torch.Generator().manual_seed(self.seed)
        size = max(
            clusters, min(KMEANS_SAMPLE_PER_CLUSTER * clusters, KMEANS_SAMPLE_NUMBERS // width)
        )
        sample = torch.randperm(len(bank), generator=generator)[:size].sort().values
        sample = sample.to(bank.device)
        points = torch.empty(len(sample), width, device=bank.device)
        for here in bank_chunks(points):
            # The Euclidean distance between queries increases as their similarity decreases.
            points[here] = self._similarity.queries(bank[sample[here]].float())
        return workers.all_sum(kmeans(points, clusters, generator))

    def _assign(self, bank: Bank, rows: Tensor, centers: Tensor) -> Tensor:
        """Return the number of the nearest center for each of the given rows (int64[m])."""
        cluster_of = torch.empty_like(rows)
        at_once = rows_at_once(bank.shape[1])
        for some, out in zip(rows.split(at_once), cluster_of.split(at_once), strict=True):
            out.copy_(nearest(self._similarity.queries(bank[some].float()), centers))
        return cluster_of

    def _rank_clusters(self) -> None:
        """Determine the pool of far rows of each cluster: all rows of the farthest clusters."""
        sizes = torch.bincount(self._cluster_of)
        starts = sizes.cumsum(0) - sizes
        self._starts = starts
        self._widest = int(sizes.max())
        self._bounds = [*starts.tolist(), len(self._keys)]
        distances = torch.cdist(self._centers, self._centers).fill_diagonal_(-1)
        pools = max(1, round(self.far_share * (len(sizes) - 1)))
        far = distances.topk(pools).indices
        self._are_far = torch.zeros_like(distances, dtype=torch.bool).scatter_(1, far, True)
        self._pool_ends = sizes[far].cumsum(1)
        self._pool_shifts = starts[far] - (self._pool_ends - sizes[far])

    def _near(self, queries: Tensor, query_rows: Tensor, clusters: Tensor) -> Tensor:
        """Return the T most similar rows in the cluster of each query (int64[b, T])."""
        order = clusters.argsort(stable=True)
        at_once = min(QUERIES, len(order), max(1, SIMILARITIES // self._widest))
        room = queries.new_empty(at_once, self._widest)
        near = torch.empty(len(queries), self.count, dtype=torch.int64, device=queries.device)
        for some in order.split(at_once):
            near[some] = self._near_of_sorted(queries[some], query_rows[some], clusters[some], room)
        return near

    def _near_of_sorted(
        self, queries: Tensor, query_rows: Tensor, clusters: Tensor, room: Tensor
    ) -> Tensor:
        """Return the near rows of queries that are sorted by cluster.

        `room` is a buffer for the similarities.
        """
        present, counts = torch.unique_consecutive(clusters, return_counts=True)
        slabs = [(self._bounds[i], self._bounds[i + 1]) for i in present.tolist()]
        width = max(end - start for start, end in slabs)
        similarities = room[: len(queries), :width].fill_(-torch.inf)
        sizes = counts.tolist()
        for (start, end), some, out in zip(
            slabs, queries.split(sizes), similarities.split(sizes), strict=True
        ):
            self._keys.multiply(some, slice(start, end), out[:, : end - start])
        starts = self._starts[clusters]
        known = (query_rows >= 0).nonzero().squeeze(1)
        similarities[known, self._place_of[query_rows[known]] - starts[known]] = -torch.inf
        return self._order[similarities.topk(self.count).indices + starts[:, None]]

    def _far(self, query_rows: Tensor, clusters: Tensor, draw: int) -> Tensor:
        """Return T random rows from the pool of the cluster of each query (int64[b, T])."""
        counters = torch.where(
            query_rows >= 0, query_rows, torch.arange(len(query_rows), device=query_rows.device)
        )
        # Only the pool of a single cluster contains the own row, which the draw skips.
        within = (query_rows >= 0) & (len(self._centers) == 1)
        totals = self._pool_ends[clusters, -1] - within.long()
        draws = stratified_draws(counters, totals, self.count, seed=self.seed, draw=draw)
        places = torch.cat(
            [
                some
                + self._pool_shifts[of].gather(
                    1, torch.searchsorted(self._pool_ends[of], some, right=True)
                )
                for some, of in zip(draws.split(QUERIES), clusters.split(QUERIES), strict=True)
            ]
        )
        places += within[:, None] & (places >= self._place_of[query_rows][:, None])
        return self._order[places]
