"""Type and range checks for the fields of dataclasses."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable
from dataclasses import fields
from numbers import Integral, Real
from types import UnionType
from typing import Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

from nearfar.errors import NearfarError


def check_fields(instance: Any) -> None:
    """Check each field of a dataclass against its type, for use in ``__post_init__``.

    Compatible values are converted: NumPy numbers to Python numbers, integers to floats, and lists
    to tuples. Class variables are ignored.

    Raises
    ------
    NearfarError
        If a value has the wrong type. The message states the field, the value and the expected
        type.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class Size:
    ...     height: int
    ...     def __post_init__(self):
    ...         check_fields(self)
    >>> Size(height="tall")
    Traceback (most recent call last):
    nearfar.errors.NearfarError: height='tall': expected a whole number
    """
    options = {each.name: each.metadata.get("option", each.name) for each in fields(instance)}
    for name, hint in get_type_hints(type(instance)).items():
        if get_origin(hint) is ClassVar:
            continue
        object.__setattr__(instance, name, convert(options[name], hint, getattr(instance, name)))


def convert(name: str, hint: Any, value: Any) -> Any:
    """Check a value against a type and return it, converted as in `check_fields`.

    Parameters
    ----------
    name : str
        Name of the value, for the error message.
    hint : type
        Type, such as ``tuple[int, int]``.
    value : object
        Value to convert.

    Raises
    ------
    NearfarError
        If the value has the wrong type. The message states the value and the expected type.

    Examples
    --------
    >>> convert("size", tuple[int, int], [3, 4])
    (3, 4)
    """
    try:
        return _as(hint, value)
    except _ExpectedError as expected:
        raise NearfarError(f"{name}={reprlib.repr(value)}: expected {expected}") from None


def check_ranges(instance: Any, **ranges: str) -> None:
    """Check that numbers in fields, or in tuples in fields, are within a range.

    None is allowed.

    Parameters
    ----------
    instance : dataclass instance
        Object with the fields to check.
    **ranges : str
        Range of each field: ">= 1", "> 0", or an interval such as "(0, 1]".

    Raises
    ------
    NearfarError
        If a number is outside its range or not finite.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> check_ranges(SimpleNamespace(rate=2.0), rate="(0, 1]")
    Traceback (most recent call last):
    nearfar.errors.NearfarError: rate=2.0: expected more than 0 and at most 1
    """
    for name, text in ranges.items():
        value = getattr(instance, name)
        numbers = value if isinstance(value, tuple) else () if value is None else (value,)
        inside, expected = _parse_range(text)
        if not all(math.isfinite(number) and inside(number) for number in numbers):
            raise NearfarError(f"{name}={value}: expected {expected}")


def _parse_range(text: str) -> tuple[Callable[[float], bool], str]:
    """Return a function that checks whether a number is in a range, and a description."""
    if text[0] == ">":
        least = float(text.strip(">= "))
        if "=" in text:
            return lambda number: number >= least, f"at least {least:g}"
        return lambda number: number > least, f"more than {least:g}"
    low, high = (float(bound) for bound in text[1:-1].split(","))
    above = f"at least {low:g}" if text[0] == "[" else f"more than {low:g}"
    below = f"at most {high:g}" if text[-1] == "]" else f"less than {high:g}"

    def inside(number: float) -> bool:
        return (low <= number if text[0] == "[" else low < number) and (
            number <= high if text[-1] == "]" else number < high
        )

    return inside, f"{above} and {below}"


class _ExpectedError(Exception):
    """Raised for a value of the wrong type, with a description of the expected type."""


def _as(hint: Any, value: Any) -> Any:
    """Return a value converted to a type."""
    kind, arguments = get_origin(hint) or hint, get_args(hint)
    if hasattr(value, "tolist") and not callable(value):
        value = value.tolist()
    if kind in (Union, UnionType):
        return _as_any(arguments, value)
    if kind is Callable:
        if callable(value):
            return value
        raise _ExpectedError("a callable")
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
    raise _ExpectedError("text" if kind is str else f"{kind.__name__}")


def _as_any(hints: tuple[Any, ...], value: Any) -> Any:
    """Return a value converted to the first type that matches."""
    if value is None and type(None) in hints:
        return None
    expected = []
    for hint in hints:
        try:
            return _as(hint, value)
        except _ExpectedError as error:
            expected.append(str(error))
    raise _ExpectedError(" or ".join(expected[: len(hints) - (type(None) in hints)]))


def _as_tuple(hints: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
    endless = hints[-1] is Ellipsis
    if not isinstance(value, list | tuple) or not (endless or len(value) == len(hints)):
        raise _ExpectedError("a list" if endless else f"{len(hints)} values")
    return tuple(_as(hints[0] if endless else hints[i], item) for i, item in enumerate(value))
