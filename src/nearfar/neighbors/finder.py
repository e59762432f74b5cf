"""Protocol of finders, which search a bank for near and far rows.

`nearfar.neighbors.clustered` draws far rows as in the paper; `nearfar.neighbors.exact` searches all
rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol, Self

from torch import Tensor

from nearfar.errors import NearfarError
from nearfar.neighbors.bank import Bank
from nearfar.neighbors.similarity import Similarity


class Neighbors(NamedTuple):
    """Near and far rows of the bank for b queries, with T distinct rows of each kind per query.

    The query's own row is excluded.

    Attributes
    ----------
    near : int64[b, T]
        Near rows, N in Eq. 2, most similar first.
    far : int64[b, T]
        Far rows, F in Eq. 3, least similar first for exact finders, otherwise in arbitrary order.

    Examples
    --------
    >>> import torch
    >>> from nearfar.neighbors import ExactFinder, fit_similarity
    >>> bank = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    >>> finder = ExactFinder(1).fit(bank, fit_similarity("cosine", bank))
    >>> finder.search(bank[:1], own=torch.tensor([0]))
    Neighbors(near=tensor([[1]]), far=tensor([[2]]))
    """

    near: Tensor
    far: Tensor


class Workers(NamedTuple):
    """Division of work among processes.

    Attributes
    ----------
    share : callable
        Function that maps n to the range of indices from 0 to n − 1 that this process handles.
    total : callable
        Function that returns the sum of a tensor over all processes. Every process must call it.

    Examples
    --------
    >>> alone = Workers(share=range, total=lambda values: values)
    >>> alone.share(3)
    range(0, 3)
    """

    share: Callable[[int], range]
    total: Callable[[Tensor], Tensor]


#: A single process.
ALONE = Workers(range, lambda values: values)


class Finder(Protocol):
    """Protocol of finders of near and far rows in a bank, which run on the device of the bank.

    Examples
    --------
    A custom finder, which selects neighbors by row number:

    >>> import torch
    >>> class RowFinder:
    ...     def __init__(self, count):
    ...         self.count = count
    ...     def check(self, rows):
    ...         check_enough_rows(self.count, rows)
    ...     def fit(self, bank, similarity, workers=ALONE):
    ...         self.rows = len(bank)
    ...         return self
    ...     def order(self):
    ...         return torch.arange(self.rows)
    ...     def search(self, queries, own, draw=0):
    ...         steps = torch.arange(1, self.count + 1)
    ...         near = (own[:, None] + steps) % self.rows
    ...         return Neighbors(near, (near + self.rows // 2) % self.rows)
    >>> RowFinder(1).fit(torch.zeros(9, 2), None).search(torch.zeros(1, 2), torch.tensor([3]))
    Neighbors(near=tensor([[4]]), far=tensor([[8]]))
    """

    count: int
    """T, the number of near rows and of far rows per query."""

    def check(self, rows: int) -> None:
        """Check that a bank of `rows` rows is large enough, before it is computed.

        Raises
        ------
        NearfarError
            If there are fewer than T + 1 rows, or too few for the settings of the finder.
        """
        ...

    def fit(self, bank: Bank, similarity: Similarity, workers: Workers = ALONE) -> Self:
        """Prepare the search in a bank, float[n, d], in memory or on disk.

        The bank must not change until the next `fit`, since searches read it. With several
        processes, all processes must call `fit` with the same bank at the same time.

        Raises
        ------
        NearfarError
            If the bank is too small, see `check`.
        """
        ...

    def order(self) -> Tensor:
        """Return the row numbers of the bank, int64[n], in the fastest order for queries."""
        ...

    def search(self, queries: Tensor, own: Tensor, draw: int = 0) -> Neighbors:
        """Return the near and far rows of each query.

        The result for a query is independent of the other queries. For a query outside the bank,
        random far rows may depend on its position among the queries.

        Parameters
        ----------
        queries : float[b, d]
            Embeddings, on any device; b ≥ 1.
        own : int64[b]
            Row of each query in the bank, excluded from its results; −1 for a query outside the
            bank.
        draw : int
            Number of the draw, ≥ 0. Finders with random far rows return different rows for each
            draw.

        Returns
        -------
        Neighbors
            Row numbers, on the device of `queries`.
        """
        ...


def check_count(count: int) -> None:
    """Check that a number of neighbors is a whole number ≥ 1.

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
    """Check that a bank of `rows` rows has at least `count` rows besides the query's own row.

    Raises
    ------
    NearfarError
        If the bank has fewer rows.

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
