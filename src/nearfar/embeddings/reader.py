"""Embeddings in a file, read on demand."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from hashlib import sha256
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow
from pyarrow import compute, parquet

from nearfar.embeddings.layout import VECTORS, RowGroup, reading, row_groups, settings_of
from nearfar.embeddings.parts import parts_of
from nearfar.errors import NearfarError

#: Vectors to read at once, in bytes: they fit into a cache.
_BLOCK = 2**19

Floats = npt.NDArray[np.float32]


class EmbeddingFile:
    """Embeddings in a .parquet file or in a folder of .parquet files, read on demand.

    Vectors written by `write_embedding_table` are read without decoding, at the speed of the disk
    or the page cache. Vectors written by other programs are decoded.

    Parameters
    ----------
    path : str or path
        A .parquet file, or a folder of .parquet files.

    Attributes
    ----------
    name : str
        The argument `path`, as a string.
    settings : mapping
        Encoder settings, see `nearfar.encoders.Encoder.settings`. Empty if the file has none.
    embedding_size : int
        Dimension d of the embeddings.
    columns : list of str
        Names of the columns.

    Raises
    ------
    NearfarError
        If parts are missing, or are from different encoders.

    Examples
    --------
    >>> import tempfile
    >>> from nearfar.embeddings import EmbeddingTable, write_embedding_table
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = EmbeddingTable(np.eye(2, dtype=np.float32), ["cat.jpg", "dog.jpg"])
    ...     write_embedding_table(f"{folder}/e.parquet", table)
    ...     file = EmbeddingFile(f"{folder}/e.parquet")
    ...     rows = file.find(["dog.jpg", "car.jpg"])
    ...     len(file), rows, file.take(rows[:1])
    (2, array([ 1, -1]), array([[0., 1.]], dtype=float32))
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.name = str(path)
        if Path(path).suffix != ".parquet":
            raise NearfarError(f"{self.name!r}: expected a .parquet of embeddings")
        with reading(path):
            self._open(Path(path))

    def _open(self, path: Path) -> None:
        self._paths = parts_of(path) if path.is_dir() else [path]
        metadata = [parquet.read_metadata(each) for each in self._paths]
        schemas = [each.schema.to_arrow_schema() for each in metadata]
        self.settings: Mapping[str, Any] = settings_of(schemas[0])
        if any(settings_of(schema) != self.settings for schema in schemas):
            raise NearfarError(
                f"{self.name!r} holds embeddings by several encoders: run nearfar encode "
                "--overwrite"
            )
        self.columns = schemas[0].names
        kind = schemas[0].field(VECTORS).type
        fixed = pyarrow.types.is_fixed_size_list(kind)
        self.embedding_size: int = kind.list_size if fixed else self._first_length()
        self._groups: list[RowGroup] = [
            group if fixed else group._replace(offset=None)
            for file, about in zip(self._paths, metadata, strict=True)
            for group in row_groups(file, about, self.embedding_size)
        ]
        self._ends = list(accumulate(group.rows for group in self._groups))

    def _first_length(self) -> int:
        """Return the length of the first embedding, for columns of variable-length lists."""
        batch = next(parquet.ParquetFile(self._paths[0]).iter_batches(1, columns=[VECTORS]), None)
        if batch is None:
            raise NearfarError(f"{self.name!r} holds no embeddings: expected one per image")
        return len(batch[VECTORS][0])

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def column(self, name: str) -> pyarrow.ChunkedArray:
        """Return the column with the given name, such as "file"."""
        with reading(self.name):
            tables = [parquet.ParquetFile(path).read(columns=[name]) for path in self._paths]
            return pyarrow.concat_tables(tables)[name]

    @cached_property
    def _files(self) -> pyarrow.ChunkedArray:
        return self.column("file").cast(pyarrow.string())

    def find(self, names: Sequence[str]) -> npt.NDArray[np.int64]:
        """Return the row number of each image name (int64[q]); −1 for unknown names."""
        texts = [name.encode(errors="surrogateescape") for name in names]
        ends = np.cumsum([0, *map(len, texts)], dtype=np.int32)
        # pyarrow.array would import pandas, if that is installed.
        wanted = pyarrow.StringArray.from_buffers(
            len(texts), pyarrow.py_buffer(ends), pyarrow.py_buffer(b"".join(texts))
        )
        files = self._files
        found = compute.indices_nonzero(compute.is_in(files, value_set=wanted))
        row_of = dict(zip(files.take(found).to_pylist(), found.to_pylist(), strict=True))
        return np.array([row_of.get(name, -1) for name in names], np.int64)

    def find_files(self, paths: Sequence[str | os.PathLike[str]]) -> npt.NDArray[np.int64]:
        """Return the row number of each image file (int64[q]); −1 for files that are not found.

        A file belongs to a row if its path ends with the image name of the row and its SHA-256
        equals the checksum of the row.
        """
        found = np.full(len(paths), -1)
        if "checksum" not in self.columns:
            return found
        files = [Path(path).absolute() for path in paths]
        ends = [(at, end) for at, file in enumerate(files) for end in _ends(file)]
        rows = self.find([end for _, end in ends])
        checksums = self.column("checksum")
        for (at, _), row in zip(ends, rows.tolist(), strict=True):
            if row >= 0 and checksums[row].as_py() == sha256(files[at].read_bytes()).hexdigest():
                found[at] = row
        return found

    def names(self, rows: npt.NDArray[np.int64]) -> list[str]:
        """Return the names of the images in the given rows."""
        buffers = [None, pyarrow.py_buffer(np.ascontiguousarray(rows, np.int64))]
        return self._files.take(
            pyarrow.Array.from_buffers(pyarrow.int64(), len(rows), buffers)
        ).to_pylist()

    def take(self, rows: npt.NDArray[np.int64]) -> Floats:
        """Return the embeddings in the given rows, float32[q, d]."""
        found = np.empty((len(rows), self.embedding_size), np.float32)
        for place, row in enumerate(rows.tolist()):
            number = bisect_right(self._ends, row)
            group = self._groups[number]
            within = row - self._ends[number] + group.rows
            for start, batch in self._read(group, within):
                found[place] = batch[within - start]
                break
        return found

    def batches(self) -> Iterator[tuple[int, Floats]]:
        """Yield all embeddings in batches of consecutive rows.

        Yields
        ------
        start : int
            Number of the first row of the batch.
        batch : float32[m, d]
            Embeddings. The array is valid only until the next batch is yielded.
        """
        for group, end in zip(self._groups, self._ends, strict=True):
            for start, batch in self._read(group):
                yield end - group.rows + start, batch

    def read(self) -> Floats:
        """Return all embeddings, float32[n, d]."""
        vectors = np.empty((len(self), self.embedding_size), np.float32)
        for start, batch in self.batches():
            vectors[start : start + len(batch)] = batch
        return vectors

    def _read(self, group: RowGroup, first: int = 0) -> Iterator[tuple[int, Floats]]:
        """Yield batches of a row group, like `batches`; row numbers are relative to the group.

        Rows before `first` are skipped if the vectors need no decoding.
        """
        width = self.embedding_size
        if group.offset is None:
            yield 0, self._decode(group)
            return
        room = np.empty((max(1, _BLOCK // (4 * width)), width), np.float32)
        with group.path.open("rb", buffering=0) as file:
            file.seek(group.offset + 4 * width * first)
            for start in range(first, group.rows, len(room)):
                batch = room[: group.rows - start]
                if file.readinto(batch.data.cast("B")) < batch.nbytes:
                    raise NearfarError(f"{str(group.path)!r} ends early: encode again")
                yield start, batch

    def _decode(self, group: RowGroup) -> Floats:
        with reading(self.name):
            table = parquet.ParquetFile(group.path).read_row_group(group.number, [VECTORS])
            vectors = table[VECTORS].combine_chunks()
            if compute.list_value_length(vectors).unique().to_pylist() != [self.embedding_size]:
                raise NearfarError(f"{self.name!r} lacks embeddings, or they differ in length")
            numbers = vectors.flatten().to_numpy()
            return numbers.astype(np.float32, copy=False).reshape(group.rows, -1)


def _ends(path: Path) -> list[str]:
    """Return the path endings, shortest first: "1.jpg" and "cats/1.jpg" for "cats/1.jpg"."""
    return ["/".join(path.parts[start:]) for start in reversed(range(len(path.parts)))]
