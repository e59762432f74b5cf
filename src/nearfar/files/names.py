"""File names: Unicode normalization, natural order and length limits."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path
from zlib import crc32

#: Maximum length of a file name, in bytes.
_MAX_NAME = 255


def normal_form(name: str) -> str:
    r"""Return a name in Unicode normalization form NFC, for comparison of names.

    File systems may store a name in different forms: é as one character, or as e and an accent.

    Examples
    --------
    >>> len("cafe\N{COMBINING ACUTE ACCENT}"), len(normal_form("cafe\N{COMBINING ACUTE ACCENT}"))
    (5, 4)
    """
    return unicodedata.normalize("NFC", name)


def natural_key(name: str) -> list[tuple[int, str]]:
    """Return a sort key that orders numbers within names by value.

    Examples
    --------
    >>> sorted(["10.jpg", "2.jpg"], key=natural_key)
    ['2.jpg', '10.jpg']
    """
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def exists(path: Path) -> bool:
    """Return whether a path exists; False instead of an error if a name in it is too long.

    Examples
    --------
    >>> exists(Path("x" * 300))
    False
    """
    return os.path.exists(path)  # noqa: PTH110


def find_path(path: Path) -> Path:
    """Return a path in the Unicode form in which it is stored on disk.

    Examples
    --------
    >>> find_path(Path("no", "such", "file"))
    PosixPath('no/such/file')
    """
    if exists(path) or path.parent == path:
        return path
    parent = find_path(path.parent)
    if not path.name.isascii() and parent.is_dir():
        for each in parent.iterdir():
            if normal_form(each.name) == normal_form(path.name):
                return each
    return parent / path.name


def fitting_name(name: str, extension: str) -> str:
    """Return a file name of at most 255 bytes: a longer name is truncated and given a checksum.

    Examples
    --------
    >>> fitting_name("cat", ".png")
    'cat.png'
    >>> len(fitting_name(300 * "x", ".png"))
    255
    """
    encoded = os.fsencode(name)
    if len(encoded) + len(extension) <= _MAX_NAME:
        return name + extension
    mark = f"-{crc32(encoded):08x}{extension}"
    return encoded[: _MAX_NAME - len(mark)].decode(errors="ignore") + mark
