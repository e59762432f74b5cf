"""Quality of a finder, measured against the exact one."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from nearfar.neighbors.exact import ExactFinder
from nearfar.neighbors.finder import Finder

#: Share of the rows that count as hubs: those drawn most often.
HUB_SHARE = 0.01


class FinderQuality(NamedTuple):
    """Quality of a finder.

    Attributes
    ----------
    recall : float
        Recall@T, share of the exact near rows that the finder found, in [0, 1]. Duplicates lower
        it, since either of two equally similar rows may be the exact one.
    far_hubs : float
        Share of all far rows that fall on hubs, the 1 % of the rows drawn most often (1 % of the
        draws, if these are fewer). It is 1 if all queries get one row, 0.01 if draws are spread
        evenly, and about 0.04 by chance at one draw per row.
    exact_far_hubs : float
        `far_hubs` of the exact finder.

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
    """Measure a finder against the exact one.

    Parameters
    ----------
    finder, exact : Finder
        Finder to measure, and exact finder, fitted to the same bank with the same T.
    queries : float[b, d]
        Embeddings to search with; a few thousand suffice for the recall.
    own : int64[b]
        Row of each query in the bank, which is excluded; −1 to exclude none.

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
    """Return the share of draws that fall on hubs."""
    count = max(1, round(HUB_SHARE * min(rows, picks.numel())))
    hubs = torch.bincount(picks.flatten(), minlength=rows).topk(count).values
    return hubs.sum().item() / picks.numel()
