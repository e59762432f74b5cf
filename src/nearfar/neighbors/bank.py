"""Banks, which hold the embeddings of all images in memory or on disk, for finders to search."""

from __future__ import annotations

import mmap
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import Tensor

from nearfar.errors import NearfarError
from nearfar.files import LEFTOVER, check_room, readable_size, reserve

#: Bytes per shard of a bank on disk, unless there would be more than `MAX_SHARDS` shards. Each
#: shard stays open, and a process may open about a thousand files.
SHARD_BYTES = 2**28
MAX_SHARDS = 128

#: Maximum numbers of rows and of values to read from a bank at once. The allocator reuses blocks
#: of up to 32 MiB, so that their pages need not be mapped again.
CHUNK = 65_536
CHUNK_NUMBERS = 2**22

#: Largest number in half precision.
MAX_HALF = 65504.0


class DiskBank:
    """Bank of half-precision embeddings in memory-mapped files; it may be larger than memory.

    Indexing returns rows as float32 on `device`. Assignment clips values to ±65504. Several
    processes can share the files if each process opens its own `DiskBank`. Each file is a shard
    with consecutive rows (float16[m, d], in .npy format). The order of the shards is the order of
    the file names.

    Parameters
    ----------
    folder : str or path
        Folder of the shards, see `create`.
    n, d : int
        Number and dimension of the embeddings.
    device : torch.device
        Device of the rows returned by indexing.

    Raises
    ------
    NearfarError
        If a shard is unreadable, or has the wrong shape or data type.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     DiskBank.create(Path(parent, "bank"), n=10, d=2)
    ...     bank = DiskBank(Path(parent, "bank"), n=10, d=2)
    ...     bank[torch.tensor([3])] = torch.ones(1, 2)
    ...     print(bank[2:4])
    tensor([[0., 0.],
            [1., 1.]])
    """

    def __init__(
        self, folder: str | os.PathLike[str], n: int, d: int, device: torch.device | str = "cpu"
    ) -> None:
        self.shape, self.device = (n, d), torch.device(device)
        self._shards = [
            _open_shard(_shard_path(Path(folder), i), (stop - start, d))
            for i, (start, stop) in enumerate(_shard_bounds(n, d))
        ]
        self._rows_per_shard = len(self._shards[0]) if self._shards else 1

    @staticmethod
    def create(folder: str | os.PathLike[str], n: int, d: int) -> None:
        """Create a bank of zeros (float16[n, d]) in a new folder.

        Parameters
        ----------
        folder : str or path
            Folder to create.
        n, d : int
            Number and dimension of the embeddings.

        Raises
        ------
        NearfarError
            If the disk is full or the folder is not writable.
        """
        folder = Path(folder)
        check_room(folder, disk_bytes(n, d), f"{n} embeddings of {d} numbers")
        unfinished = folder.with_name(LEFTOVER + folder.name)
        try:
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
            for i, (start, stop) in enumerate(_shard_bounds(n, d)):
                path = _shard_path(unfinished, i)
                open_memmap(path, mode="w+", dtype=np.float16, shape=(stop - start, d))
                reserve(path)
            unfinished.rename(folder)
        except OSError as error:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise NearfarError(
                f"cannot write {str(folder)!r}: {error.strerror or error}"
            ) from error

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """Size of all rows in memory as float32, in bytes."""
        return 4 * self.shape[0] * self.shape[1]

    def __getitem__(self, rows: slice | Tensor) -> Tensor:
        """Return the embeddings in the given rows.

        The result is float32[m, d] for a slice of m rows, and float32[..., d] for row numbers
        int64[...].
        """
        if isinstance(rows, slice):
            return self._read_consecutive(*rows.indices(len(self))[:2]).to(self.device)
        embeddings = torch.empty(rows.numel(), self.shape[1])
        at_once = rows_at_once(self.shape[1])
        for some, out in zip(
            rows.flatten().cpu().split(at_once), embeddings.split(at_once), strict=True
        ):
            for shard, places, within in self._each(some):
                out[places] = shard[within].float()
        return embeddings.view(*rows.shape, self.shape[1]).to(self.device)

    def __setitem__(self, rows: Tensor, embeddings: Tensor) -> None:
        halves = embeddings.detach().cpu().clamp(-MAX_HALF, MAX_HALF).half()
        for shard, places, within in self._each(rows.cpu()):
            shard[within] = halves[places]

    def flush(self) -> None:
        """Flush all changes to disk, so that they survive a power failure."""
        for shard in self._shards:
            shard.flush()

    def _read_consecutive(self, start: int, stop: int) -> Tensor:
        embeddings = torch.empty(max(0, stop - start), self.shape[1])
        for i in range(start // self._rows_per_shard, -(-stop // self._rows_per_shard)):
            first = i * self._rows_per_shard
            begin, end = max(start, first), min(stop, first + self._rows_per_shard)
            with self._shard(i) as shard:
                embeddings[begin - start : end - start] = shard[begin - first : end - first]
        return embeddings

    def _each(self, rows: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield each shard that contains any of the given rows, with the positions of these rows.

        Yields
        ------
        shard : float16[s, d]
            Embeddings in the shard.
        places : int64[k]
            Positions in `rows` of the rows that are in the shard.
        within : int64[k]
            Positions of the same rows in the shard.
        """
        shard_of = rows // self._rows_per_shard
        for i in shard_of.unique().tolist():
            places = (shard_of == i).nonzero().squeeze(1)
            with self._shard(i) as shard:
                yield shard, places, rows[places] - i * self._rows_per_shard

    @contextmanager
    def _shard(self, number: int) -> Iterator[Tensor]:
        """Context manager that yields a shard (float16[m, d]) and releases its pages afterward.

        Without the release, all rows read so far would count as memory of the process.
        """
        shard = self._shards[number]
        yield torch.from_numpy(shard)
        if hasattr(mmap, "MADV_DONTNEED"):
            shard.base.madvise(mmap.MADV_DONTNEED)  # type: ignore[union-attr]


#: Embeddings, float[n, d], in memory or on disk; rows are indexed by a slice or by int64[...].
Bank = Tensor | DiskBank


def allocate_rows(n: int, d: int, device: torch.device | str = "cpu") -> Tensor:
    """Return a bank of zeros in memory (float32[n, d]).

    Raises
    ------
    NearfarError
        If there is not enough memory.

    Examples
    --------
    >>> allocate_rows(10, 2).shape
    torch.Size([10, 2])
    """
    try:
        return torch.zeros(n, d, device=device)
    except RuntimeError as error:
        raise NearfarError(
            f"no memory for {n} embeddings of {d} numbers: {readable_size(4 * n * d)} are needed; "
            "keep them on disk instead"
        ) from error


def rows_at_once(width: int) -> int:
    """Return how many rows of `width` values to read at once, a multiple of 1024."""
    return min(CHUNK, max(1024, CHUNK_NUMBERS // width // 1024 * 1024))


def bank_chunks(bank: Bank) -> Iterator[slice]:
    """Return consecutive slices that cover all rows of a bank and are small enough to read at once.

    Examples
    --------
    >>> list(bank_chunks(torch.zeros(100_000, 2)))
    [slice(0, 65536, None), slice(65536, 131072, None)]
    """
    step = rows_at_once(bank.shape[1])
    return (slice(start, start + step) for start in range(0, len(bank), step))


def disk_bytes(n: int, d: int) -> int:
    """Return the size in bytes of a `DiskBank` of shape [n, d], without file headers.

    Examples
    --------
    >>> disk_bytes(1000, 128)
    256000
    """
    return 2 * n * d


def _shard_path(folder: Path, number: int) -> Path:
    return folder / f"{number:05}.npy"


def _shard_bounds(n: int, d: int) -> list[tuple[int, int]]:
    """Return the first row and the end row (exclusive) of each shard."""
    rows = max(1, SHARD_BYTES // (2 * d), -(-n // MAX_SHARDS))
    return [(start, min(start + rows, n)) for start in range(0, n, rows)]


def _open_shard(path: Path, shape: tuple[int, int]) -> np.memmap[tuple[int, ...], np.dtype]:
    try:
        open_memmap(path, mode="r")  # fails for a truncated file, which "r+" would lengthen
        shard = open_memmap(path, mode="r+")
    except OSError as error:
        raise NearfarError(f"cannot read {str(path)!r}: {error.strerror or error}") from error
    except ValueError as error:
        raise NearfarError(
            f"{str(path)!r} is not a complete .npy file: compute it again"
        ) from error
    if shard.shape != shape or shard.dtype != np.float16:
        raise NearfarError(
            f"{str(path)!r} holds {shard.dtype}{list(shard.shape)}: expected embeddings, "
            f"float16{list(shape)}"
        )
    return shard
