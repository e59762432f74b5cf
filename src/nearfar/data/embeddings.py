"""Embedding files: Parquet, in one file or in parts, and .npz."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow
from pyarrow import parquet

from nearfar.data.images import Images
from nearfar.errors import NearfarError, reason
from nearfar.files import ADVICE, atomic_path

EMBEDDINGS_ENDINGS = (".npz", ".parquet")

#: Key of the settings in the metadata of a Parquet file.
_KEY = b"nearfar"
_PART = re.compile(r"part-(\d{5})-of-(\d{5})\.parquet")

#: Rows per part: a 64th of the images, in whole encoding batches, within these bounds. Parts do not
#: depend on the number of processes.
_PARTS, _LEAST, _MOST = 64, 256, 16_384


@dataclass(frozen=True)
class EmbeddingTable:
    """Embeddings and the names of their images, from a file.

    Attributes
    ----------
    embeddings : float32[n, d]
        Embeddings.
    names : list of str
        File name of each image, or its number.
    labels : list or None
        Class name or number of each image, if known.
    checksums : list of str or None
        SHA-256 of each image's content, if known.
    settings : mapping
        Encoder settings, see `nearfar.encoders.Encoder.settings`; may be empty.
    sizes : int32[n, 2] or None
        Height and width of each image file in pixels, if known.

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


@dataclass(frozen=True)
class EmbeddingParts:
    """Parts of the embeddings of n images, one Parquet file each, in a folder.

    The part boundaries depend only on n, so that several processes, sequential or concurrent, write
    the same files.

    Parameters
    ----------
    folder : Path
        Folder of the parts. Its name ends in .parquet, so that programs open it as one table.
    n : int
        Number of images.

    Examples
    --------
    >>> parts = EmbeddingParts(Path("photos.parquet"), 1000)
    >>> parts.bounds()
    [range(0, 256), range(256, 512), range(512, 768), range(768, 1000)]
    >>> parts.path(3).name
    'part-00003-of-00004.parquet'
    """

    folder: Path
    n: int

    def bounds(self) -> list[range]:
        """Return the rows of each part."""
        rows = min(max(_LEAST * -(-self.n // (_PARTS * _LEAST)), _LEAST), _MOST)
        return [range(start, min(start + rows, self.n)) for start in range(0, self.n, rows)]

    def path(self, part: int) -> Path:
        """Return the path of a part."""
        return self.folder / f"part-{part:05}-of-{len(self.bounds()):05}.parquet"

    def is_complete(self) -> bool:
        """Return whether all parts exist."""
        return all(self.path(part).is_file() for part in range(len(self.bounds())))

    def is_written(self, part: int, names: Sequence[str], settings: Mapping[str, Any]) -> bool:
        """Return whether a part exists, with these images and settings.

        Raises
        ------
        NearfarError
            If it has different images or settings.
        """
        path = self.path(part)
        if not path.is_file():
            return False
        same = _settings_of(parquet.read_schema(path)) == json.loads(json.dumps(settings))
        if same and parquet.read_table(path, columns=["file"])["file"].to_pylist() == list(names):
            return True
        raise NearfarError(
            f"{str(path)!r} holds embeddings of other images, or by another encoder: {ADVICE}"
        )

    def others(self) -> list[Path]:
        """Return parts in the folder that belong to a different number of images."""
        own = {self.path(part) for part in range(len(self.bounds()))}
        present = self.folder.glob("part-*.parquet")
        return [path for path in present if _PART.fullmatch(path.name) and path not in own]


def check_embeddings_path(path: str | os.PathLike[str]) -> None:
    """Check that the format of a path is supported by `write_embeddings`.

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
    if Path(path).suffix not in EMBEDDINGS_ENDINGS:
        raise NearfarError(
            f"{str(path)!r}: expected a name that ends in {' or '.join(EMBEDDINGS_ENDINGS)}"
        )


def write_embeddings(
    path: str | os.PathLike[str],
    embeddings: npt.NDArray[np.float32],
    images: Images,
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Write embeddings and the names of their images, with labels and classes if known.

    Parameters
    ----------
    path : str or path
        A .parquet file gets columns `file`, `embedding` (d floats), `label` (name of the class),
        `width` and `height` (of the image file, in pixels) and `checksum` (SHA-256 of the image
        file). An .npz file gets arrays `embeddings`, `names`, `labels` and `classes`.
    embeddings : float32[n, d]
        Embeddings, in the order of the images.
    images : Images
        Images that were embedded.
    settings : mapping, optional
        JSON-compatible settings of the encoder for the metadata of a .parquet file.

    Examples
    --------
    >>> import tempfile
    >>> from nearfar.data import images_from_array
    >>> images = images_from_array(np.zeros((2, 8, 8)), labels=["cat", "dog"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_embeddings(f"{folder}/e.parquet", np.zeros((2, 4), np.float32), images)
    ...     parquet.read_table(f"{folder}/e.parquet").column_names
    ['file', 'embedding', 'label', 'width', 'height', 'checksum']
    """
    labels = None
    if images.labels is not None:
        numbers = images.labels.tolist()
        classes = images.classes
        labels = numbers if classes is None else [classes[number] for number in numbers]
    table = EmbeddingTable(
        embeddings,
        images.names(),
        labels,
        settings=settings or {},
        sizes=images.sizes(range(len(images))),
        checksums=list(_checksums(images)) if Path(path).suffix == ".parquet" else None,
    )
    write_embedding_table(path, table)


def write_embedding_table(path: str | os.PathLike[str], table: EmbeddingTable) -> None:
    """Write embeddings with what is known about their images, see `write_embeddings`.

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
    # Nullable lists and numbers would take several times as long to read.
    number = pyarrow.field("element", pyarrow.float32(), nullable=False)
    vectors = pyarrow.list_(number, table.embeddings.shape[1])
    numbers = pyarrow.array(np.ascontiguousarray(table.embeddings).reshape(-1))
    columns = {
        "file": pyarrow.array(table.names),
        "embedding": pyarrow.FixedSizeListArray.from_arrays(numbers, type=vectors),
    }
    if table.labels is not None:
        columns["label"] = pyarrow.array(table.labels)
    if table.sizes is not None:
        columns["width"] = pyarrow.array(table.sizes[:, 1])
        columns["height"] = pyarrow.array(table.sizes[:, 0])
    if table.checksums is not None:
        columns["checksum"] = pyarrow.array(table.checksums)
    fields = [
        pyarrow.field(name, column.type, nullable=name != "embedding")
        for name, column in columns.items()
    ]
    schema = pyarrow.schema(fields, metadata={_KEY: json.dumps(dict(table.settings))})
    parquet.write_table(pyarrow.table(columns, schema=schema), path, use_dictionary=["label"])


def _checksums(images: Images) -> Iterator[str]:
    for row in range(len(images)):
        content = sha256()
        for piece in images.content([row]):
            content.update(piece)
        yield content.hexdigest()


def read_embeddings(path: str | os.PathLike[str]) -> EmbeddingTable:
    """Read embeddings written by `nearfar encode` or `write_embeddings`.

    Parameters
    ----------
    path : str or path
        An .npz file, a .parquet file, or a folder of .parquet files.

    Raises
    ------
    NearfarError
        If there are no embeddings, NaN, duplicate names, or missing parts.

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
    try:
        table = _read_npz(path) if path.suffix == ".npz" else _read_parquet(path)
    except NearfarError:
        raise
    except Exception as error:  # NumPy and pyarrow raise many kinds of errors
        raise NearfarError(
            f"{str(path)!r} is not a file of embeddings ({reason(error)}): expected one written by "
            "nearfar encode"
        ) from error
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
            labels = arrays["classes"][labels]
        return EmbeddingTable(
            arrays["embeddings"],
            [str(name) for name in arrays["names"]],
            None if labels is None else labels.tolist(),
        )


def _read_parquet(path: Path) -> EmbeddingTable:
    files = _parts_of(path) if path.is_dir() else [path]
    schema = parquet.read_schema(files[0])
    settings = _settings_of(schema)
    if any(_settings_of(parquet.read_schema(file)) != settings for file in files[1:]):
        raise NearfarError(
            f"{str(path)!r} holds embeddings by several encoders: run nearfar encode --overwrite"
        )
    optional = ("label", "checksum", "width", "height")
    columns = ["file", "embedding", *(name for name in optional if name in schema.names)]
    table = parquet.read_table(files, columns=columns, memory_map=True)
    column = table["embedding"]
    numbers = np.empty((len(table), column.type.list_size), np.float32)
    start = 0
    for chunk in column.chunks:
        numbers[start : start + len(chunk)] = chunk.flatten().to_numpy().reshape(len(chunk), -1)
        start += len(chunk)
    sizes = None
    if {"width", "height"} <= set(columns):
        sizes = np.stack([table[name].to_numpy() for name in ("height", "width")], 1)
    return EmbeddingTable(
        numbers,
        [str(name) for name in table["file"].to_pylist()],
        labels=table["label"].to_pylist() if "label" in columns else None,
        checksums=table["checksum"].to_pylist() if "checksum" in columns else None,
        settings=settings,
        sizes=sizes,
    )


def _parts_of(folder: Path) -> list[Path]:
    """Return the parts in a folder, none of which may be missing."""
    parts = sorted(path for path in folder.glob("*.parquet") if not path.name.startswith("."))
    numbered = [match for path in parts if (match := _PART.fullmatch(path.name))]
    totals = {int(match[2]) for match in numbered}
    if not parts:
        raise NearfarError(f"{str(folder)!r} contains no .parquet files")
    if len(totals) > 1 or (totals and totals != {len(numbered)}):
        raise NearfarError(
            f"{str(folder)!r} is incomplete, with {len(numbered)} of {max(totals)} parts: run the "
            "same nearfar encode again, which continues"
        )
    return parts


def _settings_of(schema: pyarrow.Schema) -> dict[str, Any]:
    settings = json.loads((schema.metadata or {}).get(_KEY, b"{}"))
    return settings if isinstance(settings, dict) else {}
