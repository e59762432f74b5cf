"""From what the user names to a classifier."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import nn

from nearfar.defense.classifiers import load_classifier
from nearfar.errors import NearfarError

FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def open_classifier(source: str) -> nn.Module:
    """Open a classifier.

    Parameters
    ----------
    source : str
        A .safetensors file that nearfar wrote, from which nothing is run; or module:function,
        which runs code of the user's own: the module is imported, from the current folder first,
        and the function called without arguments for an nn.Module.

    Raises
    ------
    NearfarError
        If there is none, or it cannot be made.
    """
    if source.endswith(".safetensors"):
        return load_classifier(Path(source))
    if not FUNCTION.fullmatch(source):
        raise NearfarError(
            f"classifier {source!r}: expected a .safetensors file that nearfar wrote, or "
            "module:function of your own, which gives a torch.nn.Module"
        )
    module, _, function = source.partition(":")
    try:
        with _current_folder_first():
            made = getattr(importlib.import_module(module), function)()
    except Exception as error:  # the user's own code may raise anything
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise NearfarError(f"classifier {source!r} cannot be made ({reason})") from error
    if not isinstance(made, nn.Module):
        raise NearfarError(
            f"classifier {source!r} is a {type(made).__name__}: expected a torch.nn.Module"
        )
    return made.eval()


@contextmanager
def _current_folder_first() -> Iterator[None]:
    """Import from the current folder, as python -m does."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)
