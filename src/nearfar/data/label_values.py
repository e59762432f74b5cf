"""Labels from columns of tables and from files next to images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from nearfar.errors import NearfarError, printable
from nearfar.files import normal_form

#: Names of label columns, in lowercase without punctuation, most likely first.
_LABEL_COLUMNS = (
    *("label", "labels", "class", "classname", "classlabel", "category", "categoryname", "target"),
    *("y", "cls", "labelname", "species"),
)
#: Maximum number of digits of a label.
MAX_DIGITS = 18
#: Ending of whole numbers in tables with floats.
WHOLE = ".0"


def label_columns(titles: Iterable[str]) -> list[str]:
    """Return the titles of the columns that may hold labels, the most likely first.

    If there is a column x, a column y is assumed to contain coordinates instead of labels.

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
    """Convert a column of labels to integers if all are whole numbers, otherwise to names.

    Missing labels become None.

    Parameters
    ----------
    labels : sequence
        Values of a column.
    title, name : str
        Names of the column and of its file, for error messages.
    text : bool
        Whether the values were read from text, so that numbers are strings.

    Raises
    ------
    NearfarError
        If a label is neither a name nor a whole number.
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
    """Return whether text is a whole number without leading zeros, such as 7 or 7.0."""
    whole = text.removesuffix(WHOLE)
    digits = whole.removeprefix("-")
    plain = digits.isascii() and digits.isdecimal() and len(digits) <= MAX_DIGITS
    return plain and str(int(whole)) == whole


def _is_whole(number: float) -> bool:
    return abs(number) < 10**MAX_DIGITS and number == int(number)
