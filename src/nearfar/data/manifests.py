"""Manifests: tables of image paths and, optionally, labels, in CSV or Parquet."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nearfar.data.found import FileItem, Found
from nearfar.errors import NearfarError, printable, reason
from nearfar.files import find_path, normal_form

MANIFEST_ENDINGS = (".csv", ".tsv")
#: Names of path and label columns, in lowercase without punctuation, most likely first.
PATH_COLUMNS = (
    *("path", "file", "filename", "filepath", "image", "imagepath", "imagefile", "imagefilename"),
    *("imagefilepath", "img", "imgpath", "imgfile", "imagename", "imageid"),
)
LABEL_COLUMNS = (
    *("label", "labels", "class", "classname", "classlabel", "category", "categoryname", "target"),
    *("y", "cls", "labelname", "species"),
)
#: Largest manifest, in bytes, since it is read as a whole.
MAX_BYTES = 2**31
SEPARATORS = ",;\t"


def read_csv_manifest(path: Path, name: str) -> Found:
    """Read a text table: UTF-8, or UTF-16 with a byte order mark; commas, semicolons or tabs.

    Raises
    ------
    NearfarError
        If it cannot be read, or has no path column.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise NearfarError(f"{name!r} is larger than 2 GiB: save it as Parquet, or in parts")
        content = path.read_bytes()
        utf16 = content[:2] in (b"\xff\xfe", b"\xfe\xff")
        text = content.decode("utf-16" if utf16 else "utf-8-sig")
        separator = max(SEPARATORS, key=text.partition("\n")[0].count)
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True))
    except UnicodeDecodeError as error:
        raise NearfarError(f"{name!r} is not UTF-8: save it as UTF-8") from error
    except (OSError, csv.Error) as error:
        raise NearfarError(f"{name!r} cannot be read as a table ({reason(error)})") from error
    titles = rows[0] if rows else []
    body = [row for row in rows[1:] if any(map(str.strip, row))]
    longer = next((row for row in body if len(row) > len(titles)), None)
    if longer is not None:
        raise NearfarError(
            f"{name!r} has a row of {len(longer)} values under {len(titles)} titles "
            f"({printable(str(longer[0]))!r}, …): quote values that contain {separator!r}"
        )
    files, labels = choose_columns(titles, name)
    numbers = {title: number for number, title in enumerate(titles)}

    def column(title: str) -> list[str]:
        number = numbers[title]
        return [row[number].strip() if number < len(row) else "" for row in body]

    found = _found(path.parent, column(files), name)
    found.unread = columns_not_read(titles, (files, labels))
    return _with_labels(found, None if labels is None else column(labels), labels, name, text=True)


def choose_columns(titles: Sequence[str], name: str) -> tuple[str, str | None]:
    """Return the names of the path column and, if any, the label column.

    Raises
    ------
    NearfarError
        If no column has a usual name for paths, or two titles are equal.
    """
    plain = {"".join(filter(str.isalnum, title.lower())): title for title in reversed(titles)}
    files = next((plain[each] for each in PATH_COLUMNS if each in plain), None)
    labels = next((plain[each] for each in LABEL_COLUMNS if each in plain), None)
    if files is None:
        raise NearfarError(
            f"{name!r} has the columns {_listed(titles)}: expected the paths of images in a column "
            "named path, file, filename or image"
        )
    for title in (files, labels):
        if title is not None and list(titles).count(title) > 1:
            raise NearfarError(f"{name!r} has two columns named {title!r}: expected one")
    return files, labels


def manifest_of(
    root: Path, files: Sequence[Any], labels: Sequence[Any] | None, title: str | None, name: str
) -> Found:
    """Return the images listed in columns read from Parquet."""
    paths = ["" if file is None else str(file).strip() for file in files]
    return _with_labels(_found(root, paths, name), labels, title, name, text=False)


def columns_not_read(titles: Sequence[str], used: Collection[str | None]) -> list[str]:
    """Return one line per unused column."""
    return [f"column {printable(title)!r}: not read" for title in titles if title not in used]


def number_of(labels: Sequence[Any], title: str, name: str, *, text: bool) -> list[Any] | None:
    """Return labels that are all whole numbers, or all text; None if some are missing.

    Raises
    ------
    NearfarError
        If they are fractions or lists.
    """
    if any(_is_missing(label) for label in labels):
        return None
    if text:
        whole = all(label.removeprefix("-").isdecimal() and label.isascii() for label in labels)
        if whole and all(str(int(label)) == label for label in labels):
            return _whole(labels, title, name)
        return [printable(normal_form(label)) for label in labels]
    if all(isinstance(label, str | bool) for label in labels):
        return [printable(normal_form(str(label))) for label in labels]
    if all(isinstance(label, int | float) and label == int(label) for label in labels):
        return _whole(labels, title, name)
    other = next(label for label in labels if not isinstance(label, int) or label != int(label))
    raise NearfarError(
        f"the column {title!r} of {name!r} holds {printable(repr(other)[:80])}: expected names or "
        "whole numbers"
    )


def _whole(labels: Sequence[Any], title: str, name: str) -> list[int]:
    numbers = [int(label) for label in labels]
    ends = np.iinfo(np.int64)
    if numbers and not ends.min <= min(numbers) <= max(numbers) <= ends.max:
        raise NearfarError(f"the column {title!r} of {name!r} holds {max(numbers)}: too large")
    return numbers


def _is_missing(label: Any) -> bool:
    return label is None or label == "" or (isinstance(label, float) and math.isnan(label))


def _found(root: Path, files: Sequence[str], name: str) -> Found:
    """Return the images at paths relative to a folder; an empty path names no image."""
    if not files:
        raise NearfarError(f"{name!r} has no rows: expected a path in each")
    return Found(items=[FileItem(root, file) for file in files])


def _with_labels(
    found: Found, labels: Sequence[Any] | None, title: str | None, name: str, *, text: bool
) -> Found:
    """Return the images and labels, with each file once, and without rows that lack a path."""
    numbered = None
    if labels is not None and title is not None:
        numbered = number_of(labels, title, name, text=text)
        if numbered is None:
            missing = sum(map(_is_missing, labels))
            found.notes.append(
                f"{missing} of {len(labels)} rows have no value in the column {title!r}: labels "
                "are not used"
            )
    seen: dict[str, int] = {}
    kept: list[int] = []
    for row, item in enumerate(found.items):
        if not item.name:
            found.skipped.append(f"row {row + 1}: no path")
            continue
        if "\0" in item.name:
            found.skipped.append(f"row {row + 1}: {printable(item.name)!r} is no path")
            continue
        key = normal_form(os.path.normpath(item.name))
        if key not in seen:
            seen[key] = row
            kept.append(row)
        elif numbered is not None and numbered[row] != numbered[seen[key]]:
            raise NearfarError(
                f"{name!r} lists {printable(item.name)!r} as {numbered[seen[key]]!r} and as "
                f"{numbered[row]!r}: expected one label per image"
            )
        else:
            found.unread.append(f"row {row + 1}: {printable(item.name)!r} is listed before")
    if len(seen) + len(found.skipped) < len(found.items):
        count = len(found.items) - len(seen) - len(found.skipped)
        found.notes.append(f"{count} rows name an image that is listed before: it is used once")
    found.items = [_as_spelled(found.items[row]) for row in kept]
    found.labels = None if numbered is None else [numbered[row] for row in kept]
    return found


def _as_spelled(item: Any) -> FileItem:
    """Return an item whose path is spelled as on the disk, possibly in another Unicode form."""
    if item.name.isascii() or item.path.exists():
        return item
    found = find_path(item.path)
    return FileItem(item.root, os.path.relpath(found, item.root)) if found.exists() else item


def _listed(titles: Sequence[str], most: int = 8) -> str:
    shown = ", ".join(repr(printable(title[:80])) for title in titles[:most])
    return f"{shown}, …" if len(titles) > most else shown or "none"
