"""Labels as tables and files beside images write them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from nearfar.errors import NearfarError, printable
from nearfar.files import normal_form

#: Names of columns with labels, in lower case without signs, the likeliest first.
_LABEL_COLUMNS = (
    *("label", "labels", "class", "classname", "classlabel", "category", "categoryname", "target"),
    *("y", "cls", "labelname", "species"),
)
#: Digits of the largest number that is a label.
MAX_DIGITS = 18
#: Ending of whole numbers in tables with floats.
WHOLE = ".0"


def label_columns(titles: Iterable[str]) -> list[str]:
    """Return the titles of columns with labels, the likeliest first; y beside x is a coordinate.

    Examples
    --------
    >>> label_columns(["path", "y", "Class name"])
    ['Class name', 'y']
    >>> label_columns(["path", "x", "y"])
    []
    """
    plain = {"".join(filter(str.isalnum, title.lower())): title for title in titles}
    if "x" in plain:
        plain.pop("y", None)
    return [plain[each] for each in _LABEL_COLUMNS if each in plain]


def label_values(
    labels: Sequence[Any], title: str, name: str, *, text: bool = False
) -> list[int | str | None]:
    """Return labels as whole numbers if all are, otherwise as names; None for missing ones.

    Parameters
    ----------
    labels : sequence
        Values of a column.
    title, name : str
        The column and its file, for messages.
    text : bool
        Whether numbers are written as text.

    Raises
    ------
    NearfarError
        If a label is a fraction, a list or anything else.
    """
    known = [label for label in labels if not _is_missing(label)]
    values: Sequence[int | str]
    if text and all(_is_number(label) for label in known):
        values = [int(label.removesuffix(WHOLE)) for label in known]
    elif all(isinstance(label, str | bool) for label in known):
        values = [printable(normal_form(str(label))) for label in known]
    else:
        for label in known:
            if not isinstance(label, int | float) or not _is_whole(label):
                raise NearfarError(
                    f"the column {title!r} of {name!r} holds {printable(repr(label)[:80])}: "
                    "expected names or whole numbers"
                )
        values = [int(label) for label in known]
    following = iter(values)
    return [None if _is_missing(label) else next(following) for label in labels]


def _is_missing(label: Any) -> bool:
    return label is None or label == "" or (isinstance(label, float) and math.isnan(label))


def _is_number(text: str) -> bool:
    """Whether a text is a whole number as it is usually written: 7 or 7.0, not 007."""
    whole = text.removesuffix(WHOLE)
    digits = whole.removeprefix("-")
    plain = digits.isascii() and digits.isdecimal() and len(digits) <= MAX_DIGITS
    return plain and str(int(whole)) == whole


def _is_whole(number: float) -> bool:
    return abs(number) < 10**MAX_DIGITS and number == int(number)
