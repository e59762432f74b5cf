"""Quality of a finder relative to exact search."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from nearfar.neighbors.exact import ExactFinder
from nearfar.neighbors.finder import Finder

#: Share of the rows that count as hubs: the rows drawn most often.
HUB_SHARE = 0.01


class FinderQuality(NamedTuple):
    """Recall of a finder, and the share of hubs among its far rows.

    Attributes
    ----------
    recall : float
        Recall@T, the share of the exact near rows that the finder found, 0…1. Duplicate images
        lower it, since either of two equally similar rows may be the exact one.
    far_hubs : float
        Share of hubs among all far rows, 0…1. Hubs are the 1 % of rows drawn most often; with fewer
        draws than rows, their number is 1 % of the draws. The share is 1 if all queries get the
        same row, 0.01 if draws are spread evenly, and about 0.04 for uniformly random draws, one
        per row.
    exact_far_hubs : float
        Value of `far_hubs` for the exact finder.

    Examples
    --------
    >>> FinderQuality(recall=0.98, far_hubs=0.04, exact_far_hubs=0.5).recall
    0.98
    """

    recall: float
    far_hubs: float
    exact_far_hubs: float


def compare_finders(
    finder: Finder, exact: ExactFinder, queries: Tensor, own: Tensor
) -> FinderQuality:
    """Return the quality of a finder relative to exact search.

    Parameters
    ----------
    finder : Finder
        Finder to measure, fitted to a bank.
    exact : ExactFinder
        Exact finder with the same T, fitted to the same bank.
    queries : float[b, d]
        Embeddings to search for; a few thousand suffice for the recall.
    own : int64[b]
        Row of the query itself in the bank, left out of its results; −1 if it is not there.

    Examples
    --------
    >>> from nearfar.neighbors import ClusteredFinder, ExactFinder, fit_similarity
    >>> bank, rows = torch.randn(200, 4), torch.arange(200)
    >>> cosine = fit_similarity("cosine", bank)
    >>> finder, exact = ClusteredFinder(1, clusters=1), ExactFinder(1)
    >>> compare_finders(finder.fit(bank, cosine), exact.fit(bank, cosine), bank, rows).recall
    1.0
    """
    found, right = finder.search(queries, own), exact.search(queries, own)
    hits = sum((found.near == row[:, None]).any(1).sum().item() for row in right.near.unbind(1))
    return FinderQuality(
        recall=hits / right.near.numel(),
        far_hubs=_hubs(found.far, exact.rows),
        exact_far_hubs=_hubs(right.far, exact.rows),
    )


def _hubs(picks: Tensor, rows: int) -> float:
    """Return the share of draws that are hubs."""
    count = max(1, round(HUB_SHARE * min(rows, picks.numel())))
    hubs = torch.bincount(picks.flatten(), minlength=rows).topk(count).values
    return hubs.sum().item() / picks.numel()
