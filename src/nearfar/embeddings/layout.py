"""Layout of the vectors in Parquet files, chosen so that they can be read without decoding.

This module writes the row groups and pages and finds the byte offset of the vectors in a file. It
does not define the other columns: column names and types are in `table`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow
from pyarrow import parquet

from nearfar.errors import NearfarError, reason

#: Key of the settings in the metadata of a file.
KEY = b"nearfar"
#: Column of the vectors, and rows per row group at most.
VECTORS, GROUP = "embedding", 16_384
#: Page size that no row group exceeds.
_PAGE_BYTES = 2**30
#: Maximum size of a page header, in bytes.
_HEADER = 1024


@contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[None]:
    """Context manager that turns errors while reading `path` into a one-line `NearfarError`."""
    try:
        yield
    except NearfarError:
        raise
    except FileNotFoundError as error:
        raise NearfarError(
            f"{os.fspath(path)!r} does not exist: expected a file written by nearfar encode"
        ) from error
    except Exception as error:  # NumPy and pyarrow raise many kinds of errors
        raise NearfarError(
            f"{os.fspath(path)!r} is not a file of embeddings ({reason(error)}): expected one "
            "written by nearfar encode"
        ) from error


class RowGroup(NamedTuple):
    """Row group of a Parquet file.

    Attributes
    ----------
    path : Path
        The Parquet file.
    number : int
        Index of the row group in the file.
    rows : int
        Number of rows in the group.
    offset : int or None
        Position of the first vector in the file, in bytes. The vectors follow row by row as
        float32. None if the vectors must be decoded.
    """

    path: Path
    number: int
    rows: int
    offset: int | None


def write_table(path: Path, table: pyarrow.Table) -> None:
    """Write a table to a Parquet file.

    The vectors of each row group are stored uncompressed in a single page.
    """
    vectors = table.schema.get_field_index(VECTORS)
    compression = dict.fromkeys(table.column_names, "snappy")
    del compression[VECTORS]
    element = table.schema.field(vectors).type.value_field.name
    width = table.schema.field(vectors).type.list_size
    parquet.write_table(
        table,
        path,
        row_group_size=max(1, min(GROUP, _PAGE_BYTES // (4 * width))),
        data_page_size=_PAGE_BYTES,
        compression=compression | {f"{VECTORS}.list.{element}": "none"},
        use_dictionary=["label"],
        write_statistics=[name for name in table.column_names if name != VECTORS],
    )


def row_groups(path: Path, metadata: parquet.FileMetaData, width: int) -> list[RowGroup]:
    """Return the row groups of a Parquet file, which holds vectors of dimension `width`."""
    with path.open("rb") as file:
        groups = []
        for number in range(metadata.num_row_groups):
            group = metadata.row_group(number)
            columns = map(group.column, range(group.num_columns))
            (chunk,) = (each for each in columns if each.path_in_schema.startswith(f"{VECTORS}."))
            offset = None
            if _is_plain(chunk, metadata.schema, group.num_rows * width):
                file.seek(chunk.data_page_offset)
                offset = _offset(file.read(16), chunk)
            groups.append(RowGroup(path, number, group.num_rows, offset))
        return groups


def _is_plain(
    chunk: parquet.ColumnChunkMetaData, schema: parquet.ParquetSchema, values: int
) -> bool:
    """Return whether a column chunk holds plain float32 values without nulls."""
    (column,) = (each for each in schema if each.path == chunk.path_in_schema)
    return (
        chunk.physical_type == "FLOAT"
        and chunk.compression == "UNCOMPRESSED"
        and set(chunk.encodings) <= {"PLAIN", "RLE"}
        and not chunk.has_dictionary_page
        and chunk.num_values == values
        and column.max_definition_level == 1
    )


def _offset(header: bytes, chunk: parquet.ColumnChunkMetaData) -> int | None:
    """Return the offset of the values of a column chunk in the file, in bytes.

    Return None unless the chunk consists of a single page that ends with the values.
    """
    size, total = 4 * chunk.num_values, chunk.total_compressed_size
    page = _page_size(header)
    alone = size <= page <= total <= page + _HEADER
    return chunk.data_page_offset + total - size if alone else None


def _page_size(header: bytes) -> int:
    """Return the page size in bytes from a page header; 0 if the header cannot be read.

    The header starts with two numbers: page type and page size. In Thrift's compact protocol, a
    byte 0x15 precedes each number. The number is stored doubled, seven bits per byte, with the
    least significant bits first.
    """
    number, place = 0, 0
    for _ in range(2):
        if header[place] != 0x15:
            return 0
        number, shift, more = 0, 0, True
        while more:
            place += 1
            number |= (header[place] & 0x7F) << shift
            shift, more = shift + 7, header[place] >= 0x80
        place += 1
    return number // 2


def settings_of(schema: pyarrow.Schema) -> dict[str, Any]:
    """Return the encoder settings from the metadata of a Parquet schema; empty if missing."""
    settings = json.loads((schema.metadata or {}).get(KEY, b"{}"))
    return settings if isinstance(settings, dict) else {}
