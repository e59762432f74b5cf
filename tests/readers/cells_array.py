"""Cells of .npy and .npz files."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from nearfar.data import open_images
from readers.support import bright_corner, noise, pattern, rejection, warned
from readers.table import cell


def saved(folder: Path, array, name: str = "a.npy") -> Path:
    np.save(folder / name, array)
    return folder / name


@cell(
    "array", "orientation", "none: row 0 is the top; Fortran order and both byte orders are obeyed"
)
def orientation(folder: Path) -> None:
    images = np.stack([pattern(), pattern()])
    for name, array in (("c", images), ("fortran", np.asfortranarray(images))):
        assert bright_corner(open_images(saved(folder, array, f"{name}.npy"))[1]) == ("top", "left")


@cell("array", "size", "rejected: sides below 8 pixels, unless a larger size is asked for")
def size(folder: Path) -> None:
    path = saved(folder, noise(4, 7))
    with rejection("7x7 pixels"):
        open_images(path)
    assert open_images(path, size=16).shape == (3, 16, 16)


@cell("array", "range", "rejected: integers beyond 0…255, floats beyond 0…1")
def value_range(folder: Path) -> None:
    for number, array in enumerate(
        (noise(2).astype(np.int16) * 16, -noise(2).astype(np.int64), noise(2).astype(np.float32))
    ):
        with rejection("expected 0"):
            open_images(saved(folder, array, f"{number}.npy"))


@cell("array", "depth", "obeyed: bool, integers, float16 to float64; other types are rejected")
def depth(folder: Path) -> None:
    gray = noise(2)[..., 0]
    for kind in ("u1", "i8", ">i4", "<u2"):
        path = saved(folder, gray.astype(kind), "i.npy")
        assert (open_images(path)[0][0].numpy() == gray[0]).all()
    for kind in ("f2", ">f4", "f8"):
        path = saved(folder, (gray / 255).astype(kind), "f.npy")
        assert np.abs(open_images(path)[0][0].numpy() - gray[0] / 255).max() < 1e-3
    assert open_images(saved(folder, gray > 99, "b.npy"))[0].unique().tolist() == [0, 255]
    for number, kind in enumerate(("c8", "M8[s]", "U3", [("r", "u1"), ("g", "u1")])):
        with rejection("is an array of"):
            open_images(saved(folder, np.zeros((2, 9, 9), kind), f"{number}.npy"))


@cell(
    "array", "white point", "warned: if the brightest pixel is below 1/16 of white, as of 0 and 1"
)
def white_point(folder: Path) -> None:
    for number, array in enumerate((noise(2) // 128, noise(2) / 255 / 255)):
        with warned("brightest pixel"):
            open_images(saved(folder, array, f"{number}.npy"))


@cell("array", "channels", "obeyed: 1 or 3, first or last; others are rejected")
def channels(folder: Path) -> None:
    color = noise(2, 16)
    last = open_images(saved(folder, color))[0]
    first = open_images(saved(folder, color.transpose(0, 3, 1, 2), "b.npy"))[0]
    assert (last == first).all()
    assert open_images(saved(folder, color[..., :1], "c.npy")).shape == (1, 16, 16)
    with rejection("expected [n, height, width]"):
        open_images(saved(folder, np.zeros((2, 16, 16, 4), np.uint8), "d.npy"))


@cell("array", "transparency", "rejected: a fourth channel")
def transparency(folder: Path) -> None:
    with rejection("1 or 3 channels"):
        open_images(saved(folder, np.zeros((2, 16, 16, 4), np.uint8)))


@cell("array", "profile", "none: numbers are sRGB")
def profile(folder: Path) -> None:
    color = noise(2, 16)
    assert (open_images(saved(folder, color))[0].numpy() == color[0].transpose(2, 0, 1)).all()


@cell("array", "count", "rejected: one picture [h, w, c], and an empty array")
def count(folder: Path) -> None:
    for shape in ((48, 48, 3), (48, 48, 1), (48, 48, 7)):
        with rejection("looks like one picture"):
            open_images(saved(folder, np.zeros(shape, np.uint8)))
    with rejection("looks like one picture [channels, height, width]"):
        open_images(saved(folder, np.zeros((3, 48, 48), np.uint8)), channels=3)
    with rejection("holds no images"):
        open_images(saved(folder, np.zeros((0, 9, 9), np.uint8)))
    with rejection("expected [n, height, width]"):
        open_images(saved(folder, np.zeros((9, 9), np.uint8)))


@cell("array", "time", "ignored: an array of times is counted as not read")
def time(folder: Path) -> None:
    np.savez(folder / "a.npz", images=noise(2), times=np.arange(2)[::-1])
    with warned("array 'times'"):
        images = open_images(folder / "a.npz")
    assert (images[0].numpy() == noise(2)[0].transpose(2, 0, 1)).all()


@cell("array", "rate", "ignored: counted as not read")
def rate(folder: Path) -> None:
    np.savez(folder / "a.npz", images=noise(2), fps=25)
    with warned("array 'fps'"):
        open_images(folder / "a.npz")


@cell("array", "order", "obeyed: images in the order of the first axis")
def order(folder: Path) -> None:
    images = open_images(saved(folder, noise(5)))
    assert all((images[row].numpy().transpose(1, 2, 0) == noise(5)[row]).all() for row in range(5))


@cell("array", "pairing", "obeyed: a label per image; another number of labels is rejected")
def pairing(folder: Path) -> None:
    np.savez(folder / "a.npz", images=noise(4), labels=["b", "a", "b", "c"])
    assert open_images(folder / "a.npz").labels.tolist() == [1, 0, 1, 2]
    np.savez(folder / "signs.npz", images=noise(4), labels=[-1, 1, 1, -1])
    assert open_images(folder / "signs.npz").labels.tolist() == [-1, 1, 1, -1]
    np.savez(folder / "b.npz", images=noise(4), labels=[1, 2, 3])
    with rejection("expected (4,)"):
        open_images(folder / "b.npz")


@cell("array", "names", "obeyed: class names, also of the array classes, compared in one form")
def names(folder: Path) -> None:
    np.savez(folder / "a.npz", images=noise(2), labels=["cafe\u0301", "caf\u00e9"])
    assert open_images(folder / "a.npz").classes == ["caf\u00e9"]
    np.savez(folder / "b.npz", images=noise(2), labels=[0, 1], classes=["cat", "dog"])
    assert open_images(folder / "b.npz").classes == ["cat", "dog"]
    for labels in ([0, 2], [-1, 1]):
        np.savez(folder / "c.npz", images=noise(2), labels=labels, classes=["cat", "dog"])
        with rejection("for 2 classes"):
            open_images(folder / "c.npz")


@cell("array", "encoding", "obeyed: both byte orders; pickled objects are rejected")
def encoding(folder: Path) -> None:
    values = noise(2).astype(">i4")
    assert (open_images(saved(folder, values))[0].numpy() == noise(2)[0].transpose(2, 0, 1)).all()
    objects = np.empty((2, 9, 9), object)
    objects[:] = 1
    with rejection("pickled objects"):
        open_images(saved(folder, objects, "o.npy"))


@cell("array", "root", "rejected: what is no array; an archive without one array of images")
def root(folder: Path) -> None:
    (folder / "a.npy").write_bytes(b"hello")
    with rejection("cannot be read"):
        open_images(folder / "a.npy")
    np.savez(folder / "b.npz", x_train=noise(2), x_test=noise(2))
    with rejection("x_train", "under the name images"):
        open_images(folder / "b.npz")
    with zipfile.ZipFile(folder / "c.npz", "w") as archive:
        archive.writestr("images.npy", "text")
    with rejection("c.npz"):
        open_images(folder / "c.npz")


@cell("array", "length", "rejected: truncated files; archives that unpack to more than 8 GiB")
def length(folder: Path) -> None:
    path = saved(folder, noise(4))
    path.write_bytes(path.read_bytes()[:-100])
    with rejection("cannot be read"):
        open_images(path)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (2**40, 9, 9)}
    )
    (folder / "b.npy").write_bytes(header.getvalue() + bytes(100))
    with rejection("cannot be read"):
        open_images(folder / "b.npy")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nearfar.data.arrays.UNPACKED_BYTES", 100)
        np.savez_compressed(folder / "c.npz", images=np.zeros((9, 9, 9), np.uint8))
        with rejection("unpacks to"):
            open_images(folder / "c.npz")


@cell("array", "nan", "rejected: NaN and infinity, with the first such image")
def nan(folder: Path) -> None:
    for bad in (np.nan, np.inf, -np.inf):
        array = noise(4) / 255
        array[2, 3, 3, 0] = bad
        with rejection("NaN or infinite pixels, first in image 2"):
            open_images(saved(folder, array))


@cell("array", "unused", "counted: arrays that are not read, by name")
def unused(folder: Path) -> None:
    np.savez(folder / "a.npz", noise(2), [0, 1])
    with warned("not read", "arr_1"):
        images = open_images(folder / "a.npz")
    assert images.labels is None
    assert images.unused() == ["array 'arr_1': not read"]
