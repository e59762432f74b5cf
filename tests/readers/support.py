"""What cases share: the command line with its output, and the one line of a rejection."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from nearfar.cli import main
from nearfar.errors import NearfarError


class Said(NamedTuple):
    """Exit code and output of a command."""

    code: int
    out: str
    err: str


def command(*arguments: object) -> Said:
    """Run a command line in this process."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = int(stop.code or 0)
    return Said(code, out.getvalue(), err.getvalue())


def rejected(said: Said, *words: str) -> None:
    """Check that a command ended with one line, exit code 2 and these words."""
    assert said.code == 2, said
    lines = [line for line in said.err.splitlines() if line.startswith("nearfar: ")]
    assert len(lines) == 1, said.err
    assert said.err.splitlines()[-1] == lines[0], said.err
    for word in words:
        assert word in lines[0], lines[0]


@contextlib.contextmanager
def rejection(*words: str) -> Iterator[None]:
    """Check that the context raises a one-line error with these words."""
    with pytest.raises(NearfarError) as caught:
        yield
    text = str(caught.value)
    assert "\n" not in text
    for word in words:
        assert word in text, text


def listing(folder: Path) -> dict[str, bytes]:
    """Return the content of all files below a folder, to check that nothing changes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
