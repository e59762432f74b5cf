"""The exact search: every query against every row of the bank."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from nearfar.neighbors.bank import CHUNK, Bank, bank_chunks
from nearfar.neighbors.finder import ALONE, Neighbors, Workers, check_count, check_enough_rows
from nearfar.neighbors.keys import Keys, factor, inner_products
from nearfar.neighbors.similarity import Similarity

#: Things that are first judged together, by the best of them; a divisor of what is read at once.
GROUP = 16

#: Queries and keys that are multiplied at once: on a CPU the products stay in its cache.
QUERIES = 512
CPU_KEYS = 1024

#: Numbers in the candidates that are compared in full at once.
CANDIDATES = 2**20


class ExactFinder:
    """Finds the T most and the T least similar rows of the whole bank (Eq. 2 and 3).

    Both ends come from one product with the bank, of which only the largest and the smallest
    entry of each group of 16 rows are kept. The T best rows lie in the T groups with the best
    extremes (T + 1 to make up for the own row, which may be an extreme), so only the rows of
    those groups are compared in full. The answer is exact up to the rounding of the products.

    Memory does not grow with n beyond the keys, which are held only if they take less than 1 GiB.
    The bank is read once a search, so a bank on disk wants many queries at once.

    Parameters
    ----------
    count : int
        T, the number of near and of far rows, ≥ 1.

    Raises
    ------
    NearfarError
        If `count` is less than 1.
    """

    def __init__(self, count: int) -> None:
        check_count(count)
        self.count = count

    def check(self, rows: int) -> None:
        """See `Finder`."""
        check_enough_rows(self.count, rows)

    @torch.no_grad()
    def fit(self, bank: Bank, similarity: Similarity, workers: Workers = ALONE) -> Self:
        """See `Finder`."""
        self.check(len(bank))
        self._similarity = similarity
        self._keys = Keys(bank, similarity)
        self._chunks = list(bank_chunks(bank))
        return self

    @property
    def rows(self) -> int:
        """n, the number of rows of the bank."""
        return len(self._keys)

    def order(self) -> Tensor:
        """See `Finder`; as in the bank."""
        return torch.arange(self.rows, device=self._keys.device)

    @torch.no_grad()
    def search(self, queries: Tensor, own: Tensor, draw: int = 0) -> Neighbors:
        """See `Finder`; `draw` changes nothing."""
        device = self._keys.device
        with torch.autocast(device.type, enabled=False):
            points = self._similarity.queries(queries.to(device, torch.float32))
            groups = self._best_groups(points)
            near, far = self._best_rows(groups, points, own.to(device)).to(queries.device)
        return Neighbors(near, far)

    def _best_groups(self, queries: Tensor) -> Tensor:
        """Groups with the largest, and those with the smallest products, int64[2, T + 1, b]."""
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

    def _best_rows(self, groups: Tensor, queries: Tensor, own: Tensor) -> Tensor:
        """Near and far rows, int64[2, b, T], among those of some groups, int64[2, g, b]."""
        at_once = max(1, CANDIDATES // (groups.shape[1] * GROUP * queries.shape[1]))
        members = torch.arange(GROUP, device=groups.device)
        found = []
        for some, points, excluded in zip(
            groups.transpose(1, 2).split(at_once, dim=1),
            queries.split(at_once),
            own.split(at_once),
            strict=True,
        ):
            rows = (some[..., None] * GROUP + members).flatten(2)
            unwanted = (rows == excluded[:, None]) | (rows >= self.rows)
            keys = self._keys[rows.clamp(max=self.rows - 1)]
            similarities = (keys @ points[:, :, None]).squeeze(-1)
            similarities[1].neg_()
            best = similarities.masked_fill_(unwanted, -torch.inf).topk(self.count).indices
            found.append(rows.gather(-1, best))
        return torch.cat(found, dim=1)


def _complete(keys: Tensor) -> Tensor:
    """Keys with the last one repeated to make groups of full size."""
    missing = -len(keys) % GROUP
    return torch.cat([keys, keys[-1:].expand(missing, -1)]) if missing else keys


def _extremes(keys: list[Tensor], queries: Tensor) -> Tensor:
    """The largest product of each group and the negative of the smallest, float[2, groups, b].

    Filled up with −∞ to a whole number of groups of groups.
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
    """Places of the `count` largest values of each column, int64[2, count, b] of float[2, m, b].

    As with the rows, the best values lie in the groups with the best extremes.
    """
    if len(values[0]) < 4 * GROUP * count or len(values[0]) % GROUP:
        return values.topk(min(count, len(values[0])), dim=1).indices
    groups = _best(values.unflatten(1, (-1, GROUP)).amax(2), count)
    members = torch.arange(GROUP, device=values.device)[:, None]
    places = (groups[:, :, None] * GROUP + members).flatten(1, 2)
    return places.gather(1, values.gather(1, places).topk(count, dim=1).indices)
