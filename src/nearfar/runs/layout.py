"""Layout of a run folder: file names and lock."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tokenize import TokenError

from safetensors import SafetensorError

from nearfar.errors import NearfarError
from nearfar.files import (
    ADVICE,
    check_own,
    claim_output,
    clear_folder,
    hold_lock,
    remove_leftovers,
    try_output,
)

CONFIG, MODEL, LOG, EMBEDDINGS = "config.json", "model.safetensors", "log.jsonl", "embeddings.npy"
SKIPPED = "skipped.txt"
CHECKPOINT, BANK, SNAPSHOTS = "checkpoint.safetensors", "bank", "snapshots"
EVALUATION, REPORT, TENSORBOARD, LOCK = "evaluation.json", "report", "tensorboard", "lock"
OWN = {
    *(CONFIG, MODEL, LOG, EMBEDDINGS, SKIPPED, CHECKPOINT, BANK, SNAPSHOTS),
    *(EVALUATION, REPORT, TENSORBOARD, LOCK),
}


@contextmanager
def reading(folder: str | os.PathLike[str], name: str) -> Iterator[None]:
    """Context manager that raises a one-line error if reading the file `name` of a run fails.

    Examples
    --------
    >>> with reading(Path("run"), "log.jsonl"):
    ...     json.loads("{")
    Traceback (most recent call last):
    nearfar.errors.NearfarError: run 'run' is damaged: log.jsonl cannot be read (...)
    """
    folder = Path(folder)
    try:
        yield
    except DAMAGED as error:
        reason = str(error) if isinstance(error, NearfarError) else repr(error)
        raise NearfarError(
            f"run {str(folder)!r} is damaged: {name} cannot be read ({reason})"
        ) from error


DAMAGED = (
    *(OSError, EOFError, SafetensorError, ValueError, TypeError),
    *(LookupError, AttributeError, ArithmeticError, RecursionError, MemoryError),
    *(SyntaxError, TokenError),  # .npy headers are Python literals
)


def check_folder(folder: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Check that `claim_folder` would succeed.

    Raises
    ------
    NearfarError
        If the folder cannot be used, see `claim_folder`, or is not writable.

    Examples
    --------
    >>> check_folder(Path("new-run"), overwrite=False)
    """
    folder = Path(folder)
    replaces = overwrite and _is_run(folder)
    if replaces:
        check_own(folder, OWN)
    advice = "it is not a run, so choose another" if overwrite else ADVICE
    if not overwrite and (folder / CHECKPOINT).is_file():
        advice = "continue its training with --resume, choose another, or pass --overwrite"
    try_output(folder, overwrite=replaces, folder=True, kept={LOCK}, advice=advice)


def claim_folder(folder: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Create an empty run folder; with `overwrite`, an existing run is removed first.

    Raises
    ------
    NearfarError
        If the folder is not empty, unless it contains a run and `overwrite` is true.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     claim_folder(Path(folder, "run"), overwrite=False)
    ...     Path(folder, "run").is_dir()
    True
    """
    folder = Path(folder)
    if overwrite and _is_run(folder):
        clear_folder(folder, OWN, kept={LOCK}, last=CONFIG)
    check_folder(folder, overwrite=overwrite)
    claim_output(folder, overwrite=True, folder=True).mkdir(exist_ok=True)


def _is_run(folder: Path) -> bool:
    """Return whether ``config.json`` was written by nearfar, since the name is common."""
    with suppress(*DAMAGED):
        return "nearfar" in json.loads((folder / CONFIG).read_text(encoding="utf-8-sig"))
    return False


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Hold the lock of a run folder, which is created if needed.

    Raises
    ------
    NearfarError
        If another process holds the lock, or the folder is not writable.

    Warns
    -----
    UserWarning
        If the file system does not support locks.
    """
    path = claim_output(folder / LOCK, overwrite=True)
    busy = (
        f"run {str(folder)!r} is being trained by another process: wait until it finishes, or stop "
        "it"
    )
    with hold_lock(path, busy) as locked:
        if not locked:
            warnings.warn(
                f"the disk of run {str(folder)!r} has no locks: train it in one process at a time",
                stacklevel=3,
            )
        try:
            yield
        finally:
            if locked:  # otherwise, the file belongs to another process
                path.unlink(missing_ok=True)


def bank_folder(folder: str | os.PathLike[str]) -> Path:
    """Return the folder of the embeddings on disk during training.

    Examples
    --------
    >>> bank_folder("run").parent
    PosixPath('run')
    """
    return Path(folder) / BANK


def is_finished(folder: str | os.PathLike[str]) -> bool:
    """Return whether the run in a folder is finished, that is, contains a trained model.

    Examples
    --------
    >>> is_finished(Path("nowhere"))
    False
    """
    folder = Path(folder)
    return (folder / MODEL).is_file()


def remove_checkpoint(folder: str | os.PathLike[str]) -> None:
    """Remove the files that are only needed to resume training.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Path(folder, CHECKPOINT).touch()
    ...     remove_checkpoint(Path(folder))
    ...     list(Path(folder).iterdir())
    []
    """
    folder = Path(folder)
    (folder / CHECKPOINT).unlink(missing_ok=True)
    shutil.rmtree(folder / BANK, ignore_errors=True)
    remove_unfinished(folder)


def remove_unfinished(folder: Path) -> None:
    """Remove the temporary files of killed processes."""
    for each in (folder, folder / SNAPSHOTS):
        remove_leftovers(each)
