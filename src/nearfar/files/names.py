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
    r"""Return a file name in Unicode normalization form NFC, so that names can be compared.

    File systems store é either as one character or as e and an accent.

    Examples
    --------
    >>> len("cafe\N{COMBINING ACUTE ACCENT}"), len(normal_form("cafe\N{COMBINING ACUTE ACCENT}"))
    (5, 4)
    """
    return unicodedata.normalize("NFC", name)


def natural_key(name: str) -> list[tuple[int, str]]:
    """Return a sort key for file names that compares numbers by value.

    With this key, "2.jpg" precedes "10.jpg".

    Examples
    --------
    >>> sorted(["10.jpg", "2.jpg"], key=natural_key)
    ['2.jpg', '10.jpg']
    """
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def exists(path: Path) -> bool:
    """Return whether a path exists. A path with a name that is too long does not exist.

    Examples
    --------
    >>> exists(Path("x" * 300))
    False
    """
    return os.path.exists(path)  # noqa: PTH110


def find_path(path: Path) -> Path:
    """Return a path with names in the Unicode form in which they are stored on disk.

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
    """Return `name` with the extension. A result longer than 255 bytes is shortened.

    A checksum of the full name replaces the end of the shortened name.

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
