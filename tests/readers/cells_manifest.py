"""Cells of manifests, in CSV and Parquet."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pyarrow
from pyarrow import parquet

from nearfar.data import open_images
from readers.stores import pictures, register, store_manifest
from readers.support import command, rejected, rejection, warned
from readers.table import cell

register("manifest", store_manifest)


def write(folder: Path, text: str, encoding: str = "utf-8", name: str = "images.csv") -> Path:
    """Write images 0.png … 3.png, and a manifest."""
    store_manifest(folder, pictures())
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


@cell("manifest", "time", "counted: columns of times, as not read")
def time(folder: Path) -> None:
    images = open_images(write(folder, "path,taken\n0.png,2024-01-01\n"))
    assert images.unread == ["column 'taken': not read"]


@cell("manifest", "order", "obeyed: that of the rows")
def order(folder: Path) -> None:
    images = open_images(write(folder, "path\n2.png\n0.png\n1.png\n"))
    assert images.names() == ["2.png", "0.png", "1.png"]


@cell(
    "manifest",
    "pairing",
    "obeyed: names or whole numbers; rejected: two labels of an image; warned: missing ones",
)
def pairing(folder: Path) -> None:
    numbers = open_images(write(folder, "file,class\n0.png,3\n1.png,1\n"))
    assert (numbers.labels.tolist(), numbers.classes) == ([3, 1], None)
    names = open_images(write(folder, "label,image_path\ndog,0.png\ncat,1.png\n"))
    assert (names.labels.tolist(), names.classes) == ([1, 0], ["cat", "dog"])
    boxes = open_images(write(folder, "img,x,y,w,h\n0.png,10,20,5,5\n1.png,3,4,5,5\n"))
    assert boxes.labels is None
    assert open_images(write(folder, "img,y\n0.png,1\n1.png,0\n")).labels.tolist() == [1, 0]
    codes = open_images(write(folder, "path,label\n0.png,007\n1.png,7\n"))
    assert codes.classes == ["007", "7"]
    with rejection("lists './0.png' as 'a' and as 'b'"):
        open_images(write(folder, "path,label\n0.png,a\n./0.png,b\n"))
    with warned("rows name images that are listed before (1)"):
        images = open_images(write(folder, "path,label\n0.png,a\n0.png,a\n1.png,b\n"))
    assert len(images) == 2
    with warned("1 of 2 images have no label (first '1.png')"):
        assert open_images(write(folder, "path,label\n0.png,a\n1.png,\n")).labels is None
    images = open_images(write(folder, "path,label\n0.png,a\nnone.png,\n1.png,b\n"))
    assert images.labels.tolist() == [0, 1]  # of the images that are there
    images = open_images(write(folder, "path,label\n0.png,1\n1.png,1.0\n2.png,0.0\n"))
    assert (images.labels.tolist(), images.classes) == ([1, 1, 0], None)
    with rejection("as 'a' and as 'b'"):
        open_images(write(folder, f"path,label\n0.png,a\n{folder.resolve()}/0.png,b\n"))
    for labels, words in (([0.0, 1.0], None), ([0.5, 1.0], "0.5"), ([[1], [2]], "[1]")):
        table = pyarrow.table({"path": ["0.png", "1.png"], "target": labels})
        parquet.write_table(table, folder / "images.parquet")
        if words is None:
            assert open_images(folder / "images.parquet").labels.tolist() == [0, 1]
        else:
            with rejection("column 'target'", words, "expected names or whole numbers"):
                open_images(folder / "images.parquet")


@cell("manifest", "names", "obeyed: relative to the manifest; spaces, quotes, either Unicode form")
def name_of_files(folder: Path) -> None:
    names = ("a b.png", 'say "hi", you.png', "caf\u00e9.png", "sub/c.png")
    odd = dict(zip(names, pictures().values(), strict=True))
    path = store_manifest(folder / "data", odd)
    assert open_images(path).names() == list(odd)
    path.write_text(unicodedata.normalize("NFD", "path\ncaf\u00e9.png\n"), encoding="utf-8")
    assert len(open_images(path)) == 1
    path.write_text(f"path\n{folder / 'data' / 'a b.png'}\n")
    assert len(open_images(path)) == 1
    path.write_text("filename,filepath\nc.png,sub/c.png\n")
    assert open_images(path).names() == ["sub/c.png"]
    path.write_text("path\n" + 200 * "\u00e9" + ".png\n", encoding="utf-8")
    with rejection("has no readable image among 1"):
        open_images(path)


@cell("manifest", "encoding", "obeyed: UTF-8, UTF-16 with its mark; commas, semicolons or tabs")
def encoding(folder: Path) -> None:
    for mark in ("utf-8-sig", "utf-16"):
        for separator in ",;\t":
            text = f"path{separator}label\r\n0.png{separator}caf\u00e9\r\n"
            assert open_images(write(folder, text, mark)).classes == ["caf\u00e9"]
            excel = f"sep={separator}\r\n{text}"
            assert open_images(write(folder, excel, mark)).classes == ["caf\u00e9"]
    with rejection("is not UTF-8"):
        open_images(write(folder, "path\ncaf\u00e9.png\n", "latin-1"))


@cell("manifest", "root", "rejected: no column of paths, with the columns there are; no table")
def root(folder: Path) -> None:
    with rejection("has the columns 'name', 'x'", "expected", "path, file, filename or image"):
        open_images(write(folder, "name,x\n0.png,1\n"))
    with rejection("has two columns named 'path'"):
        open_images(write(folder, "path,path\n0.png,1.png\n"))
    with rejection("a row of 3 values under 1 titles"):
        open_images(write(folder, "path\na,b,c\n"))
    table = pyarrow.table({"file": ["0.png"], "embedding": [[1.0, 2.0]]})
    parquet.write_table(table, folder / "embeddings.parquet")
    with rejection("holds embeddings"):
        open_images(folder / "embeddings.parquet")


@cell("manifest", "length", "skipped: missing files, by name, and rows without a path; no rows")
def length(folder: Path) -> None:
    path = write(folder, "path,label\n0.png,a\nnone.png,b\n,c\n1.png,a\n")
    images = open_images(path)
    assert images.skipped == ["row 3: '' is no path", "'none.png': No such file or directory"]
    assert images.labels.tolist() == [0, 0]
    rejected(
        command("train", path, "--strict", "--dry-run", "--out", folder / "run"),
        "row 3: '' is no path",
    )
    assert len(open_images(write(folder, "\r\n\npath;label\n0.png;a\n\n1.png;b\n"))) == 2
    with rejection("has no rows"):
        open_images(write(folder, "path\n"))
    with rejection("expected the paths of images"):
        open_images(write(folder, ""))


@cell("manifest", "unused", "counted: other columns, and images that are listed before")
def unused(folder: Path) -> None:
    images = open_images(write(folder, "path,split,width\n0.png,train,16\n0.png,train,16\n"))
    assert images.unread == [
        "column 'split': not read",
        "column 'width': not read",
        "row 2: '0.png' is listed before",
    ]
