"""What the library says when an input cannot be used."""

from __future__ import annotations

import importlib
from types import ModuleType

#: Characters of a library's error message that are repeated.
MAX_REASON = 200


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


def reason(error: BaseException) -> str:
    """What the error says, without line breaks, terminal escapes or undecodable characters."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = printable(" ".join(str(error).split())) or type(error).__name__
    return text if len(text) <= MAX_REASON else text[:MAX_REASON] + "…"


def printable(text: str) -> str:
    """The text itself, or with escapes in place of what cannot be printed."""
    return text if text.isprintable() else repr(text)[1:-1]
