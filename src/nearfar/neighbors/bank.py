"""Room for a bank of codes, in memory or on disk."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import Tensor

from nearfar.errors import NearfarError


def allocate_rows(n: int, d: int, path: Path | None = None) -> Tensor:
    """Make room for codes, all zeros.

    Parameters
    ----------
    n, d : int
        Number of codes, and numbers in each.
    path : Path, optional
        An .npy file to keep them in, replaced if it exists; what is written to the rows is written
        to the file. In memory when None.

    Returns
    -------
    float32[n, d]
        The rows.

    Raises
    ------
    NearfarError
        If memory or the disk has no room for them, or the file cannot be written.
    """
    needed = n * d * 4
    if path is None:
        try:
            return torch.zeros(n, d)
        except RuntimeError as error:
            raise NearfarError(
                f"no memory for {n} codes of {d} numbers: {_gib(needed)} are needed; keep them on"
                " disk instead"
            ) from error
    try:
        path.unlink(missing_ok=True)
        free = shutil.disk_usage(path.parent).free
        if free < needed:
            raise NearfarError(
                f"no room for {str(path)!r}: {n} codes of {d} numbers need {_gib(needed)}, but only"
                f" {_gib(free)} are free; choose another disk"
            )
        rows = open_memmap(path, mode="w+", dtype=np.float32, shape=(n, d))
        _reserve(path)
    except OSError as error:
        if path.is_file():
            path.unlink()
        raise NearfarError(f"cannot write {str(path)!r}: {error.strerror or error}") from error
    return torch.from_numpy(rows)


def open_rows(path: Path) -> Tensor:
    """Open codes that `allocate_rows` made room for, without reading them.

    Returns
    -------
    float32[n, d]
        The rows, memory-mapped; what is written to them is written to the file.

    Raises
    ------
    NearfarError
        If the file cannot be read or holds no codes.
    """
    try:
        open_memmap(path, mode="r")  # refuses a short file, which "r+" would lengthen
        rows = open_memmap(path, mode="r+")
    except OSError as error:
        raise NearfarError(f"cannot read {str(path)!r}: {error.strerror or error}") from error
    except ValueError as error:
        raise NearfarError(f"{str(path)!r} is not a complete .npy file: compute it anew") from error
    if rows.ndim != 2 or rows.dtype != np.float32:
        raise NearfarError(
            f"{str(path)!r} holds {rows.dtype}{list(rows.shape)}: expected codes, float32[n, d]"
        )
    return torch.from_numpy(rows)


def _reserve(path: Path) -> None:
    """Claim the disk space now: writing to a hole that the disk cannot fill would be fatal."""
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
