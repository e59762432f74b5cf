"""Folders of image files: discovery, decoding, and unreadable files."""

from __future__ import annotations

import os
import pickle
import struct
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageOps

from nearfar.data import (
    FolderImages,
    arrays,
    open_images,
    read_binary_mask,
    read_image,
    require_labels,
)
from nearfar.errors import MAX_REASON, NearfarError, reason

RED, WHITE = (255, 0, 0), (255, 255, 255)


def picture(height: int = 40, width: int = 60) -> Image.Image:
    """A smooth color picture, each corner of which looks different."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    pixels = np.stack([255 * x, 255 * y, 127 * (2 - x - y)], -1)
    return Image.fromarray(pixels.astype(np.uint8))


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims to be this large, and holds nothing."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", b"") + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def pixels_of(path: Path, **options: object) -> np.ndarray:
    """The one image at a path, [h, w, c]."""
    return open_images(path, **options)[0].permute(1, 2, 0).numpy()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes, at several depths, of several sizes and formats."""
    (tmp_path / "b" / "deeper").mkdir(parents=True)
    (tmp_path / "a").mkdir()
    picture().save(tmp_path / "b" / "deeper" / "1.PNG")
    picture(300, 200).save(tmp_path / "b" / "2.jpg", quality=95)
    picture().convert("L").save(tmp_path / "a" / "3.bmp")
    return tmp_path


def test_folder_images_are_found_at_any_depth_in_order_of_path(folder: Path) -> None:
    (folder / "a" / "notes.txt").write_text("not an image")
    (folder / "a" / ".hidden.png").write_bytes(b"not an image")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "thumbnail.png").write_bytes(b"not an image")
    images = open_images(folder)
    assert isinstance(images, FolderImages)
    assert images.files == ["a/3.bmp", "b/2.jpg", "b/deeper/1.PNG"]
    assert images.name == str(folder)
    assert images.shape == (3, 64, 64)
    assert images.skipped == []
    assert len(images) == 3
    assert images[2].shape == (3, 64, 64)
    assert images[2].dtype == torch.uint8


def test_first_level_folders_are_classes(folder: Path) -> None:
    images = open_images(folder)
    assert images.classes == ["a", "b"]
    assert require_labels(images).tolist() == [0, 1, 1]


def test_no_classes_if_an_image_lies_outside(folder: Path) -> None:
    picture().save(folder / "0.png")
    images = open_images(folder)
    assert images.labels is None
    assert images.classes is None
    with pytest.raises(NearfarError, match="has no labels: expected a folder with one subfolder"):
        require_labels(images)


def test_class_order_is_that_of_names_not_of_whole_paths(tmp_path: Path) -> None:
    for name in ("a-b", "a"):  # "a-b/1.png" < "a/1.png"
        (tmp_path / name).mkdir()
        picture().save(tmp_path / name / "1.png")
    images = open_images(tmp_path)
    assert images.files == ["a/1.png", "a-b/1.png"]
    assert images.classes == ["a", "a-b"]


def test_links_are_followed_once(folder: Path) -> None:
    elsewhere = folder / "b"
    inside = folder / "root"
    inside.mkdir()
    (folder / "a").rename(inside / "a")
    (inside / "a" / "loop").symlink_to(inside)
    (inside / "a" / "self").symlink_to(inside / "a")
    (inside / "0").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(inside)
    assert open_images(inside).files == ["0/2.jpg", "0/deeper/1.PNG", "a/3.bmp"]


@pytest.mark.parametrize(
    ("sizes", "shape"),
    [
        ([(28, 28), (28, 28)], (28, 28)),
        ([(100, 128)], (100, 128)),
        ([(100, 129)], (64, 64)),
        ([(28, 28), (28, 30)], (64, 64)),
        ([(4, 4), (200, 300)], (64, 64)),
    ],
)
def test_size_is_the_common_one_if_small(
    tmp_path: Path, sizes: list[tuple[int, int]], shape: tuple[int, int]
) -> None:
    for number, size in enumerate(sizes):
        picture(*size).save(tmp_path / f"{number}.png")
    assert open_images(tmp_path).shape == (3, *shape)
    assert open_images(tmp_path, size=(24, 16)).shape == (3, 24, 16)


def test_channels_are_gray_only_if_all_images_are(folder: Path) -> None:
    picture().convert("L").save(folder / "b" / "last.png")
    assert open_images(folder).shape[0] == 3
    assert open_images(folder, channels=1).shape[0] == 1
    picture().convert("1").save(folder / "a" / "4.png")
    picture().convert("LA").save(folder / "a" / "5.png")
    assert open_images(folder / "a").shape[0] == 1
    assert open_images(folder / "a", channels=3).shape[0] == 3


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "YCbCr"])
def test_every_mode_shows_the_same_picture(tmp_path: Path, mode: str) -> None:
    gray = picture().convert("L")
    if mode == "I;16":
        image = Image.fromarray(np.asarray(gray).astype(np.uint16) * 256 + 7)
        assert image.mode == mode
    else:
        image = (gray if mode == "P" else gray.convert("RGB")).convert(mode)
    path = tmp_path / "x.tif"
    image.save(path)
    expected = np.asarray(image.convert("L") if mode == "1" else gray)[..., None]
    assert np.abs(pixels_of(path, channels=1) - expected.astype(int)).max() <= 4
    colored = pixels_of(path, channels=3)
    assert colored.shape == (40, 60, 3)
    assert np.abs(colored - expected.astype(int)).max() <= 4


@pytest.mark.parametrize("mode", ["RGBA", "P", "LA"])
def test_transparent_pixels_are_white(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGBA", (16, 16), (255, 0, 0, 0))
    image.paste((255, 0, 0, 255), (0, 0, 8, 16))
    image.convert(mode).save(tmp_path / "x.png")
    pixels = pixels_of(tmp_path / "x.png", channels=3)
    assert tuple(pixels[5, 12]) == WHITE
    assert tuple(pixels[5, 3]) == (RED if mode != "LA" else (76, 76, 76))


@pytest.mark.parametrize("extension", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honored(tmp_path: Path, orientation: int, extension: str) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path = tmp_path / f"x.{extension}"
    picture(40, 60).save(path, exif=exif, quality=100)
    with Image.open(path) as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened))
    pixels = pixels_of(path)
    assert pixels.shape == expected.shape == ((40, 60, 3) if orientation < 5 else (60, 40, 3))
    np.testing.assert_array_equal(pixels, expected)


def test_damaged_exif_does_not_cost_the_image(tmp_path: Path) -> None:
    picture().save(tmp_path / "x.png", exif=b"Exif\0\0nonsense")
    assert open_images(tmp_path).skipped == []


def test_exif_after_the_pixels_is_honored(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    picture().save(path)
    turned = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x03\0\0\0\0\0\0"  # upside down
    whole = path.read_bytes()
    path.write_bytes(whole[:-12] + png_chunk(b"eXIf", turned) + whole[-12:])
    np.testing.assert_array_equal(pixels_of(path), np.asarray(picture())[::-1, ::-1])


def test_large_jpegs_decoded_at_a_fraction_look_the_same(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    Image.effect_noise((1100, 700), 60).save(path, quality=95)
    with Image.open(path) as whole:
        expected = np.asarray(ImageOps.fit(whole, (64, 64), Image.Resampling.BILINEAR))
    difference = np.abs(pixels_of(path, size=64)[..., 0] - expected.astype(int))
    assert 0 < difference.mean() < 1  # not equal, as not all of it was decoded


def test_scaled_to_cover_and_center_cropped(tmp_path: Path) -> None:
    noise = Image.effect_noise((90, 70), 50)
    noise.save(tmp_path / "noise.png")
    expected = ImageOps.fit(noise, (20, 30), Image.Resampling.BILINEAR)
    pixels = pixels_of(tmp_path / "noise.png", size=(30, 20))[..., 0]
    np.testing.assert_array_equal(pixels, np.asarray(expected))
    image = Image.new("RGB", (300, 100), RED)
    image.paste(WHITE, (100, 0, 200, 100))
    image.save(tmp_path / "x.png")
    pixels = pixels_of(tmp_path / "x.png", size=50)
    assert (pixels[:, 1:-1] == WHITE).all()
    assert pixels[:, [0, -1], 1].min() > 150


MARKED = np.zeros((40, 60), bool)
MARKED[10:13, 20:50] = True


def marked(kind: str) -> Image.Image:
    """The same mask in files of several kinds."""
    if kind in ("8 bits, 1", "8 bits, 255"):
        return Image.fromarray((MARKED * int(kind[8:])).astype(np.uint8))
    if kind in ("16 bits, 255", "16 bits, 65535"):
        return Image.fromarray((MARKED * int(kind[9:])).astype(np.uint16))
    if kind == "palette":
        image = Image.fromarray(MARKED.astype(np.uint8)).convert("P")
        image.putpalette([0, 0, 0, 0, 0, 128])
        return image
    background, drawn = {
        "red": ((0, 0, 0, 255), (255, 0, 0, 255)),
        "white on transparent": ((255, 255, 255, 0), (255, 255, 255, 255)),
    }[kind]
    return Image.fromarray(np.where(MARKED[..., None], drawn, background).astype(np.uint8))


@pytest.mark.parametrize(
    "kind",
    [
        *("8 bits, 1", "8 bits, 255", "16 bits, 255", "16 bits, 65535"),
        *("palette", "red", "white on transparent"),
    ],
)
def test_read_binary_mask_reads_masks_of_any_kind(tmp_path: Path, kind: str) -> None:
    marked(kind).save(tmp_path / "mask.png")
    mask = read_binary_mask(tmp_path / "mask.png", (1, 40, 60))
    assert mask.dtype == torch.uint8
    np.testing.assert_array_equal(mask[0].numpy(), MARKED)


@given(st.integers(8, 70), st.integers(8, 70), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_read_binary_mask_marks_pixels_that_cover_a_marked_one(
    height: int, width: int, seed: int
) -> None:
    """Images that differ in one pixel differ where its mask says, seen at any size."""
    spot = np.zeros((50, 50), np.uint8)
    spot[tuple(np.random.default_rng(seed).integers(0, 50, 2))] = 255
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mask.png"
        Image.fromarray(spot).save(path)
        mask, seen = (read(path, (1, height, width)) for read in (read_binary_mask, read_image))
    assert mask[seen > 0].all()


def test_read_binary_mask_ignores_noise_of_compression(tmp_path: Path) -> None:
    Image.fromarray((MARKED * 255).astype(np.uint8)).save(tmp_path / "mask.jpg", quality=90)
    np.testing.assert_array_equal(
        read_binary_mask(tmp_path / "mask.jpg", (1, 40, 60))[0].numpy(), MARKED
    )


def test_read_binary_mask_marks_nothing_on_black(tmp_path: Path) -> None:
    Image.new("L", (40, 60)).save(tmp_path / "mask.png")
    assert not read_binary_mask(tmp_path / "mask.png", (1, 20, 30)).any()


@pytest.fixture
def bad_files(folder: Path) -> dict[str, str]:
    """Files that cannot be read, in the folder, each with a part of the reason."""
    whole_png = (folder / "b" / "deeper" / "1.PNG").read_bytes()
    whole_jpg = (folder / "b" / "2.jpg").read_bytes()
    contents = {
        "a/bomb.png": png_header(10_000, 10_000),
        "a/bomb2.png": png_header(60_000, 60_000),
        "a/empty.png": b"",
        "a/half.jpg": whole_jpg[: len(whole_jpg) // 2],
        "a/half.png": whole_png[: len(whole_png) // 2],
        "a/text.gif": b"hello",
        "a/program.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 50 50\n",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    Image.new("F", (20, 20), float("nan")).save(folder / "a" / "float.tif")
    (folder / "a" / "gone.png").symlink_to("nowhere")
    os.mkfifo(folder / "a" / "pipe.png")
    return {
        "a/bomb.png": "10000x10000 pixels could be a decompression bomb",
        "a/bomb2.png": "bomb",
        "a/empty.png": "empty file",
        "a/gone.png": "No such file",
        "a/half.jpg": "truncated",
        "a/half.png": "truncated",
        "a/text.gif": "not an image",
        "a/program.png": "not an image",
        "a/float.tif": "NaN",
        "a/pipe.png": "not a regular file",
    }


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_folder_images_skip_and_list_unreadable_files(
    folder: Path, bad_files: dict[str, str]
) -> None:
    images = open_images(folder)
    assert len(images) == 3
    assert len(require_labels(images)) == 3
    assert images.batch([0, 1, 2]).shape == (3, 3, 64, 64)
    with pytest.raises(IndexError):
        images[3]
    told = dict(line.split(": ", 1) for line in images.skipped)
    assert told.keys() == {repr(name) for name in bad_files}
    for name, why in bad_files.items():
        assert why in told[repr(name)]


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_folder_images_stop_at_an_unreadable_file_if_strict(
    folder: Path, bad_files: dict[str, str]
) -> None:
    for name in bad_files:
        if name != "a/half.jpg":
            (folder / name).unlink()
    with pytest.raises(NearfarError, match=r"a/half\.jpg' cannot be read \(.*truncated.*repair"):
        open_images(folder, strict=True)


@pytest.mark.filterwarnings("error::PIL.Image.DecompressionBombWarning")
def test_bomb_limit_is_that_of_pil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(100, 100).save(tmp_path / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 9_999)
    with pytest.raises(NearfarError, match="bomb"):
        open_images(tmp_path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert len(open_images(tmp_path)) == 1


def test_open_images_refuses_folders_without_readable_images(tmp_path: Path) -> None:
    with pytest.raises(NearfarError, match=f"{tmp_path.name}' contains no images: expected .jpg"):
        open_images(tmp_path)
    (tmp_path / "x.png").write_bytes(b"")
    with pytest.raises(NearfarError, match=r"no readable image among 1: 'x.png': empty"):
        open_images(tmp_path)
    with pytest.raises(NearfarError, match=r"x.png' has no readable image"):
        open_images(tmp_path / "x.png")
    picture().save(tmp_path / "y.png")
    content = (tmp_path / "y.png").read_bytes()
    (tmp_path / "y.png").write_bytes(content[:-40])  # found in the second pass only
    with pytest.raises(NearfarError, match=r"no readable image among 2"):
        open_images(tmp_path)


def test_open_images_refuses_images_that_are_too_small(tmp_path: Path) -> None:
    picture(20, 7).save(tmp_path / "x.png")
    with pytest.raises(NearfarError, match="are 20x7 pixels: expected 8 or more"):
        open_images(tmp_path)
    with pytest.raises(NearfarError, match=r"size \(8, 7\) is too small"):
        open_images(tmp_path, size=(8, 7))
    with pytest.raises(NearfarError, match="channels=4: expected 1 .gray. or 3"):
        open_images(tmp_path, channels=4)  # type: ignore[arg-type]
    assert open_images(tmp_path, size=8).shape == (3, 8, 8)


HOSTILE = ["new\nline.png", "\x1b[31mred.png", "right\u202eleft.png", os.fsdecode(b"\xff\xfe.png")]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_printed_safely(tmp_path: Path, name: str) -> None:
    inside = tmp_path / name
    inside.mkdir()
    picture().save(tmp_path / name / "good.png")
    (tmp_path / name / name).write_bytes(b"")
    images = FolderImages(tmp_path)
    assert len(images) == 1
    said = [*images.skipped, *(images.classes or []), *images.names()]
    with pytest.raises(NearfarError) as raised:
        open_images(tmp_path, strict=True)
    said.append(str(raised.value))
    with pytest.raises(NearfarError) as raised:
        open_images(inside / name)
    said.append(str(raised.value))
    assert len(said) == 5
    for line in said:
        assert line.isprintable()
        line.encode()


@settings(max_examples=50)
@given(st.text())
def test_reasons_are_one_printable_line(text: str) -> None:
    for error in (ValueError(text), OSError(text), KeyError(text)):
        line = reason(error)
        assert line
        assert line.isprintable()
        assert len(line) <= MAX_REASON + 1


def test_read_from_disk_or_kept_the_pixels_are_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = open_images(folder)
    needed = 3 * 3 * 64 * 64
    monkeypatch.setattr(arrays, "IN_MEMORY_BYTES", needed)
    assert open_images(folder).in_memory
    monkeypatch.setattr(arrays, "IN_MEMORY_BYTES", needed - 1)
    from_disk = open_images(folder)
    assert kept.in_memory
    assert not from_disk.in_memory
    assert from_disk.shape == kept.shape
    np.testing.assert_array_equal(require_labels(from_disk), require_labels(kept))
    for indices in ([2, 0, 0], range(3), torch.tensor([1])):
        torch.testing.assert_close(from_disk.batch(indices), kept.batch(indices), rtol=0, atol=0)
    torch.testing.assert_close(pickle.loads(pickle.dumps(from_disk))[1], kept[1])  # noqa: S301


def test_a_file_that_vanishes_or_breaks_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrays, "IN_MEMORY_BYTES", 0)
    images = open_images(folder)
    (folder / "a" / "3.bmp").unlink()
    (folder / "b" / "2.jpg").write_bytes(b"now a text")
    with pytest.raises(NearfarError, match=r"a/3\.bmp' can no longer be read \(No such file"):
        images.batch([0])
    with pytest.raises(NearfarError, match=r"b/2\.jpg' can no longer be read \(not an image"):
        images.batch([2, 1])
    assert images[2].shape == (3, 64, 64)


def test_a_large_folder_is_opened_without_decoding_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = folder / "b" / "2.jpg"
    damaged.write_bytes(damaged.read_bytes()[:-200])
    assert len(open_images(folder)) == 2
    monkeypatch.setattr(arrays, "IN_MEMORY_BYTES", 0)
    seen: list[str] = []

    def progress(items, description, total):  # type: ignore[no-untyped-def]
        seen.append(description)
        return items

    images = open_images(folder, progress=progress)
    assert (len(images), seen) == (3, ["scanning"])
    with pytest.warns(UserWarning, match=r"b/2\.jpg' is replaced by a gray image: "):
        assert (images[images.files.index("b/2.jpg")] == 128).all()
    strict = open_images(folder, strict=True)
    with pytest.raises(NearfarError, match=r"b/2\.jpg' cannot be read .*: repair or remove it"):
        strict[strict.files.index("b/2.jpg")]


def test_progress_sees_every_file_twice(folder: Path) -> None:
    seen: list[str] = []

    def progress(items, description, total):  # type: ignore[no-untyped-def]
        assert total == 3
        for item in items:
            seen.append(description)
            yield item

    open_images(folder, progress=progress)
    assert seen == ["scanning"] * 3 + ["decoding"] * 3


def test_open_images_reads_a_single_file(folder: Path) -> None:
    images = open_images(folder / "b" / "2.jpg")
    assert isinstance(images, FolderImages)
    assert (len(images), images.files, images.labels) == (1, ["2.jpg"], None)
    assert images.name == str(folder / "b" / "2.jpg")


def test_open_images_reads_caltech101(data_root: Path, tmp_path: Path) -> None:
    caltech = data_root / "caltech101" / "101_ObjectCategories"
    if not caltech.is_dir():
        pytest.skip(f"no Caltech-101 in {caltech}")
    (tmp_path / "watch").symlink_to(caltech / "watch")
    images = open_images(tmp_path)
    assert len(images) == len(list((caltech / "watch").glob("*.jpg"))) > 200
    assert images.classes == ["watch"]
    assert images.shape == (3, 64, 64)
    assert images.skipped == []


def test_a_few_images_in_no_class_are_told(tmp_path):
    for name in ("cat/1.png", "cat/2.png", "dog/1.png", "stray.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (16, 16), "red").save(tmp_path / name)
    with pytest.warns(UserWarning, match=r"1 of 4 images have no label .first 'stray.png'.:"):
        assert open_images(tmp_path).labels is None
