"""Arrays and array files: supported layouts and types, and errors."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from nearfar.data import (
    ArrayImages,
    arrays,
    images_from_array,
    open_images,
    require_labels,
    to_unit,
)
from nearfar.errors import NearfarError

BYTES = np.random.default_rng(0).integers(0, 256, (6, 3, 10, 12), dtype=np.uint8)


def everything(images: object) -> torch.Tensor:
    return images.batch(range(len(images)))  # type: ignore[attr-defined, arg-type]


@pytest.fixture(params=["kept", "converted"])
def how(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to hold an array; also, look at it an image at a time."""
    if request.param == "converted":
        monkeypatch.setattr(arrays, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(arrays, "CHUNK_BYTES", 1)
    return request.param


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (BYTES[:, 0], BYTES[:, :1]),
        (BYTES.transpose(0, 2, 3, 1), BYTES),
        (BYTES[:, :1].transpose(0, 2, 3, 1), BYTES[:, :1]),
        (BYTES, BYTES),
        (BYTES[:, :1], BYTES[:, :1]),
        (BYTES[:, :, :, ::-1], BYTES[:, :, :, ::-1]),
        (BYTES > 99, (BYTES > 99) * np.uint8(255)),
        (BYTES.astype(np.int64), BYTES),
        (BYTES.astype(">u2"), BYTES),
    ],
)
def test_images_from_array_reads_all_layouts_and_types(
    how: str, array: np.ndarray, expected: np.ndarray
) -> None:
    before, array = array.copy(), array.view()
    array.flags.writeable = False
    images = images_from_array(array)
    assert isinstance(images, ArrayImages) == (how == "kept")
    assert images.in_memory
    assert images.shape == expected.shape[1:]
    assert everything(images).dtype == torch.uint8
    assert everything(images).is_contiguous()
    np.testing.assert_array_equal(everything(images).numpy(), expected)
    np.testing.assert_array_equal(images.batch([4, 4, 1]).numpy(), expected[[4, 4, 1]])
    np.testing.assert_array_equal(images[3].numpy(), expected[3])
    np.testing.assert_array_equal(array, before)


@pytest.mark.parametrize("kind", ["f2", "f4", "f8", ">f4"])
def test_images_from_array_converts_floats_to_float32(how: str, kind: str) -> None:
    array = (BYTES / 255).astype(kind)
    pixels = everything(images_from_array(array))
    assert pixels.dtype == torch.float32
    np.testing.assert_array_equal(pixels.numpy(), array.astype(np.float32))
    assert images_from_array(array * (1 + 5e-4)).shape == (3, 10, 12)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("size", [(10, 12), (20, 24), (8, 12), (16, 8)])
def test_images_from_array_scales_and_crops_like_files(
    how: str, size: tuple[int, int], dtype: type[np.generic]
) -> None:
    array = np.random.default_rng(0).integers(0, 256, (1, 20, 30, 3), dtype=np.uint8)
    expected = np.asarray(ImageOps.fit(Image.fromarray(array[0]), size[::-1], Image.BILINEAR))
    given = array if dtype == np.uint8 else (array / 255).astype(dtype)
    images = images_from_array(given, size=size)
    assert images.shape == (3, *size)
    pixels = (to_unit(images[0]) * 255).permute(1, 2, 0).numpy()
    # At the edges, PIL also looks at what is cut off.
    assert np.abs(pixels - expected)[1:-1, 1:-1].max() < 2


def test_images_from_array_repeats_gray_as_rgb(how: str) -> None:
    colored = everything(images_from_array(BYTES[:, 0], channels=3))
    assert colored.is_contiguous()
    np.testing.assert_array_equal(colored.numpy(), np.repeat(BYTES[:, :1], 3, axis=1))
    assert images_from_array(BYTES, channels=3).shape == (3, 10, 12)
    with pytest.raises(NearfarError, match="'array' holds RGB images, but channels=1"):
        images_from_array(BYTES, channels=1)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((5, 100)), r"an array of shape \(5, 100\): expected \[n, height, width\]"),
        (np.zeros((5, 9, 9, 4)), r"an array of shape \(5, 9, 9, 4\): expected"),
        (np.zeros((2, 2, 3, 9, 9)), r"an array of shape \(2, 2, 3, 9, 9\): expected"),
        (np.zeros(()), r"an array of shape \(\): expected"),
        (np.zeros((0, 9, 9)), "it holds no images"),
        (
            np.zeros((9, 9, 3)),
            r"looks like one picture \[height, width, channels\]: expected a set",
        ),
        (np.zeros((5, 9, 9), object), "an array of object: expected bool, integers"),
        (np.zeros((5, 9, 9), complex), "an array of complex128: expected"),
        (np.zeros((5, 9, 9), "U3"), "an array of <U3: expected"),
        (np.zeros((5, 9, 9), "M8[s]"), "an array of datetime64"),
        (np.full((5, 9, 9), 256), r"holds integers in 256…256: expected 0…255"),
        (np.full((5, 9, 9), -1), r"holds integers in -1…-1: expected 0…255"),
        (np.full((5, 9, 9), 255.0), r"holds floats in 255…255: expected .* divide .* by 255"),
        (np.full((5, 9, 9), -0.5), r"holds floats in -0.5…-0.5: expected"),
        (np.full((5, 9, 9), 1.01), r"holds floats in 1.01…1.01: expected"),
    ],
)
def test_images_from_array_refuses_other_arrays(array: np.ndarray, message: str) -> None:
    with pytest.raises(NearfarError, match=message):
        images_from_array(array)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("chunk", [1, 10**6])
def test_images_from_array_refuses_pixels_that_are_not_finite(
    value: float, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrays, "CHUNK_BYTES", chunk)
    array = np.zeros((20, 9, 9), np.float16)
    array[17, 3, 4] = value
    with pytest.raises(NearfarError, match=r"NaN or infinite pixels, first in image 17$"):
        images_from_array(array)


def test_images_from_array_numbers_labels() -> None:
    assert images_from_array(BYTES).labels is None
    numbered = images_from_array(BYTES, [3, 1, 3, 3, 1, 9])
    assert require_labels(numbered).tolist() == [3, 1, 3, 3, 1, 9]
    assert require_labels(numbered).dtype == np.int64
    assert numbered.classes is None
    named = ArrayImages(BYTES, np.array(["dog", "cat", "dog", "cat", "cat", "ant"]))
    assert require_labels(named).tolist() == [2, 1, 2, 1, 1, 0]
    assert named.classes == ["ant", "cat", "dog"]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1, 2], r"the labels of 'digits' have shape \(2,\): expected \(6,\)"),
        ([[1]] * 6, r"have shape \(6, 1\): expected \(6,\)"),
        ([0.5] * 6, "the labels of 'digits' are float64: expected integers or strings"),
        ([None] * 6, "the labels of 'digits' lack some: expected one per image"),
    ],
)
def test_images_from_array_refuses_bad_labels(labels: list[object], message: str) -> None:
    with pytest.raises(NearfarError, match=message):
        images_from_array(BYTES, labels, name="digits")
    with pytest.raises(NearfarError, match=message):
        ArrayImages(BYTES, labels, name="digits")


def test_array_images_share_memory_with_the_tensor() -> None:
    pixels = torch.from_numpy(BYTES.copy())
    images = ArrayImages(pixels)
    pixels[2] = 7
    assert (images[2] == 7).all()


def test_open_images_reads_npy(tmp_path: Path, how: str) -> None:
    path = tmp_path / "x.npy"
    np.save(path, BYTES[:, 0])
    images = open_images(path)
    assert images.name == str(path)
    assert images.in_memory
    np.testing.assert_array_equal(everything(images).numpy(), BYTES[:, :1])


def test_open_images_reads_npy_lazily(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "IN_MEMORY_BYTES", 0)
    path = tmp_path / "x.npy"
    stored = np.lib.format.open_memmap(path, "w+", np.uint8, (50_000, 1000, 1000))  # sparse file
    stored[40_000] = 9
    del stored
    images = open_images(path)
    assert len(images) == 50_000
    assert (images[40_000] == 9).all()


@pytest.mark.parametrize("images", ["images", "x", "X", "data", "arr_0", "pixels"])
@pytest.mark.parametrize("labels", ["labels", "y", "Y", "arr_1"])
def test_open_images_reads_npz(tmp_path: Path, images: str, labels: str) -> None:
    path = tmp_path / "x.npz"
    np.savez_compressed(path, **{labels: np.arange(6), images: BYTES})
    opened = open_images(path, size=9)
    assert opened.shape == (3, 9, 9)
    if labels == "arr_1":
        assert opened.labels is None
    else:
        assert require_labels(opened).tolist() == [0, 1, 2, 3, 4, 5]


def test_open_images_refuses_unusable_npz(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, left=BYTES, right=BYTES)
    with pytest.raises(NearfarError, match=r"x\.npz' holds arrays named left, right: expected"):
        open_images(path)
    np.savez(path)
    with pytest.raises(NearfarError, match="holds arrays named nothing"):
        open_images(path)
    np.savez(path, x=BYTES, y=np.arange(5))
    with pytest.raises(NearfarError, match=r"labels of '.*x\.npz' have shape \(5,\)"):
        open_images(path)
    np.savez(path, x=BYTES, y=np.array([{}] * 6))
    with pytest.raises(NearfarError, match=r"x\.npz' cannot be read \(pickled objects"):
        open_images(path)
    np.savez_compressed(path, x=np.zeros((1000, 50, 50), np.uint8))
    assert path.stat().st_size < 10_000
    monkeypatch.setattr(arrays, "UNPACKED_BYTES", 1_000_000)
    with pytest.raises(NearfarError, match=r"x\.npz' unpacks to .* GiB, and at most"):
        open_images(path)


@pytest.mark.parametrize("extension", ["npy", "npz"])
@pytest.mark.parametrize("keep", [0, 1, 5, 60, 200, -30, -1])
def test_open_images_refuses_truncated_array_files(
    tmp_path: Path, extension: str, keep: int
) -> None:
    path = tmp_path / f"x.{extension}"
    np.save(path, BYTES) if extension == "npy" else np.savez_compressed(path, x=BYTES)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(NearfarError, match=rf"x\.{extension}' cannot be read \(") as raised:
        open_images(path)
    assert str(raised.value).isprintable()


def test_open_images_refuses_damaged_npz(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez_compressed(path, x=BYTES)
    content = bytearray(path.read_bytes())
    content[200:220] = bytes(20)
    path.write_bytes(content)
    with pytest.raises(NearfarError, match=r"x\.npz' cannot be read \("):
        open_images(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '|u1', " * 3)
    with pytest.raises(NearfarError, match=r"x\.npz' cannot be read \("):
        open_images(path)


@pytest.mark.parametrize(
    "content",
    [b"hello", b"\x80\x04K\x01.", b"\x93NUMPY\x01\x00\x02\x00{}"],
    ids=["text", "pickle", "header"],
)
def test_open_images_refuses_files_without_arrays(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(content)
    with pytest.raises(NearfarError, match=r"x\.npy' cannot be read \(") as raised:
        open_images(path)
    assert "allow_pickle" not in str(raised.value)


def test_open_images_refuses_pickled_objects(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.array([{}, {}]), allow_pickle=True)
    with pytest.raises(NearfarError, match=r"x\.npy' cannot be read \(pickled objects"):
        open_images(path)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_open_images_turns_any_bytes_into_images_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, data
) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path_factory.mktemp("any") / f"x.{data.draw(st.sampled_from(['npy', 'npz']))}"
    np.save(path, BYTES) if path.suffix == ".npy" else np.savez(path, x=BYTES)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, min(127, len(content) - 1)))] = data.draw(
            st.integers(0, 255)
        )
    path.write_bytes(content)
    message = ""
    try:
        open_images(path)
    except NearfarError as error:
        message = str(error)
    assert message == "" or re.search(r"x\.np[yz]", message)
    assert message.isprintable()


@pytest.mark.parametrize("key", ["labels", "classes"])
def test_text_that_is_no_text_is_rejected(tmp_path, key):
    damaged = np.array([2**31, 2**31 + 1], np.uint32).view("U1")
    arrays = {"images": np.zeros((2, 8, 8)), "labels": np.arange(2), key: damaged}
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(NearfarError, match=r"a\.npz' cannot be read .damaged text."):
        open_images(tmp_path / "a.npz")
