"""The rows that finders search in, and their inner products with queries."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import embedding, linear

from nearfar.neighbors.bank import Bank, chunks, rows_at_once
from nearfar.neighbors.similarity import Similarity

#: Keys of a bank of at most this many bytes are computed once and held in memory.
HELD_BYTES = 2**30


class Keys:
    """The similarity's keys of a bank, float[n, k]: held if small, else computed when asked for.

    Parameters
    ----------
    bank : Bank
        Codes, float[n, d], in memory or on disk.
    similarity : Similarity
        Gives the keys.
    order : int64[n], optional
        The row of the bank that stands at each place; as in the bank when None.
    """

    def __init__(self, bank: Bank, similarity: Similarity, order: Tensor | None = None) -> None:
        self._bank = bank
        self._similarity = similarity
        self._order = order
        self._held: Tensor | None = None
        self._last: tuple[slice, Tensor] | None = None
        if bank.nbytes <= HELD_BYTES:
            held = torch.empty(len(bank), self[:1].shape[1], device=bank.device)
            for rows in chunks(bank):
                held[rows] = self[rows]
            self._held = held

    def __len__(self) -> int:
        return len(self._bank)

    @property
    def device(self) -> torch.device:
        """Where the bank is."""
        return self._bank.device

    def pieces(self, start: int, stop: int) -> list[slice]:
        """Parts of a range of places, each of which can be had at once."""
        step = stop - start if self._held is not None else rows_at_once(self._bank.shape[1])
        return [slice(first, min(first + step, stop)) for first in range(start, stop, step)]

    def __getitem__(self, places: slice | Tensor) -> Tensor:
        """Consecutive keys, float[m, k], or keys at any places, int64[...], as float[..., k]."""
        if self._held is not None:
            return (
                self._held[places] if isinstance(places, slice) else embedding(places, self._held)
            )
        if isinstance(places, slice) and self._last is not None and self._last[0] == places:
            return self._last[1]  # of a cluster that is asked for by one batch after the other
        rows = self._bank[places if self._order is None else self._order[places]]
        keys = self._similarity.keys(rows.float())
        if isinstance(places, slice):
            self._last = places, keys
        return keys


def factor(rows: Tensor) -> Tensor:
    """Rows as `inner_products` multiplies them fastest.

    On a CPU that is the layout of oneDNN, which may be twice as fast as MKL, torch's default.
    """
    if rows.device.type == "cpu" and torch.backends.mkldnn.is_available():
        return rows.to_mkldnn()
    return rows


def inner_products(keys: Tensor, queries: Tensor) -> Tensor:
    """Inner product of each key with each query, float32[m, b]; both are what `factor` gave."""
    return linear(keys, queries).to_dense()
