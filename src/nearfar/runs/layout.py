"""Layout of a run folder: file names, checks and the lock."""

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
    check_files,
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
def explain_damage(folder: str | os.PathLike[str], name: str) -> Iterator[None]:
    """Context manager that raises a one-line error if the file `name` of a run cannot be read.

    Examples
    --------
    >>> with explain_damage(Path("run"), "log.jsonl"):
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
        check_files(folder, OWN)
    advice = "it is not a run, so choose another" if overwrite else ADVICE
    if not overwrite and (folder / CHECKPOINT).is_file():
        advice = "continue its training with --resume, choose another, or pass --overwrite"
    try_output(folder, overwrite=replaces, folder=True, keep={LOCK}, advice=advice)


def claim_folder(folder: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Create an empty run folder. With `overwrite`, an existing run is removed first.

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
        clear_folder(folder, OWN, keep={LOCK}, last=CONFIG)
    check_folder(folder, overwrite=overwrite)
    claim_output(folder, overwrite=True, folder=True).mkdir(exist_ok=True)


def _is_run(folder: Path) -> bool:
    """Return whether the folder contains a ``config.json`` written by nearfar.

    Other programs also use this file name.
    """
    with suppress(*DAMAGED):
        return "nearfar" in json.loads((folder / CONFIG).read_text(encoding="utf-8-sig"))
    return False


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Context manager that holds the lock of a run folder. The folder is created if needed.

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
    message = (
        f"run {str(folder)!r} is being trained by another process: wait until it finishes, or stop "
        "it"
    )
    with hold_lock(path, message) as locked:
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
    """Return the folder in which a run keeps its embeddings on disk during training.

    Examples
    --------
    >>> bank_folder("run").parent
    PosixPath('run')
    """
    return Path(folder) / BANK


def is_finished(folder: str | os.PathLike[str]) -> bool:
    """Return whether a folder contains a finished run, that is, a trained model.

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
    """Remove temporary files of killed processes from a run folder."""
    for each in (folder, folder / SNAPSHOTS):
        remove_leftovers(each)
