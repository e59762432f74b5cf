"""What every finder of near and far rows promises."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol, Self

from torch import Tensor

from nearfar.errors import NearfarError
from nearfar.neighbors.bank import Bank
from nearfar.neighbors.similarity import Similarity


class Neighbors(NamedTuple):
    """Rows of the bank beside each of b queries, T of each kind, distinct, never the own row.

    Attributes
    ----------
    near : int64[b, T]
        N of Eq. 2, most similar first.
    far : int64[b, T]
        F of Eq. 3, least similar first where the finder looks for them, else in no order.
    """

    near: Tensor
    far: Tensor


class Workers(NamedTuple):
    """How several processes divide their work.

    Attributes
    ----------
    share : callable
        From n to this process's part of 0…n−1; the parts follow each other.
    total : callable
        From a tensor to its sum over the processes, which all call it at the same time.
    """

    share: Callable[[int], range]
    total: Callable[[Tensor], Tensor]


#: One process that does everything.
ALONE = Workers(range, lambda values: values)


class Finder(Protocol):
    """Looks for near and far rows in a bank of embeddings, on the device where the bank is."""

    count: int
    """T, the number of near and of far rows a query gets."""

    def check(self, rows: int) -> None:
        """Refuse a bank of too few rows, before it is computed.

        Raises
        ------
        NearfarError
            If it has fewer than T + 1 rows, or is too small for the finder's settings.
        """
        ...

    def fit(self, bank: Bank, similarity: Similarity, workers: Workers = ALONE) -> Self:
        """Prepare the search in `bank`, float[n, d], in memory or on disk.

        The bank is read again by searches, so it must not change until the next `fit`. Several
        processes fit together, each to the same bank.

        Raises
        ------
        NearfarError
            If the bank has too few rows, see `check`.
        """
        ...

    def order(self) -> Tensor:
        """All rows of the bank, int64[n], those together that are searched for best together."""
        ...

    def search(self, queries: Tensor, own: Tensor, draw: int = 0) -> Neighbors:
        """Find the neighbors of some embeddings; each answer depends on its own query alone.

        Parameters
        ----------
        queries : float[b, d]
            Embeddings, on any device; b ≥ 1.
        own : int64[b]
            The row of the bank that each query must not get, or −1 if all are allowed.
        draw : int
            Which of the random draws to give, in finders that draw far rows at random, ≥ 0.

        Returns
        -------
        Neighbors
            On the device of `queries`.
        """
        ...


def check_count(count: int) -> None:
    """Refuse a number of neighbors that no bank can satisfy."""
    if count < 1:
        raise NearfarError(f"neighbors={count} is too few: expected at least 1")
    if int(count) != count:
        raise NearfarError(f"neighbors={count}: expected a whole number")


def check_enough_rows(count: int, rows: int) -> None:
    """Refuse a bank without `count` rows beside the own one."""
    if count > rows - 1:
        raise NearfarError(
            f"neighbors={count} is too many: the data has only {rows} images, so at most"
            f" {max(rows - 1, 0)} besides each one; ask for fewer or add images"
        )
