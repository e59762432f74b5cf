"""Output files and folders: checks before writing, locks, and marks of unfinished output."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from nearfar.errors import NearfarError
from nearfar.files.atomic import LEFTOVER, explain, is_leftover, remove_abandoned, remove_of_ended

#: File that marks a folder whose output is still being written.
UNFINISHED = f"{LEFTOVER}output"
#: Error codes of file systems that do not support locks.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}

#: Size of the file that `try_output` writes to test a disk, in bytes.
_TRIAL_BYTES = 2**12
#: Maximum number of tries while other processes remove the folder that all of them create.
_TRIALS = 100

#: Suggested remedy in errors about existing output.
ADVICE = "choose another, or pass --overwrite (overwrite=True in Python)"


def check_output(
    path: Path,
    *,
    overwrite: bool,
    folder: bool = False,
    keep: Collection[str] = (),
    advice: str = ADVICE,
) -> None:
    """Check that a file or a folder may be written to `path`.

    Parameters
    ----------
    path : Path
        Output path.
    overwrite : bool
        Whether existing output may be replaced.
    folder : bool
        Whether the output is a folder.
    keep : collection of str
        File names that the folder may already contain even if `overwrite` is false.
    advice : str
        Suggested remedy in the error message.

    Raises
    ------
    NearfarError
        If `path` is a folder instead of a file, or vice versa. Also if `overwrite` is false and
        `path` is a file or a nonempty folder; unfinished files of crashed processes are ignored.

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
        occupied = any(not is_leftover(each) and each.name not in keep for each in path.iterdir())
    if occupied and not overwrite:
        raise NearfarError(f"{str(path)!r} exists already: {advice}")


def claim_output(
    path: Path,
    *,
    overwrite: bool,
    folder: bool = False,
    keep: Collection[str] = (),
    advice: str = ADVICE,
) -> Path:
    """Check that output may be written to `path`, create the parent folder, and return `path`.

    Temporary files for `path` that killed processes have left behind are removed.

    Parameters
    ----------
    path, overwrite, folder, keep, advice
        See `check_output`.

    Raises
    ------
    NearfarError
        If the output may not be written, see `check_output`, or the parent folder cannot be
        created.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     claim_output(Path(folder, "a", "scores.json"), overwrite=False).parent.is_dir()
    True
    """
    check_output(path, overwrite=overwrite, folder=folder, keep=keep, advice=advice)
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
    keep: Collection[str] = (),
    advice: str = ADVICE,
) -> None:
    """Write a test file to check that a file or a folder can be written to `path`.

    The test file and the folders created for it are removed afterward. Unfinished files left by
    killed processes are removed, too. Call this function before long computations.

    Parameters
    ----------
    path, overwrite, folder, keep, advice
        See `check_output`.

    Raises
    ------
    NearfarError
        If the output may not be written, see `check_output`, if the disk is full or read-only, or
        if permission is denied.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     try_output(Path(folder, "a", "scores.json"), overwrite=False)
    ...     list(Path(folder).iterdir())
    []
    """
    check_output(path, overwrite=overwrite, folder=folder, keep=keep, advice=advice)
    place = path if folder else path.parent
    absent = _absent(place)
    trial = place / f"{LEFTOVER}{os.getpid()}-trial"
    try:
        for left in reversed(range(_TRIALS)):
            try:
                place.mkdir(parents=True, exist_ok=True)
                trial.write_bytes(bytes(_TRIAL_BYTES))
                break
            except FileNotFoundError:  # another process removed its empty folder in between
                if not left:
                    raise
        if folder:
            remove_of_ended(list(path.rglob(f"{LEFTOVER}*")))
        else:
            remove_abandoned(path)
            remove_of_ended(list(place.glob(f"{LEFTOVER}*-trial")))
    except OSError as error:
        explain(path, error)
        raise NearfarError(f"cannot write {str(path)!r}: {error.strerror}") from error
    finally:
        with suppress(OSError):
            os.unlink(trial)  # noqa: PTH108
        _remove_empty(absent)


def _absent(folder: Path) -> list[Path]:
    """Return the folder and those of its parents that do not exist, innermost first."""
    return [path for path in (folder, *folder.parents) if not os.path.lexists(path)]


def _remove_empty(folders: Iterable[Path]) -> None:
    for path in folders:
        with suppress(OSError):  # not created, not empty, or used by another process
            path.rmdir()


@contextmanager
def remove_empty_on_failure(folder: Path) -> Iterator[None]:
    """Context manager that removes new empty folders if an error is raised inside.

    These are `folder` and its parents if they did not exist before.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as root, suppress(ZeroDivisionError):
    ...     with remove_empty_on_failure(Path(root, "a", "b")):
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
def remove_on_failure(folder: Path) -> Iterator[None]:
    """Context manager that removes a new folder and its content if an error is raised inside.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as root, suppress(ZeroDivisionError):
    ...     with remove_on_failure(Path(root, "new")):
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


@contextmanager
def hold_lock(path: Path, message: str) -> Iterator[bool]:
    """Context manager that holds a lock on a file, which is created if needed.

    Parameters
    ----------
    path : Path
        Path of the lock file.
    message : str
        Error message if another process holds the lock.

    Yields
    ------
    bool
        Whether the lock is held; False if the file system does not support locks.

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
        raise NearfarError(message) from error
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
            raise NearfarError(f"cannot write {str(path)!r}: {error.strerror}") from error
    try:
        yield lock.is_locked
    finally:
        lock.release()


def is_unfinished_output(folder: Path) -> bool:
    """Return whether a folder is marked as unfinished, because a process failed or was killed.

    Raises
    ------
    NearfarError
        If another process is still writing to the folder.

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
    """Context manager that marks an existing folder as unfinished while output is written to it.

    If an error is raised inside, the mark remains.

    Raises
    ------
    NearfarError
        If another process is writing to the folder.

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
    message = f"another process is writing to {str(folder)!r}: choose another folder"
    return hold_lock(folder / UNFINISHED, message)


def check_files(folder: Path, names: Collection[str]) -> None:
    """Check that a folder contains only files written by nearfar.

    Parameters
    ----------
    folder : Path
        Folder to check.
    names : collection of str
        Names of the files that nearfar writes there.

    Raises
    ------
    NearfarError
        If the folder contains other files or folders.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Path(folder, "scores.csv").touch()
    ...     check_files(Path(folder), {"scores.csv"})
    """
    for path in folder.iterdir():
        if path.name not in names and not is_leftover(path):
            raise NearfarError(
                f"{str(folder)!r} contains {path.name!r}, which nearfar does not write there: "
                "choose another folder"
            )


def clear_folder(
    folder: Path, names: Collection[str], *, keep: Collection[str] = (), last: str = ""
) -> None:
    """Remove the files written by nearfar from a folder.

    Parameters
    ----------
    folder : Path
        Folder to clear.
    names : collection of str
        Names of the files that nearfar writes there.
    keep : collection of str
        Names of files to keep.
    last : str
        Name of the file to remove last, so that it still identifies the folder if the removal is
        interrupted.

    Raises
    ------
    NearfarError
        If the folder contains other files, see `check_files`. In this case, nothing is removed.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Path(folder, "scores.csv").touch()
    ...     clear_folder(Path(folder), {"scores.csv"})
    ...     list(Path(folder).iterdir())
    []
    """
    check_files(folder, names)
    present = [path for path in folder.iterdir() if path.name not in keep]
    for path in sorted(present, key=lambda path: path.name == last):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
