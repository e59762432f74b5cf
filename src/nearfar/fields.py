"""Dataclasses that check the types of what they are given, by a user or by a file."""

from __future__ import annotations

from numbers import Integral, Real
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from nearfar.errors import NearfarError


def check_fields(instance: Any) -> None:
    """Check every field of a dataclass against its type; to be called from ``__post_init__``.

    What means the same is made what the type says, so that JSON can hold it: numbers of NumPy,
    whole numbers where any are asked for, lists in place of tuples.

    Raises
    ------
    NearfarError
        That names the field, its value, and what was expected.
    """
    for name, hint in get_type_hints(type(instance)).items():
        value = getattr(instance, name)
        try:
            object.__setattr__(instance, name, _as(hint, value))
        except _ExpectedError as expected:
            raise NearfarError(f"{name}={value!r}: expected {expected}") from None


class _ExpectedError(Exception):
    """Says what was expected."""


def _as(hint: Any, value: Any) -> Any:
    """Return a value as the type that is asked for."""
    kind, arguments = get_origin(hint) or hint, get_args(hint)
    if hasattr(value, "tolist"):
        value = value.tolist()
    if kind in (Union, UnionType):
        return None if value is None else _as(arguments[0], value)
    if kind is Literal:
        if isinstance(value, str | int) and value in arguments:
            return value
        raise _ExpectedError(" or ".join(map(str, arguments)))
    if kind is tuple:
        return _as_tuple(arguments, value)
    if kind is int:
        if isinstance(value, Integral) and not isinstance(value, bool):
            return int(value)
        raise _ExpectedError("a whole number")
    if kind is float:
        if isinstance(value, Real) and not isinstance(value, bool):
            return float(value)
        raise _ExpectedError("a number")
    if isinstance(value, kind):
        return value
    raise _ExpectedError(f"{kind.__name__}")


def _as_tuple(hints: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
    endless = hints[-1] is Ellipsis
    if not isinstance(value, list | tuple) or not (endless or len(value) == len(hints)):
        raise _ExpectedError("a list" if endless else f"{len(hints)} values")
    return tuple(_as(hints[0] if endless else hints[i], item) for i, item in enumerate(value))
