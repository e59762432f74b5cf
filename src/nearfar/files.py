"""Atomic writes, output paths and their locks, and disk space."""

from __future__ import annotations

import errno
import glob
import json
import os
import re
import shutil
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any
from zlib import crc32

from filelock import FileLock, Timeout

from nearfar.errors import NearfarError

#: Prefix of unfinished files.
LEFTOVER = ".unfinished-"
#: Unfinished files of safetensors, which writes next to the given file.
_SAFETENSORS_LEFTOVER = re.compile(r"\.tmp[A-Za-z0-9]{6}")
#: File that marks a folder whose output is still being written.
UNFINISHED = f"{LEFTOVER}output"
#: Error codes of disks that do not support locks.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
#: Longest file name, in bytes.
_MAX_NAME = 255
#: Longest extension of a temporary file, in characters; libraries choose the format by extension.
_MAX_SUFFIX = 20

#: Size of the file that `try_output` writes to test a disk, in bytes.
_TRIAL_BYTES = 2**12

#: Remedy in errors about existing output.
ADVICE = "choose another, or pass --overwrite (overwrite=True in Python)"

#: List of numbers in indented JSON, where no string contains a line break.
_NUMBERS = re.compile(r"\[\n([-+.\deE,\s]+)\]")


def remove_leftovers(folder: Path) -> None:
    """Remove the unfinished files of crashed processes from a folder.

    No other process may be writing to the folder.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Path(folder, ".unfinished-1.png").touch()
    ...     remove_leftovers(Path(folder))
    ...     list(Path(folder).iterdir())
    []
    """
    for path in filter(_is_leftover, list(folder.glob(".*"))):
        path.unlink(missing_ok=True)


def remove_abandoned(path: Path) -> None:
    """Remove the unfinished versions of a file that dead processes left behind.

    Examples
    --------
    >>> remove_abandoned(Path("no", "such", "file"))
    """
    mark = _mark(path)
    _remove_of_ended(path.parent.glob(f"{LEFTOVER}*-{glob.escape(mark)}"))


def _remove_of_ended(leftovers: Iterable[Path]) -> None:
    """Remove unfinished files whose processes have ended."""
    for each in leftovers:
        process = each.name.removeprefix(LEFTOVER).partition("-")[0]
        if process.isdecimal() and not _is_running(int(process)):
            each.unlink(missing_ok=True)


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


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; on success, the file is renamed to `path`.

    The folder is created if needed.

    Raises
    ------
    NearfarError
        If the disk is full or the folder is not writable; `path` is then unchanged.

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
        _explain(path, error)
        raise
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _explain(path: Path, error: OSError) -> None:
    """Raise a one-line error that names the output, if the disk is full or not writable."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise NearfarError(f"no room on the disk to write {str(path)!r}") from error
    if error.errno == errno.EROFS:
        raise NearfarError(f"cannot write {str(path)!r}: the disk is read-only") from error
    if error.errno in (errno.EACCES, errno.EPERM):
        raise NearfarError(f"cannot write {str(path)!r}: permission denied") from error


def normal_form(name: str) -> str:
    r"""Return a name in Unicode form NFC, used to compare names.

    File systems may store the same name in different forms: é is one character, or e and an accent.

    Examples
    --------
    >>> len("cafe\N{COMBINING ACUTE ACCENT}"), len(normal_form("cafe\N{COMBINING ACUTE ACCENT}"))
    (5, 4)
    """
    return unicodedata.normalize("NFC", name)


def natural_key(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts numbers inside names by value.

    Examples
    --------
    >>> sorted(["10.jpg", "2.jpg"], key=natural_key)
    ['2.jpg', '10.jpg']
    """
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def exists(path: Path) -> bool:
    """Return whether a path exists; unlike `Path.exists`, False if a name in it is too long.

    Examples
    --------
    >>> exists(Path("x" * 300))
    False
    """
    return os.path.exists(path)  # noqa: PTH110


def find_path(path: Path) -> Path:
    """Return a path as spelled on the disk, possibly in a different Unicode form.

    Examples
    --------
    >>> find_path(Path("no", "such", "file"))
    PosixPath('no/such/file')
    """
    if exists(path) or path.parent == path:
        return path
    parent = find_path(path.parent)
    if not path.name.isascii() and parent.is_dir():
        for each in parent.iterdir():
            if normal_form(each.name) == normal_form(path.name):
                return each
    return parent / path.name


def fitting_name(name: str, extension: str) -> str:
    """Return a file name of at most 255 bytes; longer names are truncated and get a checksum.

    Examples
    --------
    >>> fitting_name("cat", ".png")
    'cat.png'
    >>> len(fitting_name(300 * "x", ".png"))
    255
    """
    encoded = os.fsencode(name)
    if len(encoded) + len(extension) <= _MAX_NAME:
        return name + extension
    mark = f"-{crc32(encoded):08x}{extension}"
    return encoded[: _MAX_NAME - len(mark)].decode(errors="ignore") + mark


def sync(path: Path) -> None:
    """Flush a file to the disk, safe from power failure.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     sync(Path(file.name))
    """
    with path.open("rb") as file:
        os.fsync(file.fileno())


def write_json(path: Path, value: Any) -> None:
    """Write a value atomically as indented JSON, with each list of numbers on one line.

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


def check_output(
    path: Path,
    *,
    overwrite: bool,
    folder: bool = False,
    kept: Collection[str] = (),
    advice: str = ADVICE,
) -> None:
    """Check that a file or a folder may be written to `path`.

    Parameters
    ----------
    path : Path
        Path of the output.
    overwrite : bool
        Whether existing output may be replaced.
    folder : bool
        Whether the output is a folder.
    kept : collection of str
        Names of files that the folder may always contain.
    advice : str
        Remedy for the error message.

    Raises
    ------
    NearfarError
        If `path` is a folder instead of a file or vice versa; or if it is a file or a nonempty
        folder, and `overwrite` is false. Unfinished files of crashed processes do not count.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     check_output(Path(folder), overwrite=False, folder=True)  # empty: fine
    """
    if path.exists() and path.is_dir() != folder:
        kinds = ("a file", "a folder")
        raise NearfarError(
            f"{str(path)!r} is {kinds[path.is_dir()]}: expected a path for {kinds[folder]}"
        )
    occupied = path.exists()
    if path.is_dir():
        occupied = any(not _is_leftover(each) and each.name not in kept for each in path.iterdir())
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
    """Check that output may be written to `path`, create its parent folder, and return `path`.

    Unfinished versions of the file that killed processes left behind are removed.

    Parameters
    ----------
    path, overwrite, folder, kept, advice
        See `check_output`.

    Raises
    ------
    NearfarError
        If the output must not be written, see `check_output`, or the parent folder cannot be
        created.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     claim_output(Path(folder, "a", "scores.json"), overwrite=False).parent.is_dir()
    True
    """
    check_output(path, overwrite=overwrite, folder=folder, kept=kept, advice=advice)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NearfarError(f"cannot create {str(path.parent)!r}: {error.strerror}") from error
    remove_abandoned(path)
    return path


def try_output(
    path: Path,
    *,
    overwrite: bool,
    folder: bool = False,
    kept: Collection[str] = (),
    advice: str = ADVICE,
) -> None:
    """Check that a file or a folder can be written to `path`, by writing a trial file.

    The trial file, and folders created for it, are removed afterward, as are unfinished files that
    killed processes left behind. Call this before work that may take hours.

    Parameters
    ----------
    path, overwrite, folder, kept, advice
        See `check_output`.

    Raises
    ------
    NearfarError
        If the output must not be written, see `check_output`; or if the disk is full or read-only,
        or permission is denied.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     try_output(Path(folder, "a", "scores.json"), overwrite=False)
    ...     list(Path(folder).iterdir())
    []
    """
    check_output(path, overwrite=overwrite, folder=folder, kept=kept, advice=advice)
    place = path if folder else path.parent
    absent = _absent(place)
    trial = place / f"{LEFTOVER}{os.getpid()}-trial"
    try:
        place.mkdir(parents=True, exist_ok=True)
        trial.write_bytes(bytes(_TRIAL_BYTES))
        if folder:
            _remove_of_ended(list(path.rglob(f"{LEFTOVER}*")))
        else:
            remove_abandoned(path)
            _remove_of_ended(list(place.glob(f"{LEFTOVER}*-trial")))
    except OSError as error:
        _explain(path, error)
        raise NearfarError(f"cannot write {str(path)!r}: {error.strerror}") from error
    finally:
        with suppress(OSError):
            os.unlink(trial)  # noqa: PTH108
        _remove_empty(absent)


def _absent(folder: Path) -> list[Path]:
    """Return a folder and its parents that do not exist, innermost first."""
    return [path for path in (folder, *folder.parents) if not os.path.lexists(path)]


def _remove_empty(folders: Iterable[Path]) -> None:
    for path in folders:
        with suppress(OSError):  # not created, not empty, or used by another process
            path.rmdir()


@contextmanager
def removed_if_empty(folder: Path) -> Iterator[None]:
    """Remove a new folder and its new parents again if the context fails and they are empty.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as root, suppress(ZeroDivisionError):
    ...     with removed_if_empty(Path(root, "a", "b")):
    ...         Path(root, "a", "b").mkdir(parents=True)
    ...         raise ZeroDivisionError
    >>> Path(root, "a").exists()
    False
    """
    absent = _absent(folder)
    try:
        yield
    except BaseException:
        _remove_empty(absent)
        raise


@contextmanager
def hold_lock(path: Path, busy: str) -> Iterator[bool]:
    """Hold the lock of a file, which is created if needed.

    Parameters
    ----------
    path : Path
        Path of the file.
    busy : str
        Error message if another process holds the lock.

    Yields
    ------
    bool
        Whether the disk supports locks.

    Raises
    ------
    NearfarError
        If another process holds the lock, or the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with hold_lock(Path(folder, "lock"), "wait"), hold_lock(Path(folder, "lock"), "wait"):
    ...         pass
    Traceback (most recent call last):
    nearfar.errors.NearfarError: wait
    """
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise NearfarError(busy) from error
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
            raise NearfarError(f"cannot write {str(path)!r}: {error.strerror}") from error
    try:
        yield lock.is_locked
    finally:
        lock.release()


def is_unfinished_output(folder: Path) -> bool:
    """Return whether a process died, or failed, while writing output to a folder.

    Raises
    ------
    NearfarError
        If another process still writes to it.

    Examples
    --------
    >>> is_unfinished_output(Path("no", "such", "folder"))
    False
    """
    if not (folder / UNFINISHED).is_file():
        return False
    with _hold_mark(folder):
        return True


@contextmanager
def unfinished_output(folder: Path) -> Iterator[None]:
    """Mark an existing folder as unfinished while output is written to it.

    The mark stays if the context fails.

    Raises
    ------
    NearfarError
        If another process writes to the folder.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with suppress(ZeroDivisionError), unfinished_output(Path(folder)):
    ...         1 / 0
    ...     is_unfinished_output(Path(folder))
    True
    """
    with _hold_mark(folder):
        yield
        (folder / UNFINISHED).unlink(missing_ok=True)


def _hold_mark(folder: Path) -> AbstractContextManager[bool]:
    busy = f"another process is writing to {str(folder)!r}: choose another folder"
    return hold_lock(folder / UNFINISHED, busy)


@contextmanager
def whole_folder(folder: Path) -> Iterator[None]:
    """Remove a new folder again if the context, which writes to it, fails.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as root, suppress(ZeroDivisionError):
    ...     with whole_folder(Path(root, "new")):
    ...         Path(root, "new").mkdir()
    ...         Path(root, "new", "scores.csv").touch()
    ...         raise ZeroDivisionError
    >>> Path(root, "new").exists()
    False
    """
    is_new = not folder.exists()
    try:
        yield
    except BaseException:
        if is_new:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def check_own(folder: Path, own: Collection[str]) -> None:
    """Check that a folder contains only our own files.

    Parameters
    ----------
    folder : Path
        Folder to check.
    own : collection of str
        Names of our own files.

    Raises
    ------
    NearfarError
        If the folder contains anything else.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Path(folder, "scores.csv").touch()
    ...     check_own(Path(folder), {"scores.csv"})
    """
    for path in folder.iterdir():
        if path.name not in own and not _is_leftover(path):
            raise NearfarError(
                f"{str(folder)!r} contains {path.name!r}, which nearfar does not write there: "
                "choose another folder"
            )


def clear_folder(
    folder: Path, own: Collection[str], *, kept: Collection[str] = (), last: str = ""
) -> None:
    """Remove our own files from a folder.

    Parameters
    ----------
    folder : Path
        Folder to clear.
    own : collection of str
        Names of our own files.
    kept : collection of str
        Names of the files to keep.
    last : str
        Name of the file to remove last, so that it still identifies a folder that was only cleared
        halfway.

    Raises
    ------
    NearfarError
        If the folder contains other files, see `check_own`; in that case, nothing is removed.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Path(folder, "scores.csv").touch()
    ...     clear_folder(Path(folder), {"scores.csv"})
    ...     list(Path(folder).iterdir())
    []
    """
    check_own(folder, own)
    present = [path for path in folder.iterdir() if path.name not in kept]
    for path in sorted(present, key=lambda path: path.name == last):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def check_room(path: Path, needed: int, purpose: str) -> None:
    """Check that the disk has enough free space for a file or a folder.

    Parameters
    ----------
    path : Path
        Path of the output, which need not exist.
    needed : int
        Required space, in bytes.
    purpose : str
        Name of the content, in the plural, for the message.

    Raises
    ------
    NearfarError
        If there is less free space.

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
    """Return the free disk space for a path, which need not exist, in bytes.

    Examples
    --------
    >>> free_space(Path("no", "such", "folder")) > 0
    True
    """
    present = next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())
    return shutil.disk_usage(present).free


def reserve(path: Path) -> None:
    """Allocate the disk space of a sparse file.

    Otherwise, writing to its memory map on a full disk would kill the process.

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


def _is_leftover(path: Path) -> bool:
    """Return whether a file is an unfinished file of a crashed process."""
    return path.name.startswith(LEFTOVER) or bool(_SAFETENSORS_LEFTOVER.fullmatch(path.name))
