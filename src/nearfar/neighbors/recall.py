"""Quality of a finder relative to exact search."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from nearfar.neighbors.exact_finder import ExactFinder
from nearfar.neighbors.finder import Finder

#: Share of the rows that count as hubs: the rows drawn most often.
HUB_FRACTION = 0.01


class FinderQuality(NamedTuple):
    """Recall of a finder, and share of hubs among the far rows that it returns.

    Hubs are the 1% of the rows that are returned most often as far rows.

    Attributes
    ----------
    recall : float
        Recall@T, the share of the exact near rows that the finder returns, between 0 and 1.
        Duplicate images reduce the recall, because exact search may return either of two equally
        similar rows.
    far_hubs : float
        Share of the returned far rows that are hubs, between 0 and 1. If fewer far rows are
        returned than the bank has rows, the number of hubs is 1% of the returned far rows. The
        share is 1 if all queries have the same far row, 0.01 if all rows are returned equally
        often, and about 0.04 for one uniformly random far row per row of the bank.
    exact_far_hubs : float
        `far_hubs` of the exact finder, for comparison.

    Examples
    --------
    >>> FinderQuality(recall=0.98, far_hubs=0.04, exact_far_hubs=0.5).recall
    0.98
    """

    recall: float
    far_hubs: float
    exact_far_hubs: float


def compare_finders(
    finder: Finder, exact: ExactFinder, queries: Tensor, query_rows: Tensor
) -> FinderQuality:
    """Return the quality of a finder relative to exact search.

    Parameters
    ----------
    finder : Finder
        Finder to measure, already fitted to a bank.
    exact : ExactFinder
        Exact finder with the same T, fitted to the same bank.
    queries : float[b, d]
        Query embeddings. A few thousand are enough to measure recall.
    query_rows : int64[b]
        Row number of each query in the bank, or −1 for a query outside the bank. The row is
        excluded from the result of the query.

    Examples
    --------
    >>> from nearfar.neighbors import ClusteredFinder, ExactFinder, fit_similarity
    >>> bank, rows = torch.randn(200, 4), torch.arange(200)
    >>> cosine = fit_similarity("cosine", bank)
    >>> finder, exact = ClusteredFinder(1, clusters=1), ExactFinder(1)
    >>> compare_finders(finder.fit(bank, cosine), exact.fit(bank, cosine), bank, rows).recall
    1.0
    """
    found, right = finder.search(queries, query_rows), exact.search(queries, query_rows)
    hits = sum((found.near == row[:, None]).any(1).sum().item() for row in right.near.unbind(1))
    return FinderQuality(
        recall=hits / right.near.numel(),
        far_hubs=_hubs(found.far, exact.rows),
        exact_far_hubs=_hubs(right.far, exact.rows),
    )


def _hubs(picks: Tensor, rows: int) -> float:
    """Return the share of hubs among the far rows `picks`; the bank has `rows` rows."""
    count = max(1, round(HUB_FRACTION * min(rows, picks.numel())))
    hubs = torch.bincount(picks.flatten(), minlength=rows).topk(count).values
    return hubs.sum().item() / picks.numel()
