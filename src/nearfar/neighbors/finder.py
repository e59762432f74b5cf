"""Protocol of finders of near and far rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol, Self

from torch import Tensor

from nearfar.errors import NearfarError
from nearfar.neighbors.bank import Bank
from nearfar.neighbors.similarity import Similarity


class Neighbors(NamedTuple):
    """Near and far rows of the bank for b queries: T distinct rows each, never the query's own.

    Attributes
    ----------
    near : int64[b, T]
        N of Eq. 2, most similar first.
    far : int64[b, T]
        F of Eq. 3, least similar first for exact finders, otherwise in no order.

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
        From n to the part of 0…n−1 of this process; parts are consecutive.
    total : callable
        From a tensor to its sum over all processes, which call it at the same time.

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
    """Search for near and far rows in a bank of embeddings, on the device of the bank.

    Examples
    --------
    A finder of your own: neighbors by row number.

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
    """T, number of near and of far rows per query."""

    def check(self, rows: int) -> None:
        """Check that a bank of so many rows is large enough, before it is computed.

        Raises
        ------
        NearfarError
            If there are fewer than T + 1 rows, or too few for the settings of the finder.
        """
        ...

    def fit(self, bank: Bank, similarity: Similarity, workers: Workers = ALONE) -> Self:
        """Prepare the search in `bank`, float[n, d], in memory or on disk.

        Searches read the bank, so it must not change until the next `fit`. Several processes fit
        together, each to the same bank.

        Raises
        ------
        NearfarError
            See `check`.
        """
        ...

    def order(self) -> Tensor:
        """Return all rows of the bank, int64[n], in the order that is fastest to search for."""
        ...

    def search(self, queries: Tensor, own: Tensor, draw: int = 0) -> Neighbors:
        """Find the neighbors of some embeddings; each result depends on its query alone.

        Parameters
        ----------
        queries : float[b, d]
            Embeddings, on any device; b ≥ 1.
        own : int64[b]
            Row of each query in the bank, which is excluded; −1 to exclude none.
        draw : int
            Number of the random draw, ≥ 0, for finders that draw far rows at random.

        Returns
        -------
        Neighbors
            On the device of `queries`.
        """
        ...


def check_count(count: int) -> None:
    """Check a number of neighbors: a whole number, at least 1.

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
    """Check that a bank has `count` rows besides the query's own.

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
