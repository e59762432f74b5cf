"""Loading of classifiers from a file or a function."""

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

_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def open_classifier(source: str) -> nn.Module:
    """Load a classifier from a file, or call a function of yours that returns one.

    Parameters
    ----------
    source : str
        Path of a .safetensors file written by `save_classifier`; or module:function, where the
        function takes no arguments and returns an nn.Module. Loading a file runs no code. Modules
        are searched for in the current folder first.

    Returns
    -------
    nn.Module
        Classifier in evaluation mode.

    Raises
    ------
    NearfarError
        If there is no such file or function, or your function raises an error.

    Examples
    --------
    >>> open_classifier("torch.nn:Identity")
    Identity()
    """
    if source.endswith(".safetensors"):
        return load_classifier(Path(source))
    if not _FUNCTION.fullmatch(source):
        raise NearfarError(
            f"classifier {source!r}: expected a .safetensors file written by nearfar, or "
            "your own module:function that returns a torch.nn.Module"
        )
    module, _, function = source.partition(":")
    try:
        with _current_folder_first():
            classifier = getattr(importlib.import_module(module), function)()
    except Exception as error:  # the user's code may raise anything
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise NearfarError(f"classifier {source!r} cannot be created ({reason})") from error
    if not isinstance(classifier, nn.Module):
        raise NearfarError(
            f"classifier {source!r} is a {type(classifier).__name__}: expected a torch.nn.Module"
        )
    return classifier.eval()


@contextmanager
def _current_folder_first() -> Iterator[None]:
    """Search the current folder first when importing modules, as ``python -m`` does."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)
