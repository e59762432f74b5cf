"""The command line, called as a user would, within this process."""

from __future__ import annotations

from nearfar.cli import main

#: Options of a training of seconds.
QUICK = (
    "--pretrain-epochs 2 --epochs 2 --embedding-size 12 --clusters 4 --batch-size 64 --device cpu"
).split()


def run(*arguments: object) -> int:
    """Call the program, and return its exit code."""
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0
