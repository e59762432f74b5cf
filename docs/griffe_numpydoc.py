"""Griffe extension for the reference pages: what griffe does not read in our docstrings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from griffe import DocstringSectionKind, Extension, Module, Object

CHOICES = re.compile(r"^ *(\w+) : (\{.*\}.*?)(?:, optional)?$", re.MULTILINE)


class Numpydoc(Extension):
    """Shows defaults of signatures, whole types, and citations without reStructuredText.

    For the default of a parameter, griffe takes the first of several choices, ``{"a", "b"}``, and
    of several names, ``a, b``; of the type ``{"a", "b"} or int`` it drops the end. List this
    extension after griffe's own for dataclasses.
    """

    def on_package(self, *, pkg: Module, **kwargs: Any) -> None:
        """See `griffe.Extension`."""
        for documented in _objects(pkg):
            if documented.docstring is None:
                continue
            documented.docstring.value = re.sub(
                r"(?:\.\. )?\[(\d+)\]_?", r"[\1]", documented.docstring.value
            )
            signature = getattr(documented, "parameters", {})
            choices = dict(CHOICES.findall(documented.docstring.value))
            for section in documented.docstring.parsed:
                if section.kind is DocstringSectionKind.parameters:
                    for each in section.value:
                        if each.name in signature:
                            each.value = signature[each.name].default
                        each.annotation = choices.get(each.name, each.annotation)


def _objects(parent: Object) -> Iterator[Object]:
    """Yield an object and all that is defined in it."""
    yield parent
    for member in parent.members.values():
        if not member.is_alias:
            yield from _objects(member)
