"""Protocol of finders, which search a bank of embeddings for near and far rows.

The finder in `nearfar.neighbors.clustered_finder` draws random far rows, as in the paper. The
finder in `nearfar.neighbors.exact_finder` compares each query with all rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol, Self

from torch import Tensor

from nearfar.errors import NearfarError
from nearfar.neighbors.bank import Bank
from nearfar.neighbors.similarity import Similarity


class Neighbors(NamedTuple):
    """Near and far rows of the bank for b queries: T distinct rows of each kind per query.

    If a query is a row of the bank, this row is excluded.

    Attributes
    ----------
    near : int64[b, T]
        Row numbers of the near rows (N in Eq. 2), most similar first.
    far : int64[b, T]
        Row numbers of the far rows (F in Eq. 3). `ExactFinder` returns the least similar row
        first; other finders may return far rows in any order.

    Examples
    --------
    >>> import torch
    >>> from nearfar.neighbors import ExactFinder, fit_similarity
    >>> bank = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    >>> finder = ExactFinder(1).fit(bank, fit_similarity("cosine", bank))
    >>> finder.search(bank[:1], query_rows=torch.tensor([0]))
    Neighbors(near=tensor([[1]]), far=tensor([[2]]))
    """

    near: Tensor
    far: Tensor


class Workers(NamedTuple):
    """Division of work among processes.

    Attributes
    ----------
    rank_rows : callable
        Function that takes n and returns the part of ``range(n)`` that this process handles.
    all_sum : callable
        Function that takes a tensor and returns its sum over all processes. Every process must
        call it.

    Examples
    --------
    >>> alone = Workers(rank_rows=range, all_sum=lambda values: values)
    >>> alone.rank_rows(3)
    range(0, 3)
    """

    rank_rows: Callable[[int], range]
    all_sum: Callable[[Tensor], Tensor]


#: A single process.
SINGLE_PROCESS = Workers(range, lambda values: values)


class Finder(Protocol):
    """Protocol of finders, which search a bank for near and far rows on the device of the bank.

    Examples
    --------
    A custom finder, which selects neighbors by row number:

    >>> import torch
    >>> class RowFinder:
    ...     def __init__(self, count):
    ...         self.count = count
    ...     def check(self, rows):
    ...         check_enough_rows(self.count, rows)
    ...     def fit(self, bank, similarity, workers=SINGLE_PROCESS):
    ...         self.rows = len(bank)
    ...         return self
    ...     def query_order(self):
    ...         return torch.arange(self.rows)
    ...     def search(self, queries, query_rows, draw=0):
    ...         steps = torch.arange(1, self.count + 1)
    ...         near = (query_rows[:, None] + steps) % self.rows
    ...         return Neighbors(near, (near + self.rows // 2) % self.rows)
    >>> RowFinder(1).fit(torch.zeros(9, 2), None).search(torch.zeros(1, 2), torch.tensor([3]))
    Neighbors(near=tensor([[4]]), far=tensor([[8]]))
    """

    count: int
    """Number T of near rows and of far rows per query."""

    def check(self, rows: int) -> None:
        """Check that a bank of `rows` rows is large enough. Call this before computing the bank.

        Raises
        ------
        NearfarError
            If there are fewer than T + 1 rows, or too few for the settings of the finder.
        """
        ...

    def fit(self, bank: Bank, similarity: Similarity, workers: Workers = SINGLE_PROCESS) -> Self:
        """Prepare the search in a bank (float[n, d], in memory or on disk), and return the finder.

        Searches read the bank, so it must not change until the next `fit`. With several processes,
        all processes must call `fit` with the same bank at the same time.

        Raises
        ------
        NearfarError
            If the bank is too small, see `check`.
        """
        ...

    def query_order(self) -> Tensor:
        """Return all row numbers of the bank (int64[n]) in the order that makes search fastest."""
        ...

    def search(self, queries: Tensor, query_rows: Tensor, draw: int = 0) -> Neighbors:
        """Return the near and far rows of each query.

        The result for a query is independent of the other queries. For a query outside the bank,
        random far rows may depend on the position of the query in `queries`.

        Parameters
        ----------
        queries : float[b, d]
            Embeddings of b ≥ 1 queries, on any device.
        query_rows : int64[b]
            Row number of each query in the bank, or −1 for a query outside the bank. The row is
            excluded from the result of the query.
        draw : int
            Index of the draw, ≥ 0. Finders with random far rows return different far rows for
            each draw.

        Returns
        -------
        Neighbors
            Row numbers, on the device of `queries`.
        """
        ...


def check_count(count: int) -> None:
    """Raise an error unless a number of neighbors is a whole number ≥ 1.

    Examples
    --------
    >>> check_count(0)
    Traceback (most recent call last):
    nearfar.errors.NearfarError: neighbors=0 is too few: expected at least 1
    """
    if count < 1:
        raise NearfarError(f"neighbors={count} is too few: expected at least 1")
    if int(count) != count:
        raise NearfarError(f"neighbors={count}: expected a whole number")


def check_enough_rows(count: int, rows: int) -> None:
    """Check that a bank of `rows` rows has at least `count` other rows for each row.

    Raises
    ------
    NearfarError
        If the bank has fewer than `count` + 1 rows.

    Examples
    --------
    >>> check_enough_rows(count=1, rows=2)
    """
    if rows < 2:
        raise NearfarError(
            f"the data has only {rows} image: neighbors need 2 images or more, so add images"
        )
    if count > rows - 1:
        raise NearfarError(
            f"neighbors={count} is too many: the data has only {rows} images, so at most"
            f" {max(rows - 1, 0)} besides each one; ask for fewer or add images"
        )
