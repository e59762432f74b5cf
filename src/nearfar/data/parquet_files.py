"""Parquet files that contain image bytes, as written by Hugging Face's datasets, or image paths."""

from __future__ import annotations

import bisect
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow
from pyarrow import parquet

from nearfar.data.encoded import Encoded, UnreadableError
from nearfar.data.label_values import label_columns, label_values
from nearfar.data.listing import Item, Listing
from nearfar.data.manifests import check_single, choose_columns, columns_not_read, manifest_of
from nearfar.errors import NearfarError, printable, reason

PARQUET_EXTENSION = ".parquet"
#: Names of image byte columns, most likely first.
IMAGE_COLUMNS = ("image", "img", "picture", "photo", "bytes", "imagebytes", "jpg", "png")
#: Number of row groups to keep in memory.
KEPT_GROUPS = 2
#: Errors that pyarrow raises for damaged files; UnicodeError for names of columns.
_DAMAGED = (pyarrow.ArrowException, OSError, UnicodeError)

_lock = threading.Lock()


class RowItem(Item):
    """Image in a row of a Parquet file."""

    __slots__ = ("column", "row")

    def __init__(self, column: ImageColumn, row: int, name: str) -> None:
        self.column, self.row, self.name = column, row, name

    @property
    def location(self) -> str:
        """See `Item`."""
        return f"{self.column.path}, row {self.row}"

    def load(self) -> Encoded:
        """See `Item`."""
        return self.column.read(self.row)


class ImageColumn:
    """Column of encoded images.

    It is read in whole row groups, the latest of which are cached.
    """

    def __init__(self, path: Path, name: str, starts: list[int]) -> None:
        self.path, self.name, self.starts = path, name, starts
        #: Distinguishes this file from a later one at the same path.
        self._key = uuid4().hex

    def read(self, row: int) -> Encoded:
        """Return an encoded image, or the path of its file."""
        group = bisect.bisect_right(self.starts, row) - 1
        with _lock:
            values = _read_group(str(self.path), group, self.name, self._key)
        if row - self.starts[group] >= len(values):
            raise UnreadableError(f"row group {group} has {len(values)} rows")
        value = values[row - self.starts[group]].as_py()
        content = value.get("bytes") if isinstance(value, dict) else value
        if content is not None:
            return bytes(content)
        if isinstance(value, dict) and value.get("path"):
            return self.path.parent / str(value["path"])
        raise UnreadableError("no image in this row")


def read_parquet(path: Path, name: str) -> Listing:
    """Return the images in a Parquet file of image bytes, or those listed in one of image paths.

    Raises
    ------
    NearfarError
        If the file is damaged, or contains neither image bytes nor paths.
    """
    schema = _schema(path, name)
    if "embedding" in schema.names:
        raise NearfarError(f"{name!r} holds embeddings: expected images, or paths of images")
    listing = find_rows(path, name, "")
    if listing is not None:
        return listing
    files, labels = choose_columns(schema.names, name)
    columns = [files] if labels is None else [files, labels]
    try:
        with _opened(path) as file:
            table = file.read(columns)
    except _DAMAGED as error:
        raise NearfarError(f"{name!r} cannot be read ({reason(error)})") from error
    values = None if labels is None else table[labels].to_pylist()
    listing = manifest_of(path.parent, table[files].to_pylist(), values, labels, name)
    listing.unread += columns_not_read(schema.names, (files, labels))
    return listing


def find_rows(path: Path, name: str, prefix: str) -> Listing | None:
    """Return the images in a Parquet file, or None if it has no column of image bytes.

    Parameters
    ----------
    path : Path
        Path of the file.
    name : str
        Name of the file, as given by the user.
    prefix : str
        Prefix of image names.

    Raises
    ------
    NearfarError
        If the file is damaged, or labels are neither numbers nor names.
    """
    schema = _schema(path, name)
    features = _features(schema)
    title = _image_column(schema, features)
    if title is None:
        return None
    try:
        with _opened(path) as file:
            counts = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
            starts = [sum(counts[:i]) for i in range(len(counts))]
            total = sum(counts)
            names = _names(file, schema, title, total)
            label_title, classes = _label_column(schema, features)
            check_single(schema.names, (title, label_title), name)
            values = None
            if label_title is not None:
                values = file.read([label_title], use_threads=False)[label_title].to_pylist()
    except _DAMAGED as error:
        raise NearfarError(f"{name!r} cannot be read ({reason(error)})") from error
    column = ImageColumn(path, title, starts)
    listing = Listing([RowItem(column, row, prefix + names[row]) for row in range(total)])
    if values is not None and label_title is not None:
        _add_labels(listing, values, classes, label_title, name)
    unread = columns_not_read(schema.names, (title, label_title))
    listing.unread = [f"{prefix.removesuffix('/')} {line}".strip() for line in unread]
    return listing


@lru_cache(KEPT_GROUPS)
def _read_group(path: str, group: int, column: str, key: str) -> Any:
    try:
        with _opened(Path(path)) as file:
            table = file.read_row_group(group, [column], use_threads=False)
            return table.column(0).combine_chunks()
    except (*_DAMAGED, IndexError) as error:
        raise UnreadableError(f"row group {group} is damaged: {reason(error)}") from error


@contextmanager
def _opened(path: Path) -> Iterator[parquet.ParquetFile]:
    """Open a Parquet file.

    Python opens the file, since pyarrow mistakes some paths for URIs and rejects some names.
    """
    with path.open("rb") as file, parquet.ParquetFile(file) as content:
        yield content


def _schema(path: Path, name: str) -> Any:
    try:
        with _opened(path) as file:
            return file.schema_arrow
    except _DAMAGED as error:
        raise NearfarError(
            f"{name!r} cannot be read as Parquet ({reason(error)}): expected a complete file"
        ) from error


def _features(schema: Any) -> Mapping[str, Any]:
    """Return the column types that Hugging Face's datasets stored in the metadata."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return {}
    return features if isinstance(features, dict) else {}


def _kind(feature: Any) -> Any:
    return feature.get("_type") if isinstance(feature, dict) else None


def _image_column(schema: Any, features: Mapping[str, Any]) -> str | None:
    """Return the name of the column of image bytes, or None.

    It is chosen by metadata, then by name, or because it is the only column of bytes.
    """
    fitting = [field.name for field in schema if _holds_bytes(field.type)]
    stated = [name for name in fitting if _kind(features.get(name)) == "Image"]
    if stated:
        return stated[0]
    plain = {"".join(filter(str.isalnum, name.lower())): name for name in reversed(fitting)}
    named = next((plain[each] for each in IMAGE_COLUMNS if each in plain), None)
    return named or (fitting[0] if len(fitting) == 1 else None)


def _holds_bytes(kind: Any) -> bool:
    if pyarrow.types.is_struct(kind):
        names = [kind.field(number).name for number in range(kind.num_fields)]
        return "bytes" in names and _holds_bytes(kind.field("bytes").type)
    return pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind)


def _label_column(schema: Any, features: Mapping[str, Any]) -> tuple[str | None, list[str] | None]:
    """Return the name of the label column and its class names; None for each that is missing."""
    stated = [name for name in schema.names if _kind(features.get(name)) == "ClassLabel"]
    named = label_columns(reversed(schema.names))
    title = next((name for name in named if name in stated), None)
    title = title or next(iter([*stated, *named]), None)
    if title is None:
        return None, None
    names = features[title].get("names") if title in stated else None
    if isinstance(names, list) and all(isinstance(each, str) for each in names):
        return title, list(names)
    return title, None


def _names(file: Any, schema: Any, title: str, total: int) -> list[str]:
    """Return the name of each image: the stored paths if all differ, otherwise the row numbers."""
    if pyarrow.types.is_struct(schema.field(title).type):
        with_path = any(
            schema.field(title).type.field(i).name == "path"
            for i in range(schema.field(title).type.num_fields)
        )
        if with_path:
            column = file.read([f"{title}.path"], use_threads=False).column(0).combine_chunks()
            paths = column.field("path").to_pylist()
            if len(paths) == total and all(paths) and len(set(paths)) == total:
                return [str(path) for path in paths]
    digits = len(str(max(total - 1, 0)))
    return [f"{row:0{digits}}" for row in range(total)]


def _add_labels(
    listing: Listing, values: list[Any], classes: list[str] | None, title: str, name: str
) -> None:
    """Set the labels of the images found.

    If there are class names, -1 means that the label is unknown, as in test sets.
    """
    values = [None if value == -1 and classes is not None else value for value in values]
    if all(value is None for value in values):
        return
    if classes is None:
        listing.labels = label_values(values, title, name)
        return
    known = [value for value in values if value is not None]
    if not all(isinstance(value, int) and 0 <= value < len(classes) for value in known):
        raise NearfarError(
            f"the column {title!r} of {name!r} holds numbers beyond its {len(classes)} classes"
        )
    listing.labels, listing.classes = values, [printable(each) for each in classes]
