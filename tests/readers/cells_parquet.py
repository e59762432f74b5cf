"""Cells of Parquet files with image bytes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow
from pyarrow import parquet

from nearfar.data import StoredImages, open_images, parquet_files
from readers.stores import pictures, png, register, store_parquet
from readers.support import noise, rejection, warned
from readers.table import cell

register("parquet", store_parquet)


@cell("parquet", "time", "counted: columns of times, as not read")
def time(folder: Path) -> None:
    path = store_parquet(folder, pictures(), taken=pyarrow.array([0] * 4, pyarrow.timestamp("s")))
    assert open_images(path).unread == ["column 'taken': not read"]


@cell("parquet", "order", "obeyed: that of the rows, whatever the row groups")
def order(folder: Path) -> None:
    images = open_images(store_parquet(folder, pictures(12), rows=5))
    assert isinstance(images, StoredImages)
    for row in (11, 0, 5, 4):
        assert (images.full_size(row).permute(1, 2, 0).numpy() == noise(12, 16)[row]).all()
    assert parquet_files._read_group.cache_info().currsize <= parquet_files.KEPT_GROUPS


@cell(
    "parquet", "pairing", "obeyed: ClassLabel names, numbers, text; rejected: numbers beyond them"
)
def pairing(folder: Path) -> None:
    images = open_images(store_parquet(folder, pictures(), [1, 0, 1, 0], classes=["zoo", "ant"]))
    assert (images.labels.tolist(), images.classes) == ([1, 0, 1, 0], ["zoo", "ant"])
    with rejection("holds numbers beyond its 2 classes"):
        open_images(store_parquet(folder, pictures(), [1, 2, 1, 0], classes=["zoo", "ant"]))
    hidden = store_parquet(folder, pictures(), [-1] * 4, classes=["zoo", "ant"])
    assert open_images(hidden).labels is None
    with warned("1 of 4 images have no label"):
        part = store_parquet(folder, pictures(), [-1, 0, 1, 0], classes=["zoo", "ant"])
        assert open_images(part).labels is None
    images = open_images(store_parquet(folder, pictures(), ["b", "a", "b", "a"]))
    assert (images.labels.tolist(), images.classes) == ([1, 0, 1, 0], ["a", "b"])


@cell("parquet", "names", "obeyed: paths that rows state, if all differ; otherwise row numbers")
def names(folder: Path) -> None:
    path = store_parquet(folder, pictures())
    assert open_images(path).names() == list(pictures())
    assert open_images(folder).names()[0] == "images.parquet/0.png"
    table = pyarrow.table({"image": list(pictures().values())})
    parquet.write_table(table, path)
    assert open_images(path).names() == list("0123")
    odd = path.rename(folder / os.fsdecode(b"s3:\xff.parquet"))
    assert len(open_images(odd)) == 4
    parquet.write_table(table.append_column("caf\u00e9", [[1, 2, 3, 4]]), path)
    path.write_bytes(path.read_bytes().replace("caf\u00e9".encode(), b"caf\xe9s"))
    with rejection("cannot be read as Parquet"):
        open_images(path)


@cell("parquet", "encoding", "obeyed: damaged metadata about features does not matter")
def encoding(folder: Path) -> None:
    path = store_parquet(folder, pictures(), [0, 1, 0, 1])
    table = parquet.read_table(path)
    for text in (b"\xff", b"[]", b"{", b'{"info": {"features": 3}}'):
        parquet.write_table(table.replace_schema_metadata({"huggingface": text}), path)
        assert open_images(path).labels.tolist() == [0, 1, 0, 1]


@cell("parquet", "root", "rejected: what is no Parquet, and tables without images or paths")
def root(folder: Path) -> None:
    (folder / "a.parquet").write_bytes(b"PAR1 text")
    with rejection("cannot be read as Parquet"):
        open_images(folder / "a.parquet")
    parquet.write_table(pyarrow.table({"x": [1]}), folder / "a.parquet")
    with rejection("has the columns 'x'"):
        open_images(folder / "a.parquet")

    twice = [pyarrow.array([png(noise(1, 16)[0])] * 3), *[pyarrow.array([1, 2, 3])] * 2]
    table = pyarrow.Table.from_arrays(twice, names=["image", "label", "label"])
    parquet.write_table(table, folder / "twice.parquet")
    with rejection("twice.parquet", "two columns named 'label'"):
        open_images(folder / "twice.parquet")


@cell("parquet", "length", "skipped: rows without an image, damaged ones; rejected: cut files")
def length(folder: Path) -> None:
    images = open_images(store_parquet(folder, pictures() | {"cut.png": b"\x89PNG", "no.png": b""}))
    assert len(images) == 4
    assert [line.partition(":")[0] for line in images.skipped] == ["'cut.png'", "'no.png'"]
    path = store_parquet(folder, pictures())
    path.write_bytes(path.read_bytes()[:-100])
    with rejection("cannot be read as Parquet"):
        open_images(path)


@cell("parquet", "unused", "counted: other columns, and in folders files without image bytes")
def unused(folder: Path) -> None:
    path = store_parquet(folder, pictures(), width=pyarrow.array(np.arange(4)))
    assert open_images(path).unread == ["column 'width': not read"]
    parquet.write_table(pyarrow.table({"path": ["0.png"]}), folder / "list.parquet")
    with warned("1 file is not named like images: .parquet (1)"):
        images = open_images(folder)
    assert images.unread[-1] == "'list.parquet': not named like an image"
