"""File names: Unicode forms, natural order, and lengths."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path
from zlib import crc32

#: Longest file name, in bytes.
_MAX_NAME = 255


def normal_form(name: str) -> str:
    r"""Return a name in Unicode form NFC, used to compare names.

    File systems may store the same name in different forms: é is one character, or e and an accent.

    Examples
    --------
    >>> len("cafe\N{COMBINING ACUTE ACCENT}"), len(normal_form("cafe\N{COMBINING ACUTE ACCENT}"))
    (5, 4)
    """
    return unicodedata.normalize("NFC", name)


def natural_key(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts numbers inside names by value.

    Examples
    --------
    >>> sorted(["10.jpg", "2.jpg"], key=natural_key)
    ['2.jpg', '10.jpg']
    """
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def exists(path: Path) -> bool:
    """Return whether a path exists; unlike `Path.exists`, False if a name in it is too long.

    Examples
    --------
    >>> exists(Path("x" * 300))
    False
    """
    return os.path.exists(path)  # noqa: PTH110


def find_path(path: Path) -> Path:
    """Return a path as spelled on the disk, possibly in a different Unicode form.

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
    """Return a file name of at most 255 bytes; longer names are truncated and get a checksum.

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
