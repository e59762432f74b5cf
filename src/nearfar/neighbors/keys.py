"""Search keys of a bank, and inner products of keys with queries."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import embedding, linear, pad

from nearfar.neighbors.bank import Bank, bank_chunks, rows_at_once
from nearfar.neighbors.similarity import Similarity

#: Maximum number of values in consecutive keys to compute at once.
PIECE_NUMBERS = 2**26

#: Keys to multiply at once if not kept in memory, so that products stay in the cache.
BLOCK = 256

#: Queries and keys are padded to a multiple of this number of rows. oneDNN caches memory for each
#: shape, so that memory would otherwise fragment and grow with the number of rows read.
MULTIPLE = 32

#: Largest bank, in bytes, whose keys are computed once and held in memory.
HELD_KEYS_BYTES = 2**30


class Keys:
    """Search keys of all rows of a bank (float[n, k]), see `Similarity.keys`.

    For a bank of at most 1 GiB, the keys are kept in memory. Otherwise, they are computed on
    demand.

    Parameters
    ----------
    bank : Bank
        Embeddings (float[n, d]), in memory or on disk.
    similarity : Similarity
        Similarity that defines the keys.
    order : int64[n], optional
        Row number of each key in the bank. Default: 0…n−1.
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
        """Device of the bank."""
        return self._bank.device

    def multiply(self, queries: Tensor, places: slice, out: Tensor) -> None:
        """Write the inner products of queries and consecutive keys to `out`.

        Parameters
        ----------
        queries : float[b, k]
            Queries, see `Similarity.queries`.
        places : slice
            Positions of m consecutive keys.
        out : float[b, m]
            Tensor for the result.
        """
        if self._held is not None:
            torch.mm(queries, self._held[places].T, out=out)
            return
        factors = factor(_padded(queries))
        step = PIECE_NUMBERS // queries.shape[1]
        for first in range(places.start, places.stop, step):
            keys = self[first : min(first + step, places.stop)]
            here = out[:, first - places.start :][:, : len(keys)]
            for block, products in zip(keys.split(BLOCK), here.split(BLOCK, dim=1), strict=True):
                found = inner_products(factors, factor(_padded(block)))
                products.copy_(found[: len(queries), : len(block)])

    def __getitem__(self, places: slice | Tensor) -> Tensor:
        """Return keys by position: float[m, k] for a slice, or float[..., k] for int64[...]."""
        if self._held is not None:
            return (
                self._held[places] if isinstance(places, slice) else embedding(places, self._held)
            )
        return self._consecutive(places) if isinstance(places, slice) else self._compute(places)

    def _compute(self, places: slice | Tensor) -> Tensor:
        rows = self._bank[places if self._order is None else self._order[places]]
        return self._similarity.keys(rows.float())

    def _consecutive(self, places: slice) -> Tensor:
        """Return consecutive keys; a further call with the same positions returns cached keys."""
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


def _padded(rows: Tensor) -> Tensor:
    """Append rows of zeros so that the number of rows is a multiple of `MULTIPLE`."""
    missing = -len(rows) % MULTIPLE
    return pad(rows, (0, 0, 0, missing)) if missing else rows


def factor(rows: Tensor) -> Tensor:
    """Return rows in the memory layout that is fastest for `inner_products`.

    On a CPU, this is the layout of oneDNN, which is up to twice as fast as MKL, the default of
    torch.
    """
    if rows.device.type == "cpu" and torch.backends.mkldnn.is_available():
        return rows.to_mkldnn()
    return rows


def inner_products(keys: Tensor, queries: Tensor) -> Tensor:
    """Return the inner product of each key with each query (float32[m, b]).

    Parameters
    ----------
    keys, queries : float32[m, k] and float32[b, k]
        Keys and queries, converted by `factor`.
    """
    return linear(keys, queries).to_dense()
