"""Cells of VOC devkits: lists, annotations and class masks."""

from __future__ import annotations

import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from devkits import (
    boxes_lie_on_objects,
    item,
    masks_lie_on_objects,
    repaint_mask,
    write_annotation,
    write_devkit,
    write_list,
)
from nearfar.errors import NearfarError
from nearfar.transfer import (
    Devkit,
    open_classification_set,
    open_segmentation_set,
    read_label_map,
    read_objects,
    read_presence,
)
from readers.support import rejection
from readers.table import cell

BOX = (1, 1, 20, 20)


def edited(folder: Path, *parts: str) -> Devkit:
    """Return a devkit with another annotation of its first image."""
    devkit = write_devkit(folder / "voc") if not (folder / "voc").exists() else None
    devkit = devkit or Devkit.open(folder / "voc")
    write_annotation(devkit.annotation("0"), *parts)
    return devkit


@cell(
    "devkit",
    "orientation",
    "obeyed: labels lie on the stored or the upright image, as their size states; rejected if it "
    "does not tell",
)
def orientation(folder: Path) -> None:
    for number in (6, 8):
        for upright in (False, True):
            root = folder / f"{number} {upright}"
            devkit = write_devkit(root, orientation=number, upright_labels=upright)
            assert boxes_lie_on_objects(devkit)
            assert masks_lie_on_objects(devkit)
    for options in ({"size": (80, 80), "orientation": 6}, {"orientation": 3}):
        devkit = write_devkit(folder / str(options), **options)
        for read in (read_objects, read_label_map):
            with rejection("before or after the EXIF orientation"):
                read(devkit, "0")


@cell("devkit", "size", "rejected unless those of boxes and masks are the image's, or not stated")
def size(folder: Path) -> None:
    for number, stated in enumerate(((48, 32), (64, 96))):
        devkit = write_devkit(folder / str(number), stated=stated)
        with rejection("<size>", "its image has 96x64 pixels"):
            read_objects(devkit, "0")
    assert boxes_lie_on_objects(write_devkit(folder / "none", stated=None))
    Image.new("L", (48, 32)).save(devkit.mask("0"))
    with rejection("48x32 pixels: expected 96x64"):
        read_label_map(devkit, "0")
    with rejection("not inside the image"):
        read_objects(edited(folder, item("red", (1, 1, 97, 20))), "0")


@cell("devkit", "range", "rejected: mask values that are no class, except 255; boxes without area")
def value_range(folder: Path) -> None:
    devkit = write_devkit(folder / "voc")
    Image.new("L", (96, 64), 3).save(devkit.mask("0"))
    with rejection("value 3: expected 0…2, or 255"):
        read_label_map(devkit, "0")
    with rejection("has no area"):
        read_objects(edited(folder, item("red", (20, 1, 1, 20))), "0")
    with rejection("shares of the image: expected pixels"):
        read_objects(edited(folder, item("red", (0.2, 0.25, 0.5, 0.75))), "0")
    assert read_objects(edited(folder, item("red", (1, 1, 1, 1))), "0").boxes.tolist() == [
        [0, 0, 1, 1]
    ]


@cell("devkit", "depth", "rejected: masks of other than 8 bits, but for palettes")
def depth(folder: Path) -> None:
    devkit = write_devkit(folder / "voc")
    pixels = read_label_map(devkit, "0")
    Image.fromarray(pixels.astype(np.uint16)).save(devkit.mask("0"))
    with rejection("expected 8 bits"):
        read_label_map(devkit, "0")
    mask = Image.fromarray(pixels, mode="P")
    mask.putpalette([0, 0, 0, 128, 0, 0])
    mask.save(devkit.mask("0"), bits=2)
    assert (read_label_map(devkit, "0") == pixels).all()
    Image.fromarray(pixels).save(devkit.mask("0"), format="JPEG")
    with rejection("a JPEG, which changes the values"):
        read_label_map(devkit, "0")


@cell("devkit", "white point", "ignored: grays of a palette, as values are classes")
def white_point(folder: Path) -> None:
    devkit = write_devkit(folder / "voc")
    pixels = read_label_map(devkit, "0")
    repaint_mask(devkit.mask("0"), (255, 255, 255), (0, 0, 0))
    assert (read_label_map(devkit, "0") == pixels).all()


@cell("devkit", "channels", "rejected: masks of colors; palettes that number classes differently")
def channels(folder: Path) -> None:
    devkit = write_devkit(folder / "voc")
    repaint_mask(devkit.mask("0"), (0, 0, 0), (128, 0, 0))
    repaint_mask(devkit.mask("1"), (0, 0, 0), (0, 128, 0), (128, 0, 0))
    open_segmentation_set(devkit, "trainval", 64)
    mask = np.minimum(read_label_map(devkit, "1"), 1)
    Image.fromarray(mask).save(devkit.mask("1"))
    repaint_mask(devkit.mask("1"), (0, 0, 0), (0, 128, 0))
    with rejection("for the value 1"):
        open_segmentation_set(devkit, "trainval", 64)
    Image.new("RGB", (96, 64)).save(devkit.mask("0"))
    with rejection("mode RGB"):
        read_label_map(devkit, "0")


@cell("devkit", "transparency", "ignored in masks; on white in images")
def transparency(folder: Path) -> None:
    devkit = write_devkit(folder / "voc")
    pixels = read_label_map(devkit, "0")
    Image.open(devkit.mask("0")).save(devkit.mask("0"), transparency=1)
    assert (read_label_map(devkit, "0") == pixels).all()


@cell("devkit", "profile", "ignored in masks; obeyed in images")
def profile(folder: Path) -> None:
    devkit = write_devkit(folder / "voc")
    pixels = read_label_map(devkit, "0")
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    Image.open(devkit.mask("0")).save(devkit.mask("0"), icc_profile=icc)
    assert (read_label_map(devkit, "0") == pixels).all()


@cell("devkit", "count", "rejected: several images in a mask, or of an annotation")
def count(folder: Path) -> None:
    devkit = write_devkit(folder / "voc")
    mask = Image.open(devkit.mask("0"))
    mask.load()
    mask.save(devkit.mask("0"), format="TIFF", save_all=True, append_images=[mask])
    with rejection("2 images in one file"):
        read_label_map(devkit, "0")
    two = "<filename>0.jpg</filename><filename>1.jpg</filename>"
    with rejection("has 2 elements 'filename' in the same parent"):
        read_objects(edited(folder, two, item("red", BOX)), "0")


@cell("devkit", "time", "none: dates of files are ignored")
def time(folder: Path) -> None:
    devkit = write_devkit(folder / "voc")
    info = PngImagePlugin.PngInfo()
    info.add_text("Creation Time", "yesterday")
    pixels = read_label_map(devkit, "0")
    Image.open(devkit.mask("0")).save(devkit.mask("0"), pnginfo=info)
    assert (read_label_map(devkit, "0") == pixels).all()


@cell("devkit", "rate", "none: images have no times")
def rate(folder: Path) -> None:
    assert not hasattr(write_devkit(folder / "voc"), "rate")


@cell("devkit", "order", "obeyed: that of the list")
def order(folder: Path) -> None:
    devkit = write_devkit(folder / "voc")
    write_list(devkit, "2", "0", "1")
    assert devkit.split("Main", "some") == ["2", "0", "1"]
    presence = open_classification_set(devkit, "some", 32).presence
    assert presence.tolist() == [[1, -1], [1, -1], [-1, 1]]


@cell(
    "devkit",
    "pairing",
    "rejected: missing labels, labels of another image, images listed twice, unknown classes",
)
def pairing(folder: Path) -> None:
    devkit = write_devkit(folder / "voc")
    devkit.annotation("2").unlink()
    devkit.mask("2").unlink()
    for read in (read_objects, read_label_map):
        with rejection("is missing"):
            read(devkit, "2")
    with rejection("by its <filename>: expected '0.jpg'"):
        read_objects(edited(folder, "<filename>1.jpg</filename>"), "0")
    shutil.copy(devkit.image("1"), devkit.image("1").with_suffix(".png"))
    with rejection("'1' may be '1.jpg' or '1.png'"):
        write_list(devkit, "0", "1")
        devkit.split("Main", "some")
    devkit.image("1").with_suffix(".png").unlink()
    with rejection("names '1' 2 times"):
        write_list(devkit, "1", "1")
        devkit.split("Main", "some")
    with rejection("class 'Red' is not in the devkit's list"):
        read_objects(edited(folder, item("Red", BOX)), "0")
    for kind in devkit.classes:
        write_list(devkit, "0 1", "0 -1", name=f"{kind}_some")
    with rejection("'0' twice, with different flags"):
        read_presence(devkit, "some", ["0"])


@cell(
    "devkit", "names", "obeyed: with spaces, in either Unicode form, before flags, .JPG, .png too"
)
def names(folder: Path) -> None:
    written = ["a b 1", unicodedata.normalize("NFD", "é"), "c", "d.e"]
    devkit = write_devkit(folder / "voc", names=written)
    write_list(devkit, "a b 1", "\u00e9 -1", "c  1", "d.e", end="\r\n")
    assert devkit.split("Main", "some") == ["a b 1", "\u00e9", "c", "d.e"]
    assert [len(read_objects(devkit, name).boxes) for name in devkit.split("Main", "some")]
    for extension in (".JPG", ".jpeg", ".png"):
        devkit.image("c").rename(devkit.root / "JPEGImages" / f"c{extension}")
        assert devkit.split("Main", "some")[2] == "c"
        assert len(read_objects(devkit, "c").boxes) == 1
    for background in ("Background", "_background_", "\ufeffbackground"):
        (devkit.root / "classes.txt").write_text(f"{background}\r\nred\r\n", encoding="utf-8")
        assert Devkit.open(devkit.root).classes == ("red",)
    write_list(devkit, r"JPEGImages\c")
    with rejection("is missing"):
        devkit.split("Main", "some")


@cell("devkit", "encoding", "obeyed: XML as it declares; lists in UTF-8, or UTF-16 with its mark")
def encoding(folder: Path) -> None:
    for number, name in enumerate(("utf-8", "utf-8-sig", "utf-16")):
        devkit = write_devkit(folder / str(number), names=["é", "ü"], encoding=name)
        assert devkit.split("Main", "trainval") == ["é"]
        declared = name.removesuffix("-sig")
        text = f'<?xml version="1.0" encoding="{declared}"?><annotation>{item("red", BOX)}'
        devkit.annotation("é").write_bytes(f"{text}</annotation>".encode(name))
        assert len(read_objects(devkit, "é").boxes) == 1
    devkit.annotation("é").write_bytes("<annotation>é</annotation>".encode("cp1252"))
    with rejection("cannot be read as a VOC annotation"):
        read_objects(devkit, "é")


@cell("devkit", "root", "rejected: folders without JPEGImages; other roots than `<annotation>`")
def root(folder: Path) -> None:
    with rejection("not a VOC devkit"):
        Devkit.open(folder)
    devkit = write_devkit(folder / "voc")
    for text in ("<annotations/>", '<annotation xmlns="urn:voc"/>', "<html/>"):
        devkit.annotation("0").write_text(text)
        with rejection("expected <annotation>"):
            read_objects(devkit, "0")


@cell("devkit", "length", "rejected: empty or truncated files; annotations may have no object")
def length(folder: Path) -> None:
    devkit = edited(folder)
    assert read_objects(devkit, "0").boxes.shape == (0, 4)
    for path in (devkit.annotation("0"), devkit.mask("0")):
        data = path.read_bytes()
        for part in (b"", data[: len(data) // 2]):
            path.write_bytes(part)
            with rejection(path.name):
                (read_label_map if path.suffix == ".png" else read_objects)(devkit, "0")
    write_list(devkit)
    with rejection("is empty"):
        devkit.split("Main", "some")


@cell("devkit", "nan", "rejected: sides of boxes and sizes that are no finite numbers")
def nan(folder: Path) -> None:
    for value in ("nan", "inf", "-inf", "1e999", "left", ""):
        devkit = edited(folder, item("red", (1, 1, value, 20)))
        with pytest.raises(NearfarError, match=r"no area|not inside|expected numbers"):
            read_objects(devkit, "0")
        stated = f"<size><width>{value or 'x'}</width><height>64</height></size>"
        with pytest.raises(NearfarError, match=r"<size>|expected numbers"):
            read_objects(edited(folder, stated), "0")


@cell("devkit", "unused", "ignored: files that the list does not name; rejected: nested objects")
def unused(folder: Path) -> None:
    devkit = write_devkit(folder / "voc")
    devkit.annotation("3").write_text("damaged")
    assert len(open_classification_set(devkit, "trainval", 32).images) == 2
    with rejection("nested in others"):
        read_objects(edited(folder, f"<objects>{item('red', BOX)}</objects>"), "0")
    for tag in ("Object", "OBJECT"):
        with rejection(f"elements <{tag}>: expected <object>"):
            read_objects(edited(folder, item("red", BOX).replace("object", tag)), "0")
