"""Errors for unusable input, and imports of optional packages."""

from __future__ import annotations

import importlib
from types import ModuleType

#: Maximum length of a message quoted from another library, in characters.
MAX_REASON = 200


class NearfarError(ValueError):
    """Raised for invalid input.

    The message is one line: the invalid value, the expected value and, if known, the remedy.

    Examples
    --------
    >>> from nearfar.config import Optim
    >>> Optim(batch_size=0)
    Traceback (most recent call last):
    nearfar.errors.NearfarError: batch_size=0: expected at least 1
    """


class MissingExtraError(NearfarError, ImportError):
    """Raised if an optional package is not installed. See `require`.

    Examples
    --------
    >>> issubclass(MissingExtraError, ImportError)
    True
    """


def require(module: str, *, extra: str) -> ModuleType:
    """Import and return a module of an optional package.

    Parameters
    ----------
    module : str
        Full name of the module.
    extra : str
        Name of the extra of nearfar that installs the package.

    Raises
    ------
    MissingExtraError
        If the package is not installed. The message names the extra.

    Examples
    --------
    >>> require("json", extra="demo").dumps([1])
    '[1]'
    >>> require("absent", extra="demo")
    Traceback (most recent call last):
    nearfar.errors.MissingExtraError: absent is not installed: run pip install 'nearfar[demo]'
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{error.name or module} is not installed: run pip install 'nearfar[{extra}]'"
        ) from error


def reason(error: BaseException) -> str:
    r"""Return an error message as one printable line of at most about 200 characters.

    Examples
    --------
    >>> reason(ValueError("bad header\nat byte 4"))
    'bad header at byte 4'
    >>> reason(KeyboardInterrupt())
    'KeyboardInterrupt'
    """
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = printable(" ".join(str(error).split())) or type(error).__name__
    return text if len(text) <= MAX_REASON else text[:MAX_REASON] + "…"


def printable(text: str) -> str:
    r"""Return text with unprintable characters escaped.

    Examples
    --------
    >>> printable("a\tb")
    'a\\tb'
    """
    return text if text.isprintable() else repr(text)[1:-1]
