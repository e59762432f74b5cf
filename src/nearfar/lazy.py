"""Import of public names on first use, since importing torch takes seconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def on_first_use(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a package that imports its names on first use.

    Parameters
    ----------
    package : str
        Name of the package.
    homes : mapping of str to str
        Mapping from each public name to the module of the package that defines it.

    Examples
    --------
    >>> on_first_use("nearfar", {"NearfarError": "errors"})("NearfarError").__name__
    'NearfarError'
    """

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{homes[name]}"), name)

    return find
