"""Files written atomically, checks of output paths, and disk space."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import unicodedata
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from zlib import crc32

from nearfar.errors import NearfarError

#: Prefix of unfinished files.
LEFTOVER = ".unfinished-"
#: Unfinished files of safetensors, which writes beside the file that it is given.
_SAFETENSORS_LEFTOVER = re.compile(r"\.tmp[A-Za-z0-9]{6}")
#: Longest file name, in bytes.
_MAX_NAME = 255
#: Longest suffix of a temporary file, in characters; libraries choose formats by it.
_MAX_SUFFIX = 20

#: Size of a file that is written to see whether a disk has room.
_TRIAL_BYTES = 2**12

#: Remedy for output that exists already.
ADVICE = "choose another, or pass --overwrite"

#: List of numbers in indented JSON, where no string contains a line break.
_NUMBERS = re.compile(r"\[\n([-+.\deE,\s]+)\]")


def remove_leftovers(folder: Path) -> None:
    """Remove unfinished files of crashed processes from a folder that no other process writes to.

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


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; the file is renamed to `path` on success.

    The folder is created if absent.

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
    unique = f"{os.getpid()}-{crc32(os.fsencode(path.name)):08x}"
    temporary = path.with_name(f"{LEFTOVER}{unique}{path.suffix[:_MAX_SUFFIX]}")
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
    """Raise a one-line error that names the output, if the disk cannot be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise NearfarError(f"no room on the disk to write {str(path)!r}") from error
    if error.errno == errno.EROFS:
        raise NearfarError(f"cannot write {str(path)!r}: the disk is read-only") from error
    if error.errno in (errno.EACCES, errno.EPERM):
        raise NearfarError(f"cannot write {str(path)!r}: permission denied") from error


def normal_form(name: str) -> str:
    r"""Return a name in the Unicode form that names are compared in (NFC).

    Systems store one name in two forms: é is one character, or e with an accent.

    Examples
    --------
    >>> len("cafe\N{COMBINING ACUTE ACCENT}"), len(normal_form("cafe\N{COMBINING ACUTE ACCENT}"))
    (5, 4)
    """
    return unicodedata.normalize("NFC", name)


def find_path(path: Path) -> Path:
    """Return a path as it is on the disk, if its name there has another Unicode form.

    Examples
    --------
    >>> find_path(Path("no", "such", "file"))
    PosixPath('no/such/file')
    """
    if path.exists() or path.parent == path:
        return path
    parent = find_path(path.parent)
    if not path.name.isascii() and parent.is_dir():
        for each in parent.iterdir():
            if normal_form(each.name) == normal_form(path.name):
                return each
    return parent / path.name


def fitting_name(name: str, ending: str) -> str:
    """Return a file name from a name and an ending, shortened to 255 bytes, unique per name.

    Examples
    --------
    >>> fitting_name("cat", ".png")
    'cat.png'
    >>> len(fitting_name(300 * "x", ".png"))
    255
    """
    encoded = os.fsencode(name)
    if len(encoded) + len(ending) <= _MAX_NAME:
        return name + ending
    mark = f"-{crc32(encoded):08x}{ending}"
    return encoded[: _MAX_NAME - len(mark)].decode(errors="ignore") + mark


def sync(path: Path) -> None:
    """Wait until a file is on the disk, safe from a power failure.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     sync(Path(file.name))
    """
    with path.open("rb") as file:
        os.fsync(file.fileno())


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, each list of numbers on one line, atomically.

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
        Files of earlier calls that the folder may contain.
    advice : str
        Remedy to name in the message.

    Raises
    ------
    NearfarError
        If `path` exists with anything but leftovers in it, and `overwrite` is false.

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
    """Check that a file or a folder may be written to `path`, and create its parent folder.

    Parameters
    ----------
    path, overwrite, folder, kept, advice
        See `check_output`.

    Raises
    ------
    NearfarError
        See `check_output`; or if the parent folder cannot be created.

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
    return path


def try_output(
    path: Path,
    *,
    overwrite: bool,
    folder: bool = False,
    kept: Collection[str] = (),
    advice: str = ADVICE,
) -> None:
    """Check that a file or a folder can be written to `path`, by writing something there.

    Nothing is left behind: folders that are absent are created, and removed again. Call this before
    work that may take hours.

    Parameters
    ----------
    path, overwrite, folder, kept, advice
        See `check_output`.

    Raises
    ------
    NearfarError
        See `check_output`; or if the disk is full or read-only, or permission is denied.

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
    absent = [each for each in (place, *place.parents) if not each.exists()]
    trial = place / f"{LEFTOVER}{os.getpid()}-trial"
    try:
        place.mkdir(parents=True, exist_ok=True)
        trial.write_bytes(bytes(_TRIAL_BYTES))
    except OSError as error:
        _explain(path, error)
        raise NearfarError(f"cannot write {str(path)!r}: {error.strerror}") from error
    finally:
        with suppress(OSError):
            os.unlink(trial)  # noqa: PTH108
        for each in absent:
            with suppress(OSError):  # not created, or used by another process since
                each.rmdir()


def check_own(folder: Path, own: Collection[str]) -> None:
    """Check that a folder contains only files that an earlier call wrote.

    Parameters
    ----------
    folder : Path
        Folder to check.
    own : collection of str
        Names that such a folder may contain.

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
    """Remove the files that an earlier call wrote to a folder.

    Parameters
    ----------
    folder : Path
        Folder to clear.
    own : collection of str
        Names that such a folder may contain.
    kept : collection of str
        Names among these to keep.
    last : str
        Name of the file to remove last: it identifies a folder that was only cleared halfway.

    Raises
    ------
    NearfarError
        See `check_own`; nothing is removed then.

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
    """Check that the disk has space for a file or a folder.

    Parameters
    ----------
    path : Path
        Path of the output; need not exist.
    needed : int
        Required space, in bytes.
    purpose : str
        Content of the output, in the plural.

    Raises
    ------
    NearfarError
        If less space is free.

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
    """Return the free disk space at the path of a file or a folder that may not exist, in bytes.

    Examples
    --------
    >>> free_space(Path("no", "such", "folder")) > 0
    True
    """
    present = next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())
    return shutil.disk_usage(present).free


def reserve(path: Path) -> None:
    """Allocate the disk space of a sparse file: writing to a hole on a full disk is fatal.

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
    """Format a number of bytes in MiB or GiB.

    Examples
    --------
    >>> readable_size(3 * 2**29)
    '1.5 GiB'
    """
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"


def _is_leftover(path: Path) -> bool:
    """Whether a file is an unfinished one of a crashed process."""
    return path.name.startswith(LEFTOVER) or bool(_SAFETENSORS_LEFTOVER.fullmatch(path.name))
