"""Tables of embeddings, written to and read from .parquet and .npz files."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow

from nearfar.embeddings.layout import KEY, VECTORS, reading, write_table
from nearfar.embeddings.reader import EmbeddingFile
from nearfar.errors import NearfarError
from nearfar.files import atomic_path

if TYPE_CHECKING:
    from nearfar.data import Images

#: File extensions of embeddings.
EMBEDDINGS_EXTENSIONS = (".npz", ".parquet")


@dataclass(frozen=True)
class EmbeddingTable:
    """Embeddings of images, with the names and other metadata of the images.

    Attributes
    ----------
    embeddings : float32[n, d]
        Embeddings.
    names : list of str
        File name of each image, or its row number if the image is not a file.
    labels : list or None
        Class name or class number of each image; None if unknown.
    checksums : list of str or None
        SHA-256 of the content of each image, in hexadecimal; None if unknown.
    settings : mapping
        Encoder settings, see `nearfar.encoders.Encoder.settings`. Empty if unknown.
    sizes : int32[n, 2] or None
        Height and width of each image file in pixels; None if unknown.

    Examples
    --------
    >>> EmbeddingTable(np.zeros((1, 2), np.float32), ["cat.jpg"]).names
    ['cat.jpg']
    """

    embeddings: npt.NDArray[np.float32]
    names: list[str]
    labels: list[Any] | None = None
    checksums: list[str] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    sizes: npt.NDArray[np.int32] | None = None


def check_embeddings_path(path: str | os.PathLike[str]) -> None:
    """Check that `write_embeddings` supports the extension of a path.

    Raises
    ------
    NearfarError
        If the path ends in neither .npz nor .parquet.

    Examples
    --------
    >>> check_embeddings_path("embeddings.csv")
    Traceback (most recent call last):
    nearfar.errors.NearfarError: 'embeddings.csv': expected a name that ends in .npz or .parquet
    """
    if Path(path).suffix not in EMBEDDINGS_EXTENSIONS:
        raise NearfarError(
            f"{str(path)!r}: expected a name that ends in {' or '.join(EMBEDDINGS_EXTENSIONS)}"
        )


def write_embeddings(
    path: str | os.PathLike[str],
    embeddings: npt.NDArray[np.float32],
    images: Images,
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Write the embeddings, names, labels and checksums of images to a file.

    Parameters
    ----------
    path : str or path
        File to write. A .parquet file has the columns `file`, `embedding` (d floats), `label`
        (class name), `width` and `height` (of the image file, in pixels) and `checksum` (SHA-256
        of the image file). An .npz file has the arrays `embeddings`, `names`, `labels` and
        `classes`. Labels and classes are omitted if unknown.
    embeddings : float32[n, d]
        Embeddings, in the order of the images.
    images : Images
        Images that were embedded.
    settings : mapping, optional
        Encoder settings with JSON-compatible values. They are stored in the metadata of a .parquet
        file; an .npz file does not store them.

    Examples
    --------
    >>> import tempfile
    >>> from nearfar.data import images_from_array
    >>> images = images_from_array(np.zeros((2, 8, 8)), labels=["cat", "dog"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_embeddings(f"{folder}/e.parquet", np.zeros((2, 4), np.float32), images)
    ...     EmbeddingFile(f"{folder}/e.parquet").columns
    ['file', 'embedding', 'label', 'width', 'height', 'checksum']
    """
    labels, rows = None, range(len(images))
    if images.labels is not None:
        numbers = images.labels.tolist()
        classes = images.classes
        labels = numbers if classes is None else [classes[number] for number in numbers]
    table = EmbeddingTable(
        embeddings,
        images.names(),
        labels,
        settings=settings or {},
        sizes=images.sizes(rows),
        checksums=list(image_checksums(images, rows)) if Path(path).suffix == ".parquet" else None,
    )
    write_embedding_table(path, table)


def write_embedding_table(path: str | os.PathLike[str], table: EmbeddingTable) -> None:
    """Write a table of embeddings. For the columns of the file, see `write_embeddings`.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = EmbeddingTable(np.zeros((1, 2), np.float32), ["cat.jpg"])
    ...     write_embedding_table(f"{folder}/e.parquet", table)
    ...     read_embeddings(f"{folder}/e.parquet").names
    ['cat.jpg']
    """
    path = Path(path)
    check_embeddings_path(path)
    with atomic_path(path) as temporary:
        if path.suffix == ".npz":
            arrays: dict[str, Any] = {
                "embeddings": table.embeddings,
                "names": np.array(table.names),
            }
            if table.labels is not None and isinstance(table.labels[0], str):
                arrays["classes"], arrays["labels"] = np.unique(table.labels, return_inverse=True)
            elif table.labels is not None:
                arrays["labels"] = np.array(table.labels)
            with temporary.open("wb") as file:
                np.savez(file, **arrays)
        else:
            _write_parquet(temporary, table)


def _write_parquet(path: Path, table: EmbeddingTable) -> None:
    # Nullable lists and numbers could not be read without decoding.
    number = pyarrow.field("element", pyarrow.float32(), nullable=False)
    vectors = pyarrow.list_(number, table.embeddings.shape[1])
    numbers = pyarrow.array(np.ascontiguousarray(table.embeddings).reshape(-1))
    columns = {
        "file": pyarrow.array(table.names),
        VECTORS: pyarrow.FixedSizeListArray.from_arrays(numbers, type=vectors),
    }
    if table.labels is not None:
        columns["label"] = pyarrow.array(table.labels)
    if table.sizes is not None:
        columns["width"] = pyarrow.array(table.sizes[:, 1])
        columns["height"] = pyarrow.array(table.sizes[:, 0])
    if table.checksums is not None:
        columns["checksum"] = pyarrow.array(table.checksums)
    fields = [
        pyarrow.field(name, column.type, nullable=name != VECTORS)
        for name, column in columns.items()
    ]
    schema = pyarrow.schema(fields, metadata={KEY: json.dumps(dict(table.settings))})
    write_table(path, pyarrow.table(columns, schema=schema))


def image_checksums(images: Images, rows: Sequence[int]) -> Iterator[str]:
    """Yield the SHA-256 of the content of each image in `rows`, in hexadecimal.

    Examples
    --------
    >>> from nearfar.data import images_from_array
    >>> [checksum] = image_checksums(images_from_array(np.zeros((2, 8, 8))), [1])
    >>> len(checksum)
    64
    """
    for row in rows:
        content = sha256()
        for piece in images.content([row]):
            content.update(piece)
        yield content.hexdigest()


def read_embeddings(path: str | os.PathLike[str]) -> EmbeddingTable:
    """Return the embeddings in a file written by `nearfar encode` or `write_embeddings`.

    Parameters
    ----------
    path : str or path
        An .npz file, a .parquet file, or a folder of .parquet files.

    Raises
    ------
    NearfarError
        If the file is missing or is not a file of embeddings, parts are missing, values are NaN or
        infinite, or names are not unique.

    Examples
    --------
    >>> import tempfile
    >>> from nearfar.data import images_from_array
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = f"{folder}/e.parquet"
    ...     images = images_from_array(np.zeros((2, 8, 8)))
    ...     write_embeddings(path, np.ones((2, 1), np.float32), images, {"encoder": "mine"})
    ...     table = read_embeddings(path)
    >>> table.embeddings.shape, table.names, table.settings
    ((2, 1), ['0', '1'], {'encoder': 'mine'})
    """
    path = Path(path)
    check_embeddings_path(path)
    with reading(path):
        table = _read_npz(path) if path.suffix == ".npz" else _read_parquet(path)
    if table.embeddings.ndim != 2 or len(table.embeddings) != len(table.names):
        raise NearfarError(
            f"{str(path)!r} has embeddings of shape {table.embeddings.shape} and "
            f"{len(table.names)} names: expected a name for each"
        )
    if len(set(table.names)) < len(table.names):
        twice = next(name for name, count in Counter(table.names).items() if count > 1)
        raise NearfarError(f"{str(path)!r} has {twice!r} more than once: expected each name once")
    if table.embeddings.dtype.kind != "f" or not np.isfinite(table.embeddings).all():
        raise NearfarError(f"{str(path)!r} holds NaN or infinity, or no floats: encode again")
    return replace(table, embeddings=table.embeddings.astype(np.float32, copy=False))


def _read_npz(path: Path) -> EmbeddingTable:
    with np.load(path, allow_pickle=False) as arrays:
        labels = arrays.get("labels")
        if labels is not None and "classes" in arrays:
            if labels.size and labels.min() < 0:
                raise ValueError("labels below 0")
            labels = arrays["classes"][labels]
        return EmbeddingTable(
            arrays["embeddings"],
            [str(name) for name in arrays["names"]],
            None if labels is None else labels.tolist(),
        )


def _read_parquet(path: Path) -> EmbeddingTable:
    file = EmbeddingFile(path)
    known = {
        name: file.column(name)
        for name in ("label", "checksum", "width", "height")
        if name in file.columns
    }
    sizes = None
    if {"width", "height"} <= set(known):
        sizes = np.stack([known[name].to_numpy() for name in ("height", "width")], 1)
    return EmbeddingTable(
        file.read(),
        [str(name) for name in file.column("file").to_pylist()],
        labels=known["label"].to_pylist() if "label" in known else None,
        checksums=known["checksum"].to_pylist() if "checksum" in known else None,
        settings=file.settings,
        sizes=sizes,
    )
