"""Exact search: all queries against all rows of the bank."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from nearfar.neighbors.bank import CHUNK, Bank, bank_chunks
from nearfar.neighbors.finder import (
    SINGLE_PROCESS,
    Neighbors,
    Workers,
    check_count,
    check_enough_rows,
)
from nearfar.neighbors.keys import Keys, factor, inner_products
from nearfar.neighbors.similarity import Similarity

#: Rows per group. Groups are compared first, by their extremes. A divisor of the rows read at once.
GROUP = 16

#: Queries and keys to multiply at once, so that the products fit into the CPU cache.
QUERIES = 512
CPU_KEYS = 1024

#: Maximum number of values in the candidate rows to rank at once.
CANDIDATES = 2**20


class ExactFinder:
    """Finder of the T most similar and the T least similar rows of the bank (Eq. 2 and 3).

    The inner products of the queries with all rows are computed, but only the maximum and the
    minimum of each group of 16 rows are kept. The T best rows are in the T + 1 groups with the best
    extremes; one group is added because the row of the query itself is excluded. Therefore only the
    rows of these groups are ranked. The result is exact up to rounding errors in the products.

    For a bank of at most 1 GiB, the keys of all rows are kept in memory; for a larger bank, memory
    use is independent of n. Each search reads the whole bank. With a bank on disk, search for many
    queries at once.

    Parameters
    ----------
    count : int
        Number of near rows and of far rows per query, T ≥ 1.
    includes_queries : bool
        Whether the queries are rows of the bank. If so, T is at most n − 1; otherwise, at most n.

    Raises
    ------
    NearfarError
        If `count` is below 1.

    Examples
    --------
    >>> from nearfar.neighbors import ExactFinder, fit_similarity
    >>> bank = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.5, 0.5], [0.0, 1.0]])
    >>> finder = ExactFinder(1).fit(bank, fit_similarity("cosine", bank))
    >>> near, far = finder.search(bank, query_rows=torch.arange(4))
    >>> near.squeeze(1).tolist(), far.squeeze(1).tolist()
    ([1, 0, 1, 2], [3, 3, 3, 0])
    """

    def __init__(self, count: int, *, includes_queries: bool = True) -> None:
        check_count(count)
        self.count, self.includes_queries = count, includes_queries

    def check(self, rows: int) -> None:
        """See `Finder.check`."""
        check_enough_rows(self.count, rows + (not self.includes_queries))

    @torch.no_grad()
    def fit(self, bank: Bank, similarity: Similarity, workers: Workers = SINGLE_PROCESS) -> Self:
        """See `Finder.fit`."""
        self.check(len(bank))
        self._similarity = similarity
        self._keys = Keys(bank, similarity)
        self._chunks = list(bank_chunks(bank))
        return self

    @property
    def rows(self) -> int:
        """Number of rows n of the bank."""
        return len(self._keys)

    def query_order(self) -> Tensor:
        """See `Finder.query_order`. The order of the bank is unchanged."""
        return torch.arange(self.rows, device=self._keys.device)

    @torch.no_grad()
    def search(self, queries: Tensor, query_rows: Tensor, draw: int = 0) -> Neighbors:
        """See `Finder.search`. `draw` has no effect."""
        device = self._keys.device
        with torch.autocast(device.type, enabled=False):
            points = self._similarity.queries(queries.to(device, torch.float32))
            groups = self._best_groups(points)
            near, far = self._best_rows(groups, points, query_rows.to(device)).to(queries.device)
        return Neighbors(near, far)

    def _best_groups(self, queries: Tensor) -> Tensor:
        """Return the T + 1 groups with the largest and with the smallest products per query.

        The result is int64[2, T + 1, b].
        """
        blocks = queries.split(QUERIES)
        factors = [factor(block) for block in blocks]
        extremes = [block.new_empty(2, 0, len(block)) for block in blocks]
        groups = [block.long() for block in extremes]
        at_once = CPU_KEYS if queries.device.type == "cpu" else CHUNK
        for chunk in self._chunks:
            keys = [factor(_complete(block)) for block in self._keys[chunk].split(at_once)]
            for i, block in enumerate(factors):
                here = _extremes(keys, block)
                best = _best(here, self.count + 1)
                extremes[i] = torch.cat([extremes[i], here.gather(1, best)], dim=1)
                groups[i] = torch.cat([groups[i], best + chunk.start // GROUP], dim=1)
                best = _best(extremes[i], self.count + 1)
                extremes[i], groups[i] = extremes[i].gather(1, best), groups[i].gather(1, best)
        return torch.cat(groups, dim=2)

    def _best_rows(self, groups: Tensor, queries: Tensor, query_rows: Tensor) -> Tensor:
        """Return the near and far rows (int64[2, b, T]) in the given groups (int64[2, g, b])."""
        at_once = max(1, CANDIDATES // (groups.shape[1] * GROUP * queries.shape[1]))
        members = torch.arange(GROUP, device=groups.device)
        parts = []
        for some, points, excluded in zip(
            groups.transpose(1, 2).split(at_once, dim=1),
            queries.split(at_once),
            query_rows.split(at_once),
            strict=True,
        ):
            rows = (some[..., None] * GROUP + members).flatten(2)
            unwanted = (rows == excluded[:, None]) | (rows >= self.rows)
            keys = self._keys[rows.clamp(max=self.rows - 1)]
            similarities = (keys @ points[:, :, None]).squeeze(-1)
            similarities[1].neg_()
            best = similarities.masked_fill_(unwanted, -torch.inf).topk(self.count).indices
            parts.append(rows.gather(-1, best))
        return torch.cat(parts, dim=1)


def _complete(keys: Tensor) -> Tensor:
    """Pad keys to complete groups with copies of the last key."""
    missing = -len(keys) % GROUP
    return torch.cat([keys, keys[-1:].expand(missing, -1)]) if missing else keys


def _extremes(keys: list[Tensor], queries: Tensor) -> Tensor:
    """Return the largest and the negated smallest product per group and query.

    The result is float[2, groups, b]. The number of groups is padded with −∞ to a multiple of
    `GROUP`.
    """
    width = len(queries)
    groups = sum(len(block) for block in keys) // GROUP
    extremes = torch.full((2, groups + -groups % GROUP, width), -torch.inf, device=queries.device)
    start = 0
    for block in keys:
        products = inner_products(block, queries).view(-1, GROUP, width)
        here = slice(start, start + len(products))
        torch.amax(products, 1, out=extremes[0, here])
        torch.amin(products, 1, out=extremes[1, here]).neg_()
        start = here.stop
    return extremes


def _best(values: Tensor, count: int) -> Tensor:
    """Return the positions of the `count` largest values along the second dimension.

    `values` is float[2, m, b], and the result is int64[2, count, b]. As in `ExactFinder`, only the
    groups with the largest maxima are ranked.
    """
    if len(values[0]) < 4 * GROUP * count or len(values[0]) % GROUP:
        return values.topk(min(count, len(values[0])), dim=1).indices
    groups = _best(values.unflatten(1, (-1, GROUP)).amax(2), count)
    members = torch.arange(GROUP, device=values.device)[:, None]
    places = (groups[:, :, None] * GROUP + members).flatten(1, 2)
    return places.gather(1, values.gather(1, places).topk(count, dim=1).indices)
