"""Cells that manifests, tar shards and Parquet files share: they hold encoded images."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pyarrow
from PIL import ExifTags, Image, ImageCms
from pyarrow import parquet

from nearfar.data import open_images
from readers.support import bright_corner, noise, pattern, rejection, warned, write_tiff
from readers.table import cell

#: Writes images by file name, with labels if any, and returns the path to open.
Store = Callable[..., Path]


def png(pixels: np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    """Return an encoded image."""
    return encoded(Image.fromarray(pixels), kind, **options)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def pictures(count: int = 4) -> dict[str, bytes]:
    """Return random images by name."""
    return {f"{number}.png": png(pixels) for number, pixels in enumerate(noise(count, 16))}


def store_manifest(folder: Path, files: Mapping[str, bytes], labels: object = None) -> Path:
    """Write files with a CSV manifest."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    quoted = ['"' + name.replace('"', '""') + '"' for name in files]
    lines = ["path", *quoted]
    if labels is not None:
        lines = [f"{a},{b}" for a, b in zip(lines, ["label", *labels], strict=True)]
    path = folder / "images.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def store_tar(folder: Path, files: Mapping[str, bytes], labels: object = None) -> Path:
    """Write a tar file, with a .cls beside each image if there are labels."""
    members = list(files.items())
    if labels is not None:
        stems = [name.rpartition(".")[0] for name in files]
        members += [
            (f"{stem}.cls", str(label).encode()) for stem, label in zip(stems, labels, strict=True)
        ]
    return write_tar(folder / "images.tar", members)


def write_tar(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def store_parquet(
    folder: Path,
    files: Mapping[str, bytes],
    labels: object = None,
    *,
    classes: object = None,
    rows: int = 3,
    **columns: object,
) -> Path:
    """Write a Parquet file as Hugging Face's datasets does."""
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    images = [{"bytes": content, "path": name} for name, content in files.items()]
    table = {"image": pyarrow.array(images, kind), **columns}
    features: dict[str, object] = {"image": {"_type": "Image"}}
    if labels is not None:
        table["label"] = pyarrow.array(labels)
        features["label"] = {"_type": "Value", "dtype": "int64"}
    if classes is not None:
        features["label"] = {"_type": "ClassLabel", "names": classes}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    path = folder / "images.parquet"
    parquet.write_table(
        pyarrow.table(table).replace_schema_metadata(metadata), path, row_group_size=rows
    )
    return path


def register(reader: str, store: Store) -> None:
    """Register the cells about single images: all readers decode them alike."""

    @cell(reader, "orientation", "obeyed: per image, by EXIF and XMP")
    def orientation(folder: Path) -> None:
        block = Image.Exif()
        block[ExifTags.Base.Orientation] = 3
        turned = png(pattern()[::-1, ::-1].copy(), "JPEG", exif=block)
        images = open_images(store(folder, {"a.png": png(pattern()), "b.jpg": turned}))
        assert [bright_corner(image) for image in images] == [("top", "left")] * 2

    @cell(reader, "size", "obeyed: a common size of at most 128 pixels; otherwise 64×64")
    def size(folder: Path) -> None:
        files = pictures()
        assert open_images(store(folder, files)).shape == (3, 16, 16)
        images = open_images(store(folder, files | {"big.png": png(pattern(40, 30))}))
        assert images.shape == (3, 64, 64)
        assert images.sizes([4]).tolist() == [[40, 30]]

    @cell(reader, "range", "warned: if the brightest pixel is below 1/16 of white")
    def value_range(folder: Path) -> None:
        path = store(folder, {"a.png": png(noise(1, 16)[0] // 20)})
        with warned(path.name, "brightest pixel is 12"):
            open_images(path)

    @cell(reader, "depth", "obeyed: 16 bits; floats need --window, unless from 0 to 1")
    def depth(folder: Path) -> None:
        values = np.linspace(1000, 1255, 256).astype(np.uint16).reshape(16, 16)
        image = open_images(store(folder, {"a.png": png(values)}), window=(1000, 1255))[0]
        assert (image[0].numpy() == values - 1000).all()
        path = store(folder, {"a.tif": encoded(Image.fromarray(values.astype("f4")), "TIFF")})
        assert (open_images(path, window=(1000, 1255))[0][0].numpy() == values - 1000).all()
        with warned(path.name, "are 1000…1255"), rejection("--window LOW HIGH"):
            open_images(path)

    @cell(reader, "white point", "obeyed: TIFF files where zero is white")
    def white_point(folder: Path) -> None:
        gray = noise(1, 16)[0, ..., 0]
        write_tiff(folder / "0.tif", ~gray, PhotometricInterpretation=0)
        files = {"a.tif": (folder / "0.tif").read_bytes(), "b.png": png(gray)}
        images = open_images(store(folder, files))
        assert (images[0] == images[1]).all()

    @cell(reader, "channels", "obeyed: gray if all images are, otherwise RGB; CMYK")
    def channels(folder: Path) -> None:
        gray = {"a.png": png(pattern(channels=1))}
        assert open_images(store(folder, gray)).shape[0] == 1
        cmyk = encoded(Image.new("CMYK", (16, 24), (0, 255, 255, 0)), "JPEG")
        images = open_images(store(folder, gray | {"b.jpg": cmyk}))
        assert images.shape[0] == 3
        assert images[1][:, 5, 5].tolist()[0] > 180 > 90 > images[1][1, 5, 5]

    @cell(reader, "transparency", "obeyed: on white")
    def transparency(folder: Path) -> None:
        clear = encoded(Image.new("RGBA", (16, 16)))
        assert int(open_images(store(folder, {"a.png": clear}))[0].min()) == 255

    @cell(reader, "profile", "obeyed: converted to sRGB")
    def profile(folder: Path) -> None:
        from readers.cells_image import swap_primaries

        pixels = np.full((16, 16, 3), (120, 200, 40), np.uint8)
        own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        swapped = png(pixels, icc_profile=swap_primaries(own))
        images = open_images(store(folder, {"a.png": png(pixels), "b.png": swapped}))
        assert images[0][0, 0, 0] < images[0][1, 0, 0]
        assert images[1][0, 0, 0] > images[1][1, 0, 0]

    @cell(reader, "count", "skipped: files of several pages; warned: animations, first used")
    def count(folder: Path) -> None:
        first, second = (Image.fromarray(pixels) for pixels in noise(2, 16))
        pages = encoded(first, "TIFF", save_all=True, append_images=[second])
        moving = encoded(first, "GIF", save_all=True, append_images=[second])
        path = store(folder, pictures() | {"pages.tif": pages, "moving.gif": moving})
        with warned("1 of 5 files are animations"):
            images = open_images(path)
        assert len(images) == 5
        assert "2 images in one file" in images.skipped[0]

    @cell(reader, "rate", "ignored: frame times of animations, of which the first picture is used")
    def rate(folder: Path) -> None:
        first, second = (Image.fromarray(pixels) for pixels in noise(2, 16))
        moving = encoded(first, "PNG", save_all=True, append_images=[second], duration=40)
        images = open_images(store(folder, {"moving.png": moving}))
        assert (images[0].permute(1, 2, 0).numpy() == noise(2, 16)[0]).all()

    @cell(reader, "nan", "skipped: float pixels that are not finite")
    def nan(folder: Path) -> None:
        pixels = np.full((16, 16), np.nan, np.float32)
        broken = encoded(Image.fromarray(pixels), "TIFF")
        images = open_images(store(folder, pictures() | {"a.tif": broken}))
        assert len(images) == 4
        assert "NaN" in images.skipped[0]
