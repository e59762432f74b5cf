"""Writing files so that nothing half-written ever stands in the place of something good."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zlib import crc32

from nearfar.errors import NearfarError

#: How the names of unfinished files begin.
LEFTOVER = ".unfinished-"
#: Bytes that the name of a file may have.
LONGEST_NAME = 255
#: Letters; libraries look at endings.
LONGEST_ENDING = 20

#: What to do if something is there already.
ADVICE = "choose another, or pass --overwrite"

#: A list of numbers in indented JSON, in whose strings no line ends.
NUMBERS = re.compile(r"\[\n([-+.\deE,\s]+)\]")


def is_leftover(path: Path) -> bool:
    """Whether a file was left unfinished by a crash."""
    return path.name.startswith(LEFTOVER)


def remove_leftovers(folder: Path) -> None:
    """Take away what crashes left unfinished in a folder that nobody else writes to."""
    for path in folder.glob(f"{LEFTOVER}*"):
        path.unlink(missing_ok=True)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to, which takes the place of `path` on success.

    Raises
    ------
    NearfarError
        If the disk is full or the folder cannot be written; `path` is then as it was.
    """
    # No longer than a name may be, whatever the length of that of `path`.
    unique = f"{os.getpid()}-{crc32(os.fsencode(path.name)):08x}"
    temporary = path.with_name(f"{LEFTOVER}{unique}{path.suffix[:LONGEST_ENDING]}")
    try:
        temporary.touch()
        usual_mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(usual_mode)
        sync(temporary)
        temporary.replace(path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NearfarError(f"no room on the disk to write {str(path)!r}") from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise NearfarError(f"{str(path)!r} cannot be written: permission denied") from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def fitting_name(name: str, ending: str) -> str:
    """What a file is called after `name`: cut where that is too long, each to a name of its own."""
    encoded = os.fsencode(name)
    if len(encoded) + len(ending) <= LONGEST_NAME:
        return name + ending
    mark = f"-{crc32(encoded):08x}{ending}"
    return encoded[: LONGEST_NAME - len(mark)].decode(errors="ignore") + mark


def sync(path: Path) -> None:
    """Wait until a file is on the disk, where a power failure does not harm it."""
    with path.open("rb") as written:
        os.fsync(written.fileno())


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, each list of numbers on one line, atomically."""
    text = NUMBERS.sub(lambda found: f"[{' '.join(found[1].split())}]", json.dumps(value, indent=2))
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def check_output(
    path: Path,
    *,
    overwrite: bool,
    folder: bool = False,
    kept: Collection[str] = (),
    advice: str = ADVICE,
) -> None:
    """Check that a file, or a folder, may be written to `path`.

    Parameters
    ----------
    kept : collection of str
        What the folder may hold from an earlier call.
    advice : str
        What to do if something else is there already.

    Raises
    ------
    NearfarError
        If something is there already, other than leftovers, and `overwrite` is false.
    """
    if path.exists() and path.is_dir() != folder:
        kinds = ("a file", "a folder")
        raise NearfarError(
            f"{str(path)!r} is {kinds[path.is_dir()]}: expected a path for {kinds[folder]}"
        )
    occupied = path.exists()
    if path.is_dir():
        occupied = any(not is_leftover(each) and each.name not in kept for each in path.iterdir())
    if occupied and not overwrite:
        raise NearfarError(f"{str(path)!r} exists already: {advice}")


def claim_output(
    path: Path,
    *,
    overwrite: bool,
    folder: bool = False,
    kept: Collection[str] = (),
    advice: str = ADVICE,
) -> Path:
    """Check that a file, or a folder, may be written to `path`, and make the folder around it.

    Parameters
    ----------
    path, overwrite, folder, kept, advice
        As for `check_output`.

    Raises
    ------
    NearfarError
        As `check_output`, or the folder around it cannot be made.
    """
    check_output(path, overwrite=overwrite, folder=folder, kept=kept, advice=advice)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NearfarError(f"{str(path.parent)!r} cannot be made: {error.strerror}") from error
    return path


def check_own(folder: Path, own: Collection[str]) -> None:
    """Check that a folder holds nothing but what an earlier call wrote.

    Parameters
    ----------
    own : collection of str
        All that such a folder may hold.

    Raises
    ------
    NearfarError
        If it holds something else.
    """
    for path in folder.iterdir():
        if path.name not in own and not is_leftover(path):
            raise NearfarError(
                f"{str(folder)!r} holds {path.name!r}, which nearfar does not write there: "
                "choose another folder"
            )


def clear_folder(
    folder: Path, own: Collection[str], *, kept: Collection[str] = (), last: str = ""
) -> None:
    """Empty a folder that an earlier call filled.

    Parameters
    ----------
    own : collection of str
        All that such a folder may hold.
    kept : collection of str
        What of this stays.
    last : str
        What goes when all else is gone, so that what is left of a folder that was cleared halfway
        is known for what it is.

    Raises
    ------
    NearfarError
        As `check_own`; then nothing is taken away.
    """
    check_own(folder, own)
    present = [path for path in folder.iterdir() if path.name not in kept]
    for path in sorted(present, key=lambda path: path.name == last):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def check_room(path: Path, needed: int, purpose: str) -> None:
    """Refuse to begin what the disk has no room for.

    Parameters
    ----------
    path : Path
        Where it will be; need not exist.
    needed : int
        Bytes.
    purpose : str
        What they are for.

    Raises
    ------
    NearfarError
        If fewer are free.
    """
    free = free_space(path)
    if free < needed:
        raise NearfarError(
            f"no room for {str(path)!r}: {purpose} need {readable_size(needed)}, but only "
            f"{readable_size(free)} are free; choose another disk"
        )


def free_space(path: Path) -> int:
    """Return how many bytes are free where a file or a folder is, or will be."""
    present = next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())
    return shutil.disk_usage(present).free


def reserve(path: Path) -> None:
    """Claim the disk space of a file now: writing to a hole that the disk cannot fill is fatal."""
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def readable_size(size: float) -> str:
    """Bytes for people to read."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"
