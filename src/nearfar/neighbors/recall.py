"""How good a finder is, measured against the exact one."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from nearfar.neighbors.exact import ExactFinder
from nearfar.neighbors.finder import Finder

#: The share of the rows, those picked most often, that could be hubs.
HUB_SHARE = 0.01


class FinderQuality(NamedTuple):
    """A finder beside the exact one.

    Attributes
    ----------
    recall : float
        Recall@T: the share of the exact near rows that the finder found too, in [0, 1]. Of rows
        that are equally similar either may be the exact one, so many duplicates lower it.
    far_hubs : float
        The share of all far picks that fall on the rows picked most often: 1 % of the rows, or as
        many as 1 % of the picks if there are fewer picks than rows. It is 1 if one row is picked
        for all, and 0.01 if the picks are spread evenly. Chance alone makes it about 0.04 where
        each row is picked once on average.
    exact_far_hubs : float
        The same of the exact finder.
    """

    recall: float
    far_hubs: float
    exact_far_hubs: float


def compare_finders(
    finder: Finder, exact: ExactFinder, queries: Tensor, own: Tensor
) -> FinderQuality:
    """Measure one finder against the exact one; both are fitted to the same bank, with the same T.

    Parameters
    ----------
    finder, exact : Finder
        The finder in question and the one that is always right.
    queries : float[b, d]
        Embeddings to search with; of a large bank some thousand rows are enough for the recall.
    own : int64[b]
        The row of the bank that each query must not get, or −1.
    """
    found, right = finder.search(queries, own), exact.search(queries, own)
    hits = sum((found.near == row[:, None]).any(1).sum().item() for row in right.near.unbind(1))
    return FinderQuality(
        recall=hits / right.near.numel(),
        far_hubs=_hubs(found.far, exact.rows),
        exact_far_hubs=_hubs(right.far, exact.rows),
    )


def _hubs(picks: Tensor, rows: int) -> float:
    """The share of the picks that fall on the rows picked most often."""
    hubs = max(1, round(HUB_SHARE * min(rows, picks.numel())))
    often = torch.bincount(picks.flatten(), minlength=rows).topk(hubs).values
    return often.sum().item() / picks.numel()
