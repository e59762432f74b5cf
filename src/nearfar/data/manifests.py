"""Manifests: tables of image paths and, optionally, labels, in CSV or Parquet."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from nearfar.data.label_values import label_columns, label_values
from nearfar.data.listing import FileItem, Listing
from nearfar.errors import NearfarError, printable, reason
from nearfar.files import exists, find_path, normal_form

MANIFEST_EXTENSIONS = (".csv", ".tsv")
#: Names of path columns, in lowercase without punctuation, most likely first.
PATH_COLUMNS = (
    *("path", "filepath", "imagepath", "imagefilepath", "imgpath", "file", "filename", "image"),
    *("imagefile", "imagefilename", "img", "imgfile", "imagename", "imageid"),
)
#: Maximum size of a manifest, in bytes, since it is read as a whole.
MAX_BYTES = 2**31
SEPARATORS = ",;\t"
#: Maximum number of characters of a path in a message.
_SHOWN = 200


def read_csv_manifest(path: Path, name: str) -> Listing:
    """Read a manifest from a text file with columns separated by commas, semicolons or tabs.

    The text is encoded as UTF-8 or UTF-16.

    Raises
    ------
    NearfarError
        If the file cannot be read, or has no column of paths.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise NearfarError(f"{name!r} is larger than 2 GiB: save it as Parquet, or in parts")
        content = path.read_bytes()
        utf16 = content[:2] in (b"\xff\xfe", b"\xfe\xff")
        text = content.decode("utf-16" if utf16 else "utf-8-sig").lstrip("\r\n")
        first, _, others = text.partition("\n")
        if stated := re.fullmatch(r'"?sep=(.)"?\s*', first, re.IGNORECASE):  # written for Excel
            text, separator = others, stated[1]
        else:
            separator = max(SEPARATORS, key=first.count)
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

    values = None if labels is None else column(labels)
    listing = _images(path.parent, column(files), values, labels, name, text=True)
    listing.unread = [*columns_not_read(titles, (files, labels)), *listing.unread]
    return listing


def choose_columns(titles: Sequence[str], name: str) -> tuple[str, str | None]:
    """Return the titles of the column of paths and of the column of labels, if there is one.

    Raises
    ------
    NearfarError
        If no title is a known name for paths, or if the title of a chosen column is not unique.
    """
    plain = {"".join(filter(str.isalnum, title.lower())): title for title in reversed(titles)}
    files = next((plain[each] for each in PATH_COLUMNS if each in plain), None)
    labels = next(iter(label_columns(reversed(titles))), None)
    if files is None:
        raise NearfarError(
            f"{name!r} has the columns {_listed(titles)}: expected the paths of images in a column "
            "named path, file, filename or image"
        )
    check_single(titles, (files, labels), name)
    return files, labels


def check_single(titles: Sequence[str], used: Iterable[str | None], name: str) -> None:
    """Check that the title of each used column is unique.

    Raises
    ------
    NearfarError
        If two titles are equal.
    """
    for title in used:
        if title is not None and list(titles).count(title) > 1:
            raise NearfarError(f"{name!r} has two columns named {title!r}: expected one")


def manifest_of(
    root: Path, files: Sequence[Any], labels: Sequence[Any] | None, title: str | None, name: str
) -> Listing:
    """Return the images listed in the columns of a Parquet file."""
    paths = ["" if file is None else str(file).strip() for file in files]
    return _images(root, paths, labels, title, name)


def columns_not_read(titles: Sequence[str], used: Collection[str | None]) -> list[str]:
    """Return one line per unused column."""
    return [f"column {printable(title)!r}: not read" for title in titles if title not in used]


def _images(
    root: Path,
    files: Sequence[str],
    labels: Sequence[Any] | None,
    title: str | None,
    name: str,
    *,
    text: bool = False,
) -> Listing:
    """Return the images listed in the rows of a manifest, each once.

    Rows without a path are skipped.
    """
    if not files:
        raise NearfarError(f"{name!r} has no rows: expected a path in each")
    listing, first_rows = Listing(), _first_rows(root, files)
    if labels is not None and title is not None:
        labels = label_values(labels, title, name, text=text)
    repeated = 0
    for row, file in enumerate(files):
        first = first_rows[row]
        if first is None:
            listing.skipped.append(f"row {row + 1}: {_short(file)} is no path")
        elif first == row:
            listing.items.append(_as_spelled(root, file))
        elif labels is not None and labels[row] != labels[first]:
            raise NearfarError(
                f"{name!r} lists {_short(file)} as {labels[first]!r} and as {labels[row]!r}: "
                "expected one label per image"
            )
        else:
            repeated += 1
            listing.unread.append(f"row {row + 1}: {_short(file)} is listed before")
    if repeated:
        listing.notes.append(f"rows name images that are listed before ({repeated}): used once")
    if labels is not None:
        listing.labels = [labels[row] for row, first in enumerate(first_rows) if first == row]
    return listing


def _first_rows(root: Path, files: Sequence[str]) -> list[int | None]:
    """Return, for each row, the first row with the same path, or None if the row has no path."""
    first: dict[str, int] = {}
    place = root.absolute()
    return [
        first.setdefault(normal_form(os.path.normpath(place / file)), row)
        if file and "\0" not in file
        else None
        for row, file in enumerate(files)
    ]


def _as_spelled(root: Path, file: str) -> FileItem:
    """Return an image file with its path as spelled on disk.

    The path in the manifest may have another Unicode normalization.
    """
    item = FileItem(root, file)
    if file.isascii() or exists(item.path):
        return item
    found = find_path(item.path)
    return FileItem(root, os.path.relpath(found, root)) if exists(found) else item


def _short(file: str) -> str:
    text = repr(printable(file[:_SHOWN]))
    return f"{text}…" if len(file) > _SHOWN else text


def _listed(titles: Sequence[str], max_titles: int = 8) -> str:
    shown = ", ".join(repr(printable(title[:80])) for title in titles[:max_titles])
    return f"{shown}, …" if len(titles) > max_titles else shown or "none"
