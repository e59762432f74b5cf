"""Cells of image files."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, PngImagePlugin, features

from nearfar.data import open_images, read_header, require_labels
from readers.support import bright_corner, command, noise, pattern, rejected, rejection, warned
from readers.support import write_tiff as tiff
from readers.table import cell


def only(path: Path, **options):
    """Return the image of a file, uint8[c, h, w]."""
    return open_images(path, **options)[0]


def exif(orientation: int) -> Image.Exif:
    block = Image.Exif()
    block[ExifTags.Base.Orientation] = orientation
    return block


@cell("image", "orientation", "obeyed: EXIF and XMP, also after the pixels of a PNG file")
def orientation(folder: Path) -> None:
    upright = Image.fromarray(pattern())
    stored = {  # what a camera stores for this image
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    for number, turn in stored.items():
        for extension in (".jpg", ".png", ".tif", ".webp"):
            path = folder / f"{number}{extension}"
            upright.transpose(turn).save(path, exif=exif(number))
            image = only(path)
            assert image.shape == (3, 24, 16), path
            assert bright_corner(image) == ("top", "left"), path
    late = folder / "late.png"
    upright.transpose(Image.Transpose.ROTATE_90).save(late)
    data, block = late.read_bytes(), exif(6).tobytes().removeprefix(b"Exif\0\0")
    late.write_bytes(data[:-12] + chunk(b"eXIf", block) + data[-12:])
    assert read_header(late).size == (24, 16)
    assert bright_corner(only(late)) == ("top", "left")
    upright.save(folder / "bad.jpg", exif=exif(99))
    assert bright_corner(only(folder / "bad.jpg")) == ("top", "left")


@cell("image", "size", "obeyed; resolution in dpi is ignored; bombs are skipped")
def size(folder: Path) -> None:
    Image.fromarray(pattern(30, 20)).save(folder / "a.jpg", dpi=(300, 72))
    assert only(folder / "a.jpg").shape == (3, 30, 20)
    header = b"P5 40000 40000 255\n"
    (folder / "bomb.pgm").write_bytes(header + bytes(100))
    with rejection("bomb.pgm", "decompression bomb"):
        open_images(folder / "bomb.pgm")


@cell("image", "range", "obeyed: the largest value of PGM and PPM files")
def value_range(folder: Path) -> None:
    (folder / "a.pgm").write_bytes(b"P5 16 16 15\n" + bytes([15] * 256))
    assert int(only(folder / "a.pgm").min()) == 255
    (folder / "b.pgm").write_bytes(b"P5 16 16 4095\n" + struct.pack(">H", 4095) * 256)
    assert int(only(folder / "b.pgm").min()) == 255
    for white, kind in itertools.product((300, 4095, 65535), (b"P2", b"P3", b"P5", b"P6")):
        count = 3 if kind in (b"P3", b"P6") else 1
        values = np.linspace(0, white, 256 * count).astype(">u2")
        text = b"# a comment\n" + b" ".join(b"%d" % value for value in values)
        body = text if kind in (b"P2", b"P3") else values.tobytes()
        path = folder / f"{kind.decode()} {white}.ppm"
        path.write_bytes(b"%s 16 16 %d\n" % (kind, white) + body)
        for window in (None, (0, white), (white // 3, white // 2)):
            low, high = window or (0, white)
            wanted = (values.reshape(16, 16, count) - float(low)) / (high - low) * 255
            image = only(path, window=window).permute(1, 2, 0).numpy()
            assert np.abs(image - wanted.clip(0, 255)).max() <= 1, (path, window)
        path.write_bytes(path.read_bytes()[:-100])
        assert path.name in error_of(path, window=(0, white)), path


@cell("image", "depth", "obeyed: 1 to 16 bits, 12 too; others need --window, but for floats in 0…1")
def depth(folder: Path) -> None:
    values = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    expected = values >> 8
    Image.fromarray(values).save(folder / "16.png")
    tiff(folder / "16.tif", values)
    twelve = np.arange(0, 4096, 16, dtype=np.uint16)
    pairs = twelve.reshape(-1, 2).astype(np.uint32)
    packed = np.stack(
        [pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], 1
    ).astype(np.uint8)
    tiff(folder / "12.tif", packed.reshape(16, 24), ImageWidth=16, BitsPerSample=12)
    Image.fromarray(values > 30000).save(folder / "1.png")
    assert (only(folder / "16.png")[0].numpy() == expected).all()
    assert (only(folder / "16.tif")[0].numpy() == expected).all()
    assert (only(folder / "12.tif")[0].numpy() == np.arange(256).reshape(16, 16)).all()
    assert set(only(folder / "1.png").unique().tolist()) == {0, 255}
    deep = np.random.default_rng(0).integers(1000, 1256, (16, 16, 3)).astype(np.uint16)
    pytest.importorskip("imagecodecs", reason="the extra tiff is not installed")
    write_deep(folder / "opaque.png", np.dstack([values, np.full_like(values, 65535)]))
    assert (only(folder / "opaque.png")[0].numpy() == expected).all()
    for name in ("color.tif", "color.png"):
        write_deep(folder / name, deep)
        image = only(folder / name, window=(1000, 1255))
        assert (image.permute(1, 2, 0).numpy() == deep - 1000).all(), name
    check_jpeg2000(folder)
    gray = only(folder / "16.png", window=(0, 65535 / 2))[0].numpy()
    assert np.abs(gray - np.clip(values.astype(float) / 128.5, 0, 255)).max() <= 1
    for kind in ("u4", "i4", "i2", "f4", "f8", "f2", "i1"):
        path = folder / f"{kind}.tif"
        small = np.arange(-64 if kind[0] != "u" else 0, 64).reshape(16, -1).astype(kind)
        write_deep(path, np.repeat(small, 16 // small.shape[1], 1))
        with warned(path.name, "1 of 1 files do not state black and white"), rejection("--window"):
            only(path)
        image = only(path, window=(int(small.min()), 63))
        assert [int(image.min()), int(image.max())] == [0, 255], kind
    for bits, low in ((5, "white"), (9, "black"), (10, "black"), (12, "white"), (14, "black")):
        path = folder / f"{bits} {low}.tif"
        gray = np.linspace(0, 2**bits - 1, 256).astype(np.uint8 if bits < 8 else np.uint16)
        write_deep(path, gray.reshape(16, 16), photometric=f"minis{low}", bitspersample=bits)
        scaled = np.rint(gray.reshape(16, 16) * (255 / (2**bits - 1)))
        wanted = 255 - scaled if low == "white" else scaled
        assert np.abs(only(path)[0].numpy() - wanted).max() <= 1, path
    units = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    tiff(folder / "unit.tif", units)
    assert (only(folder / "unit.tif")[0].numpy() == np.arange(256).reshape(16, 16)).all()


def check_jpeg2000(folder: Path) -> None:
    """Check numbers of 8 to 16 bits, signed and not, in each number of bands."""
    rng = np.random.default_rng(0)
    for count, bits, signed in itertools.product((1, 2, 3, 4), (8, 9, 12, 16), (False, True)):
        colors = count - (count in (2, 4))
        low, white = (-(2 ** (bits - 1)) if signed else 0), 2**bits - 1
        kind = ("i" if signed else "u") + ("1" if bits == 8 else "2")
        pixels = rng.integers(low, low + white + 1, (16, 16, count)).astype(kind)
        pixels[0, 0] = low + white  # Pillow would make it 0
        if count > colors:
            pixels[..., -1] = low + white  # opaque
        for container in ("j2k", "jp2"):
            path = folder / f"{count} of {kind}, {bits}.{container}"
            write_deep(path, pixels, bitspersample=bits, codecformat=container)
            windows = [(low, low + white), (low + white / 4, low + white / 2)]
            for window in windows * (signed or bits > 8) + [None] * (not signed):
                start, end = window or (0, white)
                wanted = (pixels[..., :colors].astype(float) - start) / (end - start) * 255
                image = only(path, window=window).permute(1, 2, 0).numpy()
                assert np.abs(image - wanted.clip(0, 255)).max() <= 1, (path, window)
            if signed:
                with warned("1 of 1 files do not state black and white"), rejection("--window"):
                    only(path)
    clear = np.zeros((16, 16, 4), np.uint16)
    write_deep(folder / "clear.jp2", clear)
    assert int(only(folder / "clear.jp2").min()) == 255


def write_deep(path: Path, pixels: np.ndarray, **options: object) -> None:
    """Write numbers of any type, [h, w] or [h, w, 3]; options are those of the writer."""
    if path.suffix != ".tif":
        import imagecodecs

        if path.suffix == ".png":
            path.write_bytes(imagecodecs.png_encode(pixels))
        else:
            path.write_bytes(imagecodecs.jpeg2k_encode(pixels, level=0, **options))
    else:
        import tifffile

        usual = {"photometric": "rgb" if pixels.ndim == 3 else "minisblack"}
        tifffile.imwrite(path, pixels, **usual | options)


SEPARATE = {"PlanarConfiguration": 2}


def error_of(path: Path, **options) -> str:
    try:
        open_images(path, **options)
    except ValueError as error:
        return str(error)
    return ""


@cell("image", "white point", "obeyed: TIFF files where zero is white; dark images are warned of")
def white_point(folder: Path) -> None:
    for kind in (np.uint8, np.uint16):
        pixels = np.full((16, 16), np.iinfo(kind).max, kind)
        pixels[:8] = 0
        path = folder / f"{np.dtype(kind).name}.tif"
        tiff(path, pixels, PhotometricInterpretation=0)
        assert only(path)[0, 0, 0] == 255
        assert only(path)[0, -1, 0] == 0
    Image.fromarray(noise(1, 16)[0, ..., 0].astype(np.uint16) * 16).save(folder / "12 of 16.png")
    with warned("12 of 16.png", "less than 1/16 of what their type holds", "--window"):
        open_images(folder / "12 of 16.png")


@cell(
    "image",
    "channels",
    "obeyed: gray, palette, RGB, YCbCr, CMYK, LAB; more bands by --bands, otherwise skipped",
)
def channels(folder: Path) -> None:
    color = Image.fromarray(np.full((16, 16, 3), (200, 30, 30), np.uint8))
    for mode, extension in (("P", "png"), ("CMYK", "tif"), ("YCbCr", "tif"), ("LAB", "tif")):
        converted = color.quantize() if mode == "P" else color.convert(mode)
        converted.save(folder / f"{mode}.{extension}")
        found = only(folder / f"{mode}.{extension}")[:, 8, 8].tolist()
        assert np.abs(np.subtract(found, (200, 30, 30))).max() < 12, (mode, found)
    tiff(folder / "five.tif", np.zeros((16, 80), np.uint8), ImageWidth=16, SamplesPerPixel=5)
    assert "five.tif" in error_of(folder / "five.tif")
    assert "5 bands" in error_of(folder / "five.tif")
    tifffile = pytest.importorskip("tifffile", reason="the extra tiff is not installed")
    bands = np.random.default_rng(0).integers(0, 256, (16, 16, 5), dtype=np.uint8)
    for planes in ("contig", "separate"):
        pixels = bands if planes == "contig" else np.moveaxis(bands, -1, 0)
        tifffile.imwrite(
            folder / "bands.tif", pixels, photometric="minisblack", planarconfig=planes
        )
        image = only(folder / "bands.tif", bands=(3, 2, 5)).permute(1, 2, 0).numpy()
        assert (image == bands[..., [2, 1, 4]]).all()
        assert (only(folder / "bands.tif", bands=(4,))[0].numpy() == bands[..., 3]).all()
    with rejection("there is no band 6"):
        only(folder / "bands.tif", bands=(6,))
    with rejection("bands=(1, 2)", "expected one or three"):
        only(folder / "bands.tif", bands=(1, 2))
    tifffile.imwrite(
        folder / "rgbn.tif", bands[..., :4], photometric="rgb", extrasamples=["unspecified"]
    )
    with warned("1 of 1 files have bands beside red, green and blue"):
        image = only(folder / "rgbn.tif")
    assert (image.permute(1, 2, 0).numpy() == bands[..., :3]).all()
    assert (only(folder / "rgbn.tif", bands=(4,))[0].numpy() == bands[..., 3]).all()
    for kind, count in itertools.product((np.uint8, np.uint16), (3, 4)):
        planes = np.moveaxis(bands[..., :count], -1, 0).astype(kind) * (np.iinfo(kind).max // 255)
        extra = ["unspecified"] * (count - 3)
        path = folder / f"planes of {np.dtype(kind).name}, {count}.tif"
        write_deep(path, planes, photometric="rgb", planarconfig="separate", extrasamples=extra)
        expected = "have bands beside red, green and blue"
        with warned(expected) if extra else contextlib.nullcontext():
            image = only(path)
        assert (image.permute(1, 2, 0).numpy() == bands[..., :3]).all(), path
    for kind in (np.uint8, np.uint16):
        tiff(folder / "one.tif", bands[..., 0].astype(kind) << 8 * (kind != np.uint8), **SEPARATE)
        assert (only(folder / "one.tif")[0].numpy() == bands[..., 0]).all(), kind
    cmyk = np.zeros((4, 16, 16), np.uint16)
    write_deep(folder / "cmyk.tif", cmyk, photometric="separated", planarconfig="separate")
    assert "separate bands of 16 bits in colors" in error_of(folder / "cmyk.tif")


@cell("image", "transparency", "obeyed: on white; alpha, palettes, one color")
def transparency(folder: Path) -> None:
    clear = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    for mode, extension in (("RGBA", "png"), ("LA", "png"), ("RGBA", "webp"), ("RGBA", "tif")):
        path = folder / f"{mode}.{extension}"
        clear.convert(mode).save(path)
        assert int(only(path).min()) == 255, path
    Image.new("RGB", (16, 16), "red").save(folder / "key.png", transparency=(255, 0, 0))
    assert int(only(folder / "key.png").min()) == 255
    Image.fromarray(np.full((16, 16), 513, np.uint16)).save(folder / "16.png")
    data = (folder / "16.png").read_bytes()
    key = chunk(b"tRNS", struct.pack(">H", 513))
    (folder / "16.png").write_bytes(data[:33] + key + data[33:])
    assert int(only(folder / "16.png").min()) == 255
    Image.new("P", (16, 16), 5).save(folder / "4.png", bits=4)
    data = (folder / "4.png").read_bytes()
    head = chunk(b"IHDR", data[16:25] + b"\0" + data[26:29])  # gray instead of a palette
    key = chunk(b"tRNS", struct.pack(">H", 5))
    pixels = data[data.index(b"IDAT") - 4 :]
    (folder / "4.png").write_bytes(data[:8] + head + key + pixels)
    assert int(only(folder / "4.png").min()) == 255
    colors = np.tile(np.array([513, 0, 65535], ">u2"), (16, 16, 1))
    rows = b"".join(b"\0" + row.tobytes() for row in colors)
    (folder / "deep.png").write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 16, 16, 16, 2, 0, 0, 0))
        + chunk(b"tRNS", struct.pack(">HHH", 513, 0, 65535))
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert int(only(folder / "deep.png").min()) == 255
    clear.save(folder / "unused.tga")
    clear.save(folder / "unused rle.tga", compression="tga_rle")
    clear.convert("LA").save(folder / "unused gray.tga")
    for path in folder.glob("*.tga"):
        assert int(only(path).min()) == 255, path
        content = bytearray(path.read_bytes())
        content[17] &= 0xF0  # no bits of alpha
        path.write_bytes(content)
        assert int(only(path).max()) == 0, path
    tifffile = pytest.importorskip("tifffile", reason="the extra tiff is not installed")
    half = np.full((16, 16, 4), (100 * 257, 0, 0, 128 * 257), np.uint16)
    tifffile.imwrite(folder / "a.tif", half, photometric="rgb", extrasamples=["assocalpha"])
    for window in (None, (0, 65535)):  # colors were multiplied by alpha
        assert only(folder / "a.tif", window=window)[:, 0, 0].tolist() == [227, 127, 127]
    for kind, planes in itertools.product((np.uint8, np.uint16), ("contig", "separate")):
        unit = np.iinfo(kind).max // 255
        gray = np.full((16, 16, 2), (50 * unit, 128 * unit), kind)
        gray = gray if planes == "contig" else np.moveaxis(gray, -1, 0)
        for alpha, level in (("assocalpha", 177), ("unassalpha", 152)):
            options = {"extrasamples": [alpha], "planarconfig": planes}
            write_deep(folder / "la.tif", gray, photometric="minisblack", **options)
            assert abs(int(only(folder / "la.tif")[0, 0, 0]) - level) <= 1, (kind, planes, alpha)
    further = np.full((5, 16, 16), 200, np.uint8)
    further[3] = 0
    options = {"extrasamples": ["unassalpha", "unspecified"], "planarconfig": "separate"}
    write_deep(folder / "further.tif", further, photometric="rgb", **options)
    assert int(only(folder / "further.tif").min()) == 255
    assert int(only(folder / "further.tif", bands=(4,)).max()) == 255


@cell(
    "image",
    "profile",
    "obeyed: converted to sRGB, also by a PNG's gamma; damaged ones are ignored; warned: HDR",
)
def profile(folder: Path) -> None:
    image = Image.fromarray(np.full((16, 16, 3), (120, 200, 40), np.uint8))
    linear = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image.save(folder / "srgb.png", icc_profile=linear)
    image.save(folder / "bad.png", icc_profile=b"no profile")
    for name in ("srgb", "bad"):
        assert only(folder / f"{name}.png")[:, 0, 0].tolist() == [120, 200, 40]
    swapped = swap_primaries(linear)
    image.save(folder / "swapped.png", icc_profile=swapped)
    found = only(folder / "swapped.png")[:, 0, 0].tolist()
    assert found[0] > found[1] + 50, found
    image.convert("RGBA").save(folder / "alpha.png", icc_profile=swapped)
    assert only(folder / "alpha.png")[:, 0, 0].tolist() == found
    for gamma, expected in ((1.0, [181, 228, 110]), (1 / 2.2, [120, 200, 40]), (0, [120, 200, 40])):
        chunks = PngImagePlugin.PngInfo()
        chunks.add(b"gAMA", struct.pack(">I", round(1e5 * gamma)))
        image.save(folder / "gamma.png", pnginfo=chunks)
        assert only(folder / "gamma.png")[:, 0, 0].tolist() == expected
    image.convert("P").save(folder / "palette.png", pnginfo=chunks)
    assert len(only(folder / "palette.png")) == 3
    gray = Image.new("LA", (16, 16), (128, 255))
    gray.save(folder / "gray.png", icc_profile=linear_gray_profile())
    assert set(only(folder / "gray.png")[:, 0, 0].tolist()) == {188}
    chunks = PngImagePlugin.PngInfo()
    chunks.add(b"cICP", bytes([9, 16, 0, 1]))
    image.save(folder / "hdr.png", pnginfo=chunks)
    coded = [folder / "hdr.png"]
    for extension in hdr_extensions():
        path = folder / f"hdr.{extension}"
        image.save(path)
        content = bytearray(path.read_bytes())
        content[content.index(b"colrnclx") + 11] = 16  # transfer function: PQ
        path.write_bytes(content)
        coded.append(path)
    for path in coded:
        with warned("1 of 1 files are HDR images (PQ)"):
            only(path)


def hdr_extensions() -> list[str]:
    """Return the extensions of HDR formats that can be written here."""
    extensions = ["avif"] * features.check("avif")
    with contextlib.suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener()
        extensions.append("heic")
    return extensions


def chunk(kind: bytes, content: bytes) -> bytes:
    """Return a chunk of a PNG file."""
    check = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + check


def linear_gray_profile() -> bytes:
    """Return the smallest profile of gray levels that are proportional to light."""
    white = struct.pack(">iii", 63190, 65536, 54061)
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", 5) + b"gray\0" + bytes(79),
        b"wtpt": b"XYZ " + bytes(4) + white,
        b"kTRC": b"curv" + bytes(4) + struct.pack(">IH", 1, 256) + bytes(2),
    }
    table, data = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        table += name + struct.pack(">II", 132 + 12 * len(tags) + len(data), len(content))
        data += content
    size = struct.pack(">I", 128 + len(table) + len(data))
    head = size + b"lcms" + b"\2\x10\0\0" + b"mntrGRAYXYZ " + bytes(12) + b"acsp" + bytes(28)
    return (head + white).ljust(128, b"\0") + table + data


def swap_primaries(profile: bytes) -> bytes:
    """Return an sRGB profile whose red and green primaries are exchanged."""
    count = struct.unpack(">I", profile[128:132])[0]
    entries = [profile[132 + 12 * i : 144 + 12 * i] for i in range(count)]
    names = {b"rXYZ": b"gXYZ", b"gXYZ": b"rXYZ"}
    changed = [names.get(each[:4], each[:4]) + each[4:] for each in entries]
    return profile[:132] + b"".join(changed) + profile[132 + 12 * count :]


@cell(
    "image", "count", "obeyed: first of MPO; skipped: pages of TIFF; warned: animations, first used"
)
def count(folder: Path) -> None:
    first, second = (Image.fromarray(pixels) for pixels in noise(2, 16))
    first.copy().save(folder / "a.mpo", save_all=True, append_images=[second.copy()])
    assert len(open_images(folder / "a.mpo")) == 1
    first.save(folder / "a.tif", save_all=True, append_images=[second])
    with rejection("a.tif", "2 images in one file"):
        open_images(folder / "a.tif")
    tifffile = pytest.importorskip("tifffile")
    for kind, sides in itertools.product(("u1", "u2", "f4"), ((8, 16), (16, 8))):
        path = folder / f"{kind} {sides[0]}.tif"
        with tifffile.TiffWriter(path) as pages:
            for side in sides:  # the preview has another level
                pixels = np.full((side, side + 4), side / 32, np.float32)
                pixels = pixels if kind == "f4" else (pixels * np.iinfo(kind).max).astype(kind)
                pages.write(pixels, subfiletype=int(side == 8), photometric="minisblack")
        assert read_header(path).size == (16, 20), path
        assert set(only(path).unique().tolist()) <= {127, 128}, path
    with tifffile.TiffWriter(folder / "last.tif") as pages:
        pages.write(np.full((16, 16), 70, np.uint8), photometric="minisblack")
        odd = {"photometric": "minisblack", "bitspersample": 10, "subfiletype": 1}
        pages.write(np.zeros((8, 8), np.uint16), **odd)  # Pillow does not know it
    assert set(only(folder / "last.tif").unique().tolist()) == {70}
    profile = swap_primaries(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    with tifffile.TiffWriter(folder / "profile.tif") as pages:
        for side in (8, 16):
            options = {"subfiletype": int(side == 8), "iccprofile": profile if side == 8 else None}
            pages.write(np.full((side, side, 3), (200, 100, 50), np.uint8), **options)
    assert only(folder / "profile.tif")[:, 0, 0].tolist() == [200, 100, 50]
    tifffile.imwrite(folder / "loop.tif", np.zeros((8, 8)))
    endless = bytearray((folder / "loop.tif").read_bytes())
    (start,) = struct.unpack_from("<I", endless, 4)
    (entries,) = struct.unpack_from("<H", endless, start)
    struct.pack_into("<I", endless, start + 2 + 12 * entries, start)
    (folder / "loop.tif").write_bytes(endless)
    with rejection("loop.tif", "100 or more images in one file"):
        open_images(folder / "loop.tif", window=(0, 1))
    for extension in (".gif", ".png"):
        path = folder / f"a{extension}"
        first.save(path, save_all=True, append_images=[second])
        with warned("animations", "first picture"):
            open_images(path)


@cell("image", "time", "ignored: EXIF dates and file times")
def time(folder: Path) -> None:
    for number, year in enumerate((2020, 1999)):
        block = Image.Exif()
        block[ExifTags.Base.DateTime] = f"{year}:01:01 00:00:00"
        Image.fromarray(noise(2, 16)[number]).save(folder / f"{number}.jpg", exif=block)
    os.utime(folder / "0.jpg", (0, 10**9))
    assert open_images(folder).files == ["0.jpg", "1.jpg"]


@cell("image", "rate", "ignored: frame times of animations, of which the first picture is used")
def rate(folder: Path) -> None:
    first, second = (Image.fromarray(pixels) for pixels in noise(2, 16))
    for name, duration in (("a", 10), ("b", 5000)):
        first.save(folder / f"{name}.gif", save_all=True, append_images=[second], duration=duration)
    assert (only(folder / "a.gif") == only(folder / "b.gif")).all()


@cell("image", "order", "obeyed: rows of BMP files from the bottom or the top")
def order(folder: Path) -> None:
    Image.fromarray(pattern()).save(folder / "up.bmp")
    data = bytearray((folder / "up.bmp").read_bytes())
    data[22:26] = struct.pack("<i", -24)
    (folder / "down.bmp").write_bytes(data)
    assert bright_corner(only(folder / "up.bmp")) == ("top", "left")
    assert bright_corner(only(folder / "down.bmp")) == ("bottom", "left")


@cell("image", "pairing", "none: one image has no labels, so evaluation rejects it")
def pairing(folder: Path) -> None:
    Image.fromarray(pattern()).save(folder / "a.png")
    assert open_images(folder / "a.png").labels is None
    with rejection("has no labels"):
        require_labels(open_images(folder / "a.png"))


@cell(
    "image", "names", "obeyed: in either Unicode form, with spaces; unprintable letters are escaped"
)
def names(folder: Path) -> None:
    for name in ("cafe\u0301.png", "a b.png", "line\nbreak.png"):
        Image.fromarray(pattern()).save(folder / name)
    assert len(open_images(folder / "caf\u00e9.png")) == 1
    assert open_images(folder / "a b.png").names() == ["a b.png"]
    assert open_images(folder / "line\nbreak.png").names() == [r"line\nbreak.png"]


@cell("image", "encoding", "obeyed: byte order of TIFF files and 16-bit pixels")
def encoding(folder: Path) -> None:
    values = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    tiff(folder / "little.tif", values)
    (folder / "big.pgm").write_bytes(b"P5 16 16 65535\n" + values.astype(">u2").tobytes())
    for name in ("little.tif", "big.pgm"):
        assert (only(folder / name)[0].numpy() == values >> 8).all(), name


@cell("image", "root", "obeyed: content decides, not the name; what is no image is skipped")
def root(folder: Path) -> None:
    data = io.BytesIO()
    Image.fromarray(pattern()).save(data, "PNG")
    (folder / "a.jpg").write_bytes(data.getvalue())
    assert bright_corner(only(folder / "a.jpg")) == ("top", "left")
    (folder / "page.png").write_text("<html></html>")
    assert "not an image" in error_of(folder / "page.png")
    cards = ("SIMPLE  = T", "BITPIX  = 16", "NAXIS   = 2", "NAXIS1  = 16", "NAXIS2  = 16", "END")
    fits = "".join(f"{card:80}" for card in cards).ljust(2880).encode() + bytes(2880)
    (folder / "fits").mkdir()
    (folder / "fits" / "a.png").write_bytes(fits)  # PIL would ignore the scale of its numbers
    assert "not an image" in error_of(folder / "fits" / "a.png")
    Image.fromarray(pattern()).save(folder / "fits" / "b.png")
    (folder / "fits" / "c.fits").write_bytes(fits)
    images = open_images(folder / "fits")
    assert (images.names(), len(images.skipped), len(images.unread)) == (["b.png"], 1, 1)
    pytest.importorskip("pillow_heif", reason="the extra heic is not installed")
    read_header(folder / "a.jpg")  # registers HEIC
    upright = Image.new("RGB", (64, 96))
    upright.paste("white", (0, 0, 32, 48))
    for name in ("a.heic", "heic.jpg"):  # EXIF only repeats how HEIC files are turned
        upright.save(folder / name, "HEIF", exif=exif(6))
        assert bright_corner(only(folder / name)) == ("top", "left")
        assert read_header(folder / name).size == (96, 64)


@cell("image", "length", "skipped: empty or truncated files; data after the image is ignored")
def length(folder: Path) -> None:
    Image.fromarray(noise(1, 64)[0]).save(folder / "a.jpg")
    whole = (folder / "a.jpg").read_bytes()
    (folder / "long.jpg").write_bytes(whole + b"a video of the same moment")
    assert (only(folder / "long.jpg") == only(folder / "a.jpg")).all()
    (folder / "short.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "none.jpg").write_bytes(b"")
    for name, why in (("short.jpg", "truncated"), ("none.jpg", "empty file")):
        assert why in error_of(folder / name)


@cell("image", "nan", "skipped: float pixels that are not finite")
def nan(folder: Path) -> None:
    tiff(folder / "a.tif", np.full((16, 16), np.nan, np.float32))
    rejected(command("train", folder / "a.tif", "--out", folder / "run"), "NaN")
    assert not (folder / "run").exists()


@cell("image", "unused", "ignored: further images of MPO, comments")
def unused(folder: Path) -> None:
    first, second = (Image.fromarray(pixels) for pixels in noise(2, 16))
    first.save(folder / "a.mpo", save_all=True, append_images=[second], quality=100)
    first.save(folder / "a.jpg", comment="a comment", quality=100)
    assert (only(folder / "a.mpo") == only(folder / "a.jpg")).all()
