"""Cells of tar shards in WebDataset's layout."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

from nearfar.data import open_images
from readers.stores import pictures, png, register, store_tar, write_tar
from readers.support import noise, rejection, warned
from readers.table import cell

register("tar", store_tar)


@cell("tar", "time", "ignored: times of members")
def time(folder: Path) -> None:
    path = store_tar(folder, pictures())
    with tarfile.open(path) as tar:
        assert all(member.mtime == 0 for member in tar)
    assert len(open_images(path)) == 4


@cell("tar", "order", "obeyed: that of the file; shards in the order of their numbers")
def order(folder: Path) -> None:
    files = list(pictures().items())
    for number in (1, 0):
        write_tar(folder / f"s-{number:02}.tar", files[2 * number : 2 * number + 2][::-1])
    names = ["s-00.tar/1.png", "s-00.tar/0.png", "s-01.tar/3.png", "s-01.tar/2.png"]
    assert open_images(folder).names() == names
    images = open_images(f"{folder}/s-{{00..01}}.tar")
    assert images.names() == names
    assert (images[2].permute(1, 2, 0).numpy() == noise(4, 16)[3]).all()
    with rejection("stands for 4 files, of which 2 are missing", "s-02.tar"):
        open_images(f"{folder}/s-{{00..03}}.tar")


@cell("tar", "pairing", "obeyed: key.cls, key.json, key.txt; warned: labels that are missing")
def pairing(folder: Path) -> None:
    files = list(pictures().items())
    for extension, values in {
        "cls": ("0", "1", "0", "1"),
        "txt": ("cat", "dog", "cat", "dog"),
        "json": [json.dumps({"label": label}) for label in (0, 1, 0, 1)],
    }.items():
        parts = [(f"{n}.{extension}", value.encode()) for n, value in enumerate(values)]
        images = open_images(write_tar(folder / "a.tar", [*parts, *files]))
        assert images.labels.tolist() == [0, 1, 0, 1]
        assert images.classes == (["cat", "dog"] if extension == "txt" else None)
    boxes = [(f"{n}.json", json.dumps({"x": n, "y": 3 * n}).encode()) for n in range(4)]
    assert open_images(write_tar(folder / "a.tar", [*boxes, *files])).labels is None
    with warned("1 of 4 images", "have no label"):
        assert open_images(write_tar(folder / "a.tar", [*parts[1:], *files])).labels is None
    captions = [(f"{n}.txt", f"a picture of {n}".encode()) for n in range(4)]
    assert open_images(write_tar(folder / "a.tar", [*files, *captions])).labels is None


@cell("tar", "names", "obeyed: folders, spaces, long names; unprintable letters are escaped")
def names(folder: Path) -> None:
    odd = ("a/b c.png", "caf\u00e9.png", "x" * 200 + ".png", "new\nline.png")
    path = write_tar(folder / "a b.tar", list(zip(odd, pictures().values(), strict=True)))
    assert open_images(path).names() == [*odd[:3], r"new\nline.png"]


@cell("tar", "encoding", "obeyed: UTF-8; other bytes are escaped")
def encoding(folder: Path) -> None:
    path = write_tar(folder / "a.tar", [("\udcff.png", pictures()["0.png"])])
    assert open_images(path).names() == [r"\udcff.png"]


@cell("tar", "root", "rejected: compressed archives, and what is no tar file")
def root(folder: Path) -> None:
    (folder / "a.tar.gz").write_bytes(b"\x1f\x8b" + bytes(30))
    with rejection("is a compressed archive", "expected an uncompressed .tar"):
        open_images(folder / "a.tar.gz")
    (folder / "a.tar").write_bytes(b"text" * 500)
    with rejection("no readable image", "the rest of the tar file"):
        open_images(folder / "a.tar")


@cell("tar", "length", "skipped: the rest of a truncated file, in one line; damaged images")
def length(folder: Path) -> None:
    path = store_tar(folder, pictures())
    whole = path.read_bytes()
    for size in (len(whole) * 3 // 16, whole.index(bytes(1024))):
        path.write_bytes(whole[:size])
        images = open_images(path)
        assert 0 < len(images) <= 4
        assert len(images.skipped) == 1
        assert "the rest of the tar file" in images.skipped[0]
    empty = write_tar(folder / "empty.tar", [("a.txt", b"text")])
    with rejection("a tar file without images"):
        open_images(empty)


@cell("tar", "unused", "counted: other parts of a sample, hidden files, and replaced members")
def unused(folder: Path) -> None:
    one, two, three, _ = pictures().values()
    first = [("a.png", one), ("a.cls", b"0"), ("b.png", two), ("b.cls", b"0")]
    images = open_images(write_tar(folder / "new.tar", [*first, ("a.png", three), ("a.cls", b"1")]))
    assert (images.names(), images.labels.tolist()) == (["a.png", "b.png"], [1, 0])
    assert (images[0].permute(1, 2, 0).numpy() == noise(4, 16)[2]).all()
    assert images.unread == ["'new.tar': 2 members not read: replaced by a later member"]
    source = folder / "source"
    (source / "sub").mkdir(parents=True)
    (source / "0.png").write_bytes(one)
    (source / "9.png").hardlink_to(source / "0.png")
    (source / "sub" / "8.png").symlink_to("../0.png")
    (source / "7.png").symlink_to("nowhere.png")
    with tarfile.open(folder / "links.tar", "w") as tar:
        tar.add(source, "source")
    images = open_images(folder / "links.tar")
    assert sorted(images.names()) == ["source/0.png", "source/9.png", "source/sub/8.png"]
    assert (images.batch([0, 1, 2]) == images[0]).all()
    assert images.unread == ["'links.tar': 1 members not read: links and special files"]
    extra = [("0.seg.png", png(noise(1, 16)[0])), ("0.npy", b"array"), ("._1.png", b"mac")]
    images = open_images(write_tar(folder / "a.tar", [*pictures().items(), *extra]))
    assert images.names() == ["0.png", "1.png", "2.png", "3.png"]
    assert images.unread == [
        "'a.tar': 1 members not read: .npy",
        "'a.tar': 1 members not read: .seg.png",
        "'a.tar': 1 members not read: hidden",
    ]
