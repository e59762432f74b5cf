"""The rows that finders search in, and their inner products with queries."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import embedding, linear, pad

from nearfar.neighbors.bank import Bank, bank_chunks, rows_at_once
from nearfar.neighbors.similarity import Similarity

#: The most numbers in consecutive keys that are had at once.
PIECE_NUMBERS = 2**26

#: Keys that are multiplied at once where they are not held: the products stay in the cache.
BLOCK = 256

#: Queries and keys are filled up to multiples of that. oneDNN keeps something for each shape it has
#: seen: it would come to lie where a large tensor was let go of, so that no other could take its
#: place, and memory would grow with what is read.
MULTIPLE = 32

#: Keys of a bank of at most this many bytes are computed once and held in memory.
HELD_KEYS_BYTES = 2**30


class Keys:
    """The similarity's keys of a bank, float[n, k]: held if small, else computed when asked for.

    Parameters
    ----------
    bank : Bank
        Embeddings, float[n, d], in memory or on disk.
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
        self._last = slice(0, 0)
        self._room = torch.empty(0)
        if bank.nbytes <= HELD_KEYS_BYTES:
            width = self._compute(slice(0, 1)).shape[1]
            held = torch.empty(len(bank), width, device=bank.device)
            for rows in bank_chunks(bank):
                held[rows] = self._compute(rows)
            self._held = held

    def __len__(self) -> int:
        return len(self._bank)

    @property
    def device(self) -> torch.device:
        """Where the bank is."""
        return self._bank.device

    def multiply(self, queries: Tensor, places: slice, out: Tensor) -> None:
        """Put the inner products of queries, float[b, k], with consecutive keys in float[b, m]."""
        if self._held is not None:
            torch.mm(queries, self._held[places].T, out=out)
            return
        factors = factor(_filled(queries))
        step = PIECE_NUMBERS // queries.shape[1]
        for first in range(places.start, places.stop, step):
            keys = self[first : min(first + step, places.stop)]
            here = out[:, first - places.start :][:, : len(keys)]
            for block, products in zip(keys.split(BLOCK), here.split(BLOCK, dim=1), strict=True):
                found = inner_products(factors, factor(_filled(block)))
                products.copy_(found[: len(queries), : len(block)])

    def __getitem__(self, places: slice | Tensor) -> Tensor:
        """Consecutive keys, float[m, k], or keys at any places, int64[...], as float[..., k]."""
        if self._held is not None:
            return (
                self._held[places] if isinstance(places, slice) else embedding(places, self._held)
            )
        return self._consecutive(places) if isinstance(places, slice) else self._compute(places)

    def _compute(self, places: slice | Tensor) -> Tensor:
        rows = self._bank[places if self._order is None else self._order[places]]
        return self._similarity.keys(rows.float())

    def _consecutive(self, places: slice) -> Tensor:
        """Keys that stay until others are asked for: batches ask for those of one cluster."""
        start, stop, _ = places.indices(len(self))
        if places != self._last:
            step = rows_at_once(self._bank.shape[1])
            for first in range(start, stop, step):
                keys = self._compute(slice(first, min(first + step, stop)))
                if len(self._room) < stop - start:
                    self._room = keys.new_empty(stop - start, keys.shape[1])
                self._room[first - start : first - start + len(keys)] = keys
            self._last = places
        return self._room[: stop - start]


def _filled(rows: Tensor) -> Tensor:
    """Rows, and zeros up to a multiple of so many."""
    missing = -len(rows) % MULTIPLE
    return pad(rows, (0, 0, 0, missing)) if missing else rows


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
