"""What the library says when an input cannot be used."""

from __future__ import annotations

import importlib
from types import ModuleType


class NearfarError(ValueError):
    """An input that cannot be used: one line that names it, what was expected and what to do."""


class MissingExtraError(NearfarError, ImportError):
    """An optional package is not installed."""


def require(module: str, *, extra: str) -> ModuleType:
    """Import a module of an optional package.

    Raises
    ------
    MissingExtraError
        Naming the extra of nearfar that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{error.name or module} is not installed: run pip install 'nearfar[{extra}]'"
        ) from error
