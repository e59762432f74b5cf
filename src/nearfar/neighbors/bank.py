"""Banks of embeddings, in memory or on disk."""

from __future__ import annotations

import mmap
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

#: A shard of a bank on disk is at most this large, unless there would be more of them: each stays
#: open, and a process may open about a thousand files.
SHARD_BYTES = 2**28
MOST_SHARDS = 128

#: Rows that are read from a bank at once, and the most numbers in them: memory of up to 32 MiB is
#: given again by the allocator, and need not be claimed anew page by page.
CHUNK = 65_536
NUMBERS = 2**22

#: The largest number in half precision.
LARGEST = 65504.0


class DiskBank:
    """Half-precision embeddings in memory-mapped files; only what is read is in memory.

    Rows are read as float32, on `device`, and what is written to them is written to the files,
    numbers beyond ±65504 as these. Several processes may share a bank, each with a `DiskBank` of
    its own. The shards are .npy files, float16[m, d], in the order of their names.

    Parameters
    ----------
    folder : Path
        Holds the shards and nothing else, see `create`.
    n, d : int
        Number of embeddings, and numbers in each.
    device : torch.device
        Where rows that are read go.

    Raises
    ------
    NearfarError
        If a shard cannot be read, or does not hold what it should.
    """

    def __init__(self, folder: Path, n: int, d: int, device: torch.device | str = "cpu") -> None:
        self.shape, self.device = (n, d), torch.device(device)
        self._shards = [
            _open_shard(_shard_path(folder, i), (stop - start, d))
            for i, (start, stop) in enumerate(_shard_bounds(n, d))
        ]
        self._rows_per_shard = len(self._shards[0]) if self._shards else 1

    @staticmethod
    def create(folder: Path, n: int, d: int) -> None:
        """Claim the room for n embeddings of d numbers, all zeros, in a new folder.

        Raises
        ------
        NearfarError
            If the disk has no room for them, or the folder cannot be written.
        """
        check_room(folder, disk_bytes(n, d), f"{n} embeddings of {d} numbers")
        begun = folder.with_name(LEFTOVER + folder.name)
        try:
            shutil.rmtree(begun, ignore_errors=True)
            begun.mkdir(parents=True)
            for i, (start, stop) in enumerate(_shard_bounds(n, d)):
                path = _shard_path(begun, i)
                open_memmap(path, mode="w+", dtype=np.float16, shape=(stop - start, d))
                reserve(path)
            begun.rename(folder)
        except OSError as error:
            shutil.rmtree(begun, ignore_errors=True)
            raise NearfarError(
                f"cannot write {str(folder)!r}: {error.strerror or error}"
            ) from error

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """What the rows would take in memory, as float32."""
        return 4 * self.shape[0] * self.shape[1]

    def __getitem__(self, rows: slice | Tensor) -> Tensor:
        """Consecutive rows, float32[m, d], or any, int64[...], as float32[..., d]."""
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
        halves = embeddings.detach().cpu().clamp(-LARGEST, LARGEST).half()
        for shard, places, within in self._each(rows.cpu()):
            shard[within] = halves[places]

    def flush(self) -> None:
        """Wait until what was written is on the disk, where a power failure does not harm it."""
        for shard in self._shards:
            shard.flush()

    def _read_consecutive(self, start: int, stop: int) -> Tensor:
        embeddings = torch.empty(max(0, stop - start), self.shape[1])
        for i in range(start // self._rows_per_shard, -(-stop // self._rows_per_shard)):
            first = i * self._rows_per_shard
            begin, end = max(start, first), min(stop, first + self._rows_per_shard)
            with self._opened(i) as shard:
                embeddings[begin - start : end - start] = shard[begin - first : end - first]
        return embeddings

    def _each(self, rows: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Each shard that some rows, int64[m], are in; which of them; and their places in it."""
        shard_of = rows // self._rows_per_shard
        for i in shard_of.unique().tolist():
            places = (shard_of == i).nonzero().squeeze(1)
            with self._opened(i) as shard:
                yield shard, places, rows[places] - i * self._rows_per_shard

    @contextmanager
    def _opened(self, number: int) -> Iterator[Tensor]:
        """A shard, float16[m, d], whose pages are let go of afterwards.

        Or all that was ever read would count as this process's memory.
        """
        shard = self._shards[number]
        yield torch.from_numpy(shard)
        if hasattr(mmap, "MADV_DONTNEED"):
            shard.base.madvise(mmap.MADV_DONTNEED)  # type: ignore[union-attr]


#: float[n, d]: rows can be read by a slice or by int64[...], in float32, and written.
Bank = Tensor | DiskBank


def allocate_rows(n: int, d: int, device: torch.device | str = "cpu") -> Tensor:
    """Make room for embeddings in memory, all zeros.

    Returns
    -------
    float32[n, d]
        The rows.

    Raises
    ------
    NearfarError
        If memory has no room for them.
    """
    try:
        return torch.zeros(n, d, device=device)
    except RuntimeError as error:
        raise NearfarError(
            f"no memory for {n} embeddings of {d} numbers: {readable_size(4 * n * d)} are needed; "
            "keep "
            "them on disk instead"
        ) from error


def rows_at_once(width: int) -> int:
    """How many rows of so many numbers are read at once: at least 1024, and a multiple of that."""
    return min(CHUNK, max(1024, NUMBERS // width // 1024 * 1024))


def bank_chunks(bank: Bank) -> Iterator[slice]:
    """All rows of a bank, in parts that can be read at once."""
    step = rows_at_once(bank.shape[1])
    return (slice(start, start + step) for start in range(0, len(bank), step))


def disk_bytes(n: int, d: int) -> int:
    """Return how large a `DiskBank` is, but for a few headers."""
    return 2 * n * d


def _shard_path(folder: Path, number: int) -> Path:
    return folder / f"{number:05}.npy"


def _shard_bounds(n: int, d: int) -> list[tuple[int, int]]:
    """The first row of each shard, and the one after its last."""
    rows = max(1, SHARD_BYTES // (2 * d), -(-n // MOST_SHARDS))
    return [(start, min(start + rows, n)) for start in range(0, n, rows)]


def _open_shard(path: Path, shape: tuple[int, int]) -> np.memmap[tuple[int, ...], np.dtype]:
    try:
        open_memmap(path, mode="r")  # refuses a short file, which "r+" would lengthen
        shard = open_memmap(path, mode="r+")
    except OSError as error:
        raise NearfarError(f"cannot read {str(path)!r}: {error.strerror or error}") from error
    except ValueError as error:
        raise NearfarError(f"{str(path)!r} is not a complete .npy file: compute it anew") from error
    if shard.shape != shape or shard.dtype != np.float16:
        raise NearfarError(
            f"{str(path)!r} holds {shard.dtype}{list(shard.shape)}: expected embeddings, "
            f"float16{list(shape)}"
        )
    return shard
