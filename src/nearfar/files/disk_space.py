"""Free disk space and its allocation."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from nearfar.errors import NearfarError


def check_room(path: Path, needed: int, purpose: str) -> None:
    """Check that there is enough free disk space for a file or a folder.

    Parameters
    ----------
    path : Path
        Output path, which need not exist.
    needed : int
        Required space, in bytes.
    purpose : str
        Plural noun for the content, such as "embeddings", for the error message.

    Raises
    ------
    NearfarError
        If fewer than `needed` bytes are free.

    Examples
    --------
    >>> check_room(Path("embeddings"), 4 * 128, "embeddings of 1 image")
    """
    free = free_space(path)
    if free < needed:
        raise NearfarError(
            f"no room for {str(path)!r}: {purpose} need {readable_size(needed)}, but only "
            f"{readable_size(free)} are free; choose another disk"
        )


def free_space(path: Path) -> int:
    """Return the free space in bytes on the disk of a path, which need not exist.

    Examples
    --------
    >>> free_space(Path("no", "such", "folder")) > 0
    True
    """
    present = next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())
    return shutil.disk_usage(present).free


def reserve(path: Path) -> None:
    """Allocate disk space for all of a sparse file.

    Without this, writing to a memory map of the file would kill the process if the disk is full.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     _ = file.truncate(4096)
    ...     reserve(Path(file.name))
    """
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def readable_size(size: float) -> str:
    """Return a number of bytes as text, in MiB or GiB.

    Examples
    --------
    >>> readable_size(3 * 2**29)
    '1.5 GiB'
    """
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"
