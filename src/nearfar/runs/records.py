"""Records of a run: metrics per epoch, skipped files and evaluation scores."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nearfar.errors import NearfarError
from nearfar.files import atomic_path, write_json
from nearfar.runs.layout import EVALUATION, LOG, SKIPPED, explain_damage


def write_evaluation(folder: str | os.PathLike[str], evaluation: Mapping[str, Any]) -> None:
    """Write the evaluation scores of a run to its folder.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_evaluation(Path(folder), {"columns": {}, "rows": {}})
    ...     read_evaluation(Path(folder))
    {'columns': {}, 'rows': {}}
    """
    folder = Path(folder)
    write_json(folder / EVALUATION, evaluation)


def read_evaluation(folder: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Return the evaluation scores of a run as JSON types, or None if it has not been evaluated.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_evaluation(Path(folder), {"columns": {}, "rows": {}})
    ...     read_evaluation(Path(folder))
    {'columns': {}, 'rows': {}}
    """
    folder = Path(folder)
    path = folder / EVALUATION
    if not path.is_file():
        return None
    with explain_damage(folder, EVALUATION):
        evaluation: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return evaluation


def write_skipped(folder: Path, lines: Sequence[str]) -> None:
    """Write ``skipped.txt``, with one line per file that was not used.

    If there are no lines, an existing ``skipped.txt`` is removed.
    """
    if not lines:
        (folder / SKIPPED).unlink(missing_ok=True)
        return
    with atomic_path(folder / SKIPPED) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def read_skipped(folder: Path) -> list[str]:
    """Return the lines of ``skipped.txt``; empty if the file does not exist."""
    path = folder / SKIPPED
    with explain_damage(folder, SKIPPED):
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def append_log(folder: Path, line: Mapping[str, Any]) -> None:
    """Append the metrics of an epoch to ``log.jsonl``."""
    with (folder / LOG).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def write_log(folder: str | os.PathLike[str], lines: Iterable[Mapping[str, Any]]) -> None:
    """Write the metrics of all epochs to ``log.jsonl``.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_log(Path(folder), [{"phase": "train", "epoch": 1, "loss": 0.5}])
    ...     read_log(Path(folder))
    [{'phase': 'train', 'epoch': 1, 'loss': 0.5}]
    """
    folder = Path(folder)
    with atomic_path(folder / LOG) as temporary:
        temporary.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def read_log(folder: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Return the metrics of each epoch from ``log.jsonl``.

    If the last line is incomplete, because a process was killed, this line is ignored.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_log(Path(folder), [{"phase": "train", "epoch": 1, "loss": 0.5}])
    ...     read_log(Path(folder))
    [{'phase': 'train', 'epoch': 1, 'loss': 0.5}]
    """
    folder = Path(folder)
    path = folder / LOG
    with explain_damage(folder, LOG):
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        return [_record(json.loads(line)) for line in lines if line.endswith("\n")]


def _record(line: Any) -> dict[str, Any]:
    """Return the values of a log line; raise an error if any value has the wrong type."""
    numbers = {name: value for name, value in line.items() if name != "phase"}
    if not isinstance(line["phase"], str) or not isinstance(line["epoch"], int):
        raise NearfarError(f"epoch {line['epoch']!r} of phase {line['phase']!r}")
    for name, value in numbers.items():
        if not isinstance(value, int | float | None):
            raise NearfarError(f"{name}={value!r}: expected a number")
    return dict(line)
