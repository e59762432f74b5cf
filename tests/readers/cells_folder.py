"""Cells of folders of images."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from nearfar.data import labels_like, open_images
from readers.stores import pictures, store_parquet, store_tar
from readers.support import bright_corner, command, noise, pattern, rejected, rejection, warned
from readers.support import write_tiff as tiff
from readers.table import cell

QUICK = (
    "--epochs 0 --pretrain-epochs 1 --embedding-size 4 --batch-size 4 --size 16 --device cpu"
).split()


def fill(folder: Path, count: int = 4) -> Path:
    """Write some images, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, pixels in enumerate(noise(count, 16)):
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


@cell("folder", "orientation", "obeyed: per file")
def orientation(folder: Path) -> None:
    block = Image.Exif()
    block[ExifTags.Base.Orientation] = 3
    Image.fromarray(pattern()).save(folder / "0.png")
    Image.fromarray(pattern()[::-1, ::-1].copy()).save(folder / "1.png", exif=block)
    assert [bright_corner(image) for image in open_images(folder)] == [("top", "left")] * 2


@cell("folder", "size", "obeyed: a common size of at most 128 pixels; otherwise scaled to 64×64")
def size(folder: Path) -> None:
    fill(folder)
    assert open_images(folder).shape == (3, 16, 16)
    Image.fromarray(pattern(40, 30)).save(folder / "other.png")
    assert open_images(folder).shape == (3, 64, 64)


@cell("folder", "range", "warned: if the brightest pixel is below 1/16 of white")
def value_range(folder: Path) -> None:
    Image.fromarray(noise(1, 16)[0] // 20).save(folder / "0.png")
    with warned(folder.name, "brightest pixel is 12"):
        open_images(folder)
    Image.fromarray(noise(1, 16)[0]).save(folder / "1.png")
    open_images(folder)


@cell("folder", "depth", "obeyed: per file; 32-bit files need --window")
def depth(folder: Path) -> None:
    gray = noise(1, 16)[0, ..., 0]
    Image.fromarray(gray).save(folder / "08.png")
    Image.fromarray(gray.astype(np.uint16) * 257).save(folder / "16.png")
    tiff(folder / "32.tif", gray.astype(np.int32))
    images = open_images(folder)
    assert (images[0] == images[1]).all()
    assert [line.partition(":")[0] for line in images.skipped] == ["'32.tif'"]
    assert "--window LOW HIGH" in images.skipped[0]
    (folder / "16.png").unlink()
    with warned("1 of 2 files do not state black and white"):
        assert len(open_images(folder)) == 1
    assert len(open_images(folder, window=(0, 255))) == 2


@cell("folder", "white point", "obeyed: per file")
def white_point(folder: Path) -> None:
    gray = noise(1, 16)[0, ..., 0]
    tiff(folder / "0.tif", gray)
    tiff(folder / "1.tif", ~gray, PhotometricInterpretation=0)
    images = open_images(folder)
    assert (images[0] == images[1]).all()


@cell("folder", "channels", "obeyed: gray if all images are, otherwise RGB")
def channels(folder: Path) -> None:
    Image.fromarray(pattern(channels=1)).save(folder / "0.png")
    assert open_images(folder).shape[0] == 1
    Image.fromarray(pattern()).save(folder / "1.png")
    assert open_images(folder).shape[0] == 3


@cell("folder", "transparency", "obeyed: per file, on white")
def transparency(folder: Path) -> None:
    Image.new("RGBA", (16, 16)).save(folder / "0.png")
    Image.new("RGB", (16, 16)).save(folder / "1.png")
    images = open_images(folder)
    assert [int(image.max()) for image in images] == [255, 0]


@cell("folder", "profile", "obeyed: per file")
def profile(folder: Path) -> None:
    from PIL import ImageCms

    from readers.cells_image import swap_primaries

    image = Image.fromarray(np.full((16, 16, 3), (120, 200, 40), np.uint8))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image.save(folder / "0.png")
    image.save(folder / "1.png", icc_profile=swap_primaries(profile))
    plain, swapped = open_images(folder)
    assert plain[0, 0, 0] < plain[1, 0, 0]
    assert swapped[0, 0, 0] > swapped[1, 0, 0]


@cell("folder", "count", "obeyed: an image per file, all of .tar and .parquet; pages are skipped")
def count(folder: Path) -> None:
    fill(folder)
    first, second = (Image.fromarray(pixels) for pixels in noise(2, 16))
    first.save(folder / "stack.tif", save_all=True, append_images=[second])
    images = open_images(folder)
    assert len(images) == 4
    assert "2 images in one file" in images.skipped[0]
    inside = (folder / "inside") / "a"
    inside.mkdir(parents=True)
    store_tar(inside, pictures(3))
    store_parquet(inside, pictures(2))
    (inside / "cut.tar").write_bytes(b"text" * 200)
    images = open_images(folder)
    assert len(images) == 9
    assert images.names()[4:7] == [
        *(f"inside/a/images.parquet/{number}.png" for number in range(2)),
        "inside/a/images.tar/0.png",
    ]
    assert any("inside/a/cut.tar" in line for line in images.skipped)


@cell("folder", "time", "ignored: file times")
def time(folder: Path) -> None:
    fill(folder, 3)
    for number, second in ((0, 10**9), (1, 0), (2, 10**8)):
        os.utime(folder / f"{number}.png", (second, second))
    assert open_images(folder).files == ["0.png", "1.png", "2.png"]


@cell("folder", "rate", "ignored: numbers in names are no times")
def rate(folder: Path) -> None:
    fill(folder, 2)
    (folder / "1.png").rename(folder / "frame 30fps 0010.png")
    assert len(open_images(folder)) == 2


@cell("folder", "order", "obeyed: sorted by path, whatever the disk's order")
def order(folder: Path) -> None:
    for name in ("b/1.png", "a/10.png", "a/2.png", "c.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        Image.fromarray(pattern()).save(folder / name)
    assert open_images(folder).files == ["a/10.png", "a/2.png", "b/1.png", "c.png"]


@cell(
    "folder", "pairing", "obeyed: classes by name of the sub-folder; unknown classes are rejected"
)
def pairing(folder: Path) -> None:
    for place in ("train/cat", "train/dog", "test/dog", "other/bird"):
        fill(folder / place)
    train, test, other = (open_images(folder / name) for name in ("train", "test", "other"))
    assert labels_like(test, train).tolist() == [1] * 4
    with rejection("bird", "expected the same classes"):
        labels_like(other, train)
    (folder / "train" / "cover.jpg").write_bytes(b"damaged")
    assert open_images(folder / "train").labels.tolist() == train.labels.tolist()
    fill(folder / "train", 1)
    with warned("1 of 9 images have no label (first '0.png')"):
        assert open_images(folder / "train").labels is None
    fill(folder / "splits" / "train" / "cat")
    fill(folder / "splits" / "val" / "cat")
    with warned("named like splits"):
        open_images(folder / "splits")


@cell("folder", "names", "obeyed: Unicode forms of one name are one class; spaces are kept")
def names(folder: Path) -> None:
    fill(folder / "train" / "caf\u00e9 au lait")
    fill(folder / "train" / "\u00fcber")
    fill(folder / "test" / "cafe\u0301 au lait")
    fill(folder / "test" / "u\u0308ber")
    train, test = open_images(folder / "train"), open_images(folder / "test")
    assert labels_like(test, train).tolist() == train.labels.tolist()
    fill(folder / "train" / "cafe\u0301 au lait")
    assert open_images(folder / "train").classes == train.classes


@cell("folder", "encoding", "obeyed: names that are no UTF-8 are read, and shown with escapes")
def encoding(folder: Path) -> None:
    fill(folder, 1)
    (folder / "0.png").rename(folder / "\udcff.png")
    images = open_images(folder)
    assert images.names() == [r"\udcff.png"]
    assert len(images[0]) == 3


@cell("folder", "root", "rejected: what does not exist, or is no folder or image")
def root(folder: Path) -> None:
    for name in ("absent", "x" * 300, "a\0b"):
        with rejection("'"):
            open_images(folder / name)
    (folder / "a.txt").write_text("text")
    with rejection("not an image"):
        open_images(folder / "a.txt")


@cell("folder", "length", "rejected: a folder without images, with the number of other files")
def length(folder: Path) -> None:
    with rejection("contains no images"):
        open_images(folder)
    for number in range(3):
        (folder / f"{number}.XCF").write_bytes(b"gimp xcf")
    with rejection("contains no images", ".xcf (3)"):
        open_images(folder)


@cell("folder", "nan", "skipped: float files that are not finite")
def nan(folder: Path) -> None:
    fill(folder)
    tiff(folder / "a.tif", np.full((16, 16), np.nan, np.float32))
    images = open_images(folder)
    assert len(images) == 4
    assert "NaN" in images.skipped[0]


@cell(
    "folder",
    "unused",
    "counted: by extension; the run lists them. Runs are noted, hidden folders ignored",
)
def unused(folder: Path) -> None:
    fill(folder / "in")
    for name in ("@eaDir/0.png", "sub/#recycle", "$RECYCLE.BIN", "__MACOSX"):
        fill(folder / "nas" / name)
    fill(folder / "nas" / "sub")
    images = open_images(folder / "nas")
    assert len(images) == len(open_images(folder / "in"))
    assert images.unread[0] == "'$RECYCLE.BIN': thumbnails or deleted files"
    assert len(images.unread) == 4
    for name in ("a.xcf", "b.XCF", "notes.txt", "none", ".hidden.png", "sub/c.xcf"):
        (folder / "in" / name).parent.mkdir(exist_ok=True)
        (folder / "in" / name).write_bytes(b"text")
    for number in range(8):
        (folder / "in" / f"bad{number}.png").write_bytes(b"text")
    with warned("6 files are not named like images", ".xcf (3)", "no extension (1)", "hidden (1)"):
        images = open_images(folder / "in")
    assert len(images) == 4
    said = command("train", folder / "in", "--out", folder / "run", *QUICK)
    assert said.code == 0, said
    assert "skipped 8 in all" in said.err
    assert "skipped.txt" in said.err
    assert len((folder / "run" / "skipped.txt").read_text().splitlines()) == 14
    (folder / "run").rename(folder / "in" / "run")
    fill(folder / "in" / "run" / "report")
    with warned("'run' is a run: its images are not used"):
        images = open_images(folder / "in")
    assert len(images) == 4
    assert "'run': a run, with its reports" in images.unread
    assert len(open_images(folder / "in" / "run")) == 4
    shutil.rmtree(folder / "in" / "run")
    (folder / "in" / "again").symlink_to(folder / "in" / "sub")
    with warned("1 links to folders that are read anyway", "'again'"):
        images = open_images(folder / "in")
    assert images.unread[0] == "'again': a link to a folder that is read anyway"
    rejected(command("train", folder / "in", "--out", folder / "r", "--strict", *QUICK), "bad0.png")
    assert not (folder / "r").exists()
