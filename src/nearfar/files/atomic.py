"""Atomic writes of files, and removal of unfinished files left by crashed processes."""

from __future__ import annotations

import errno
import glob
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from zlib import crc32

from nearfar.errors import NearfarError

#: Prefix of unfinished files.
LEFTOVER = ".unfinished-"
#: Unfinished files of safetensors, which writes next to the given file.
_SAFETENSORS_LEFTOVER = re.compile(r"\.tmp[A-Za-z0-9]{6}")
#: Maximum length of a temporary file's extension, by which libraries choose the format.
_MAX_SUFFIX = 20

#: List of numbers in indented JSON, where no string contains a line break.
_NUMBERS = re.compile(r"\[\n([-+.\deE,\s]+)\]")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Context manager that yields a temporary path and renames the file to `path` on success.

    The temporary path is in the same folder, which is created if needed. On failure, the temporary
    file is removed, and an existing file at `path` is unchanged.

    Raises
    ------
    NearfarError
        If the disk is full or the folder is not writable.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic_path(Path(folder, "notes.txt")) as temporary:
    ...         _ = temporary.write_text("done")
    ...     Path(folder, "notes.txt").read_text()
    'done'
    """
    temporary = path.with_name(f"{LEFTOVER}{os.getpid()}-{_mark(path)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        usual_mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(usual_mode)
        sync(temporary)
        temporary.replace(path)
    except OSError as error:
        explain(path, error)
        raise
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write a value atomically as indented JSON, with every list of numbers on one line.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_json(Path(folder, "scores.json"), {"knn": [0.9, 0.8]})
    ...     print(Path(folder, "scores.json").read_text(), end="")
    {
      "knn": [0.9, 0.8]
    }
    """
    text = _NUMBERS.sub(
        lambda match: f"[{' '.join(match[1].split())}]", json.dumps(value, indent=2)
    )
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def sync(path: Path) -> None:
    """Flush a file to disk, so that it survives a power failure.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     sync(Path(file.name))
    """
    with path.open("rb") as file:
        os.fsync(file.fileno())


def remove_leftovers(folder: Path) -> None:
    """Remove unfinished files of crashed processes from a folder.

    Call this function only while no other process is writing to the folder.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Path(folder, ".unfinished-1.png").touch()
    ...     remove_leftovers(Path(folder))
    ...     list(Path(folder).iterdir())
    []
    """
    for path in filter(is_leftover, list(folder.glob(".*"))):
        path.unlink(missing_ok=True)


def remove_abandoned(path: Path) -> None:
    """Remove temporary files for `path` that ended processes have left behind.

    Examples
    --------
    >>> remove_abandoned(Path("no", "such", "file"))
    """
    mark = _mark(path)
    remove_of_ended(path.parent.glob(f"{LEFTOVER}*-{glob.escape(mark)}"))


def is_leftover(path: Path) -> bool:
    """Return whether the name of a file marks it as unfinished."""
    return path.name.startswith(LEFTOVER) or bool(_SAFETENSORS_LEFTOVER.fullmatch(path.name))


def remove_of_ended(leftovers: Iterable[Path]) -> None:
    """Remove each of the given unfinished files if the process that wrote it has ended."""
    for each in leftovers:
        process = each.name.removeprefix(LEFTOVER).partition("-")[0]
        if process.isdecimal() and not _is_running(int(process)):
            each.unlink(missing_ok=True)


def explain(path: Path, error: OSError) -> None:
    """Raise a one-line `NearfarError` if `error` means that the disk is full or not writable."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise NearfarError(f"no room on the disk to write {str(path)!r}") from error
    if error.errno == errno.EROFS:
        raise NearfarError(f"cannot write {str(path)!r}: the disk is read-only") from error
    if error.errno in (errno.EACCES, errno.EPERM):
        raise NearfarError(f"cannot write {str(path)!r}: permission denied") from error


def _mark(path: Path) -> str:
    return f"{crc32(os.fsencode(path.name)):08x}{path.suffix[:_MAX_SUFFIX]}"


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # another user's
        return True
    return True
