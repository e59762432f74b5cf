"""Boxes and masks of images that EXIF turns, and of other sizes than their image."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from devkits import boxes_lie_on_objects, masks_lie_on_objects, repaint_mask, write_devkit
from nearfar.errors import NearfarError
from nearfar.transfer import open_segmentation_set, read_label_map, read_objects, read_presence
from nearfar.transfer.grids import Grid

SWAPPING = (5, 6, 7, 8)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_boxes_enclose_turned_pixels(orientation):
    marked = np.zeros((64, 96), np.uint8)
    marked[8:20, 30:70] = 1
    grid = Grid((64, 96), orientation)
    turned = np.asarray(grid.rotate_image(Image.fromarray(marked)))
    assert turned.shape == grid.upright
    rows, columns = np.nonzero(turned)
    ((left, top, right, bottom),) = grid.rotate_boxes(np.array([[30.0, 8, 70, 20]]))
    assert (left, right) == (columns.min(), columns.max() + 1)
    assert (top, bottom) == (rows.min(), rows.max() + 1)


@pytest.mark.parametrize("upright_labels", [False, True])
@pytest.mark.parametrize("orientation", SWAPPING)
def test_labels_are_read_on_the_grid_that_their_size_states(tmp_path, orientation, upright_labels):
    devkit = write_devkit(tmp_path / "VOC", orientation=orientation, upright_labels=upright_labels)
    assert boxes_lie_on_objects(devkit)
    assert masks_lie_on_objects(devkit)


@pytest.mark.parametrize(
    "options",
    [
        *({"size": (80, 80), "orientation": number} for number in SWAPPING),
        *({"orientation": number} for number in (2, 3, 4)),
    ],
    ids=str,
)
def test_labels_on_an_unknown_grid_raise(tmp_path, options):
    devkit = write_devkit(tmp_path / "VOC", **options)
    says = f"before or after the EXIF orientation {options['orientation']} turns"
    for read in (read_objects, read_label_map):
        with pytest.raises(NearfarError, match=says) as raised:
            read(devkit, "0")
        assert "\n" not in str(raised.value)
    assert read_presence(devkit, "trainval", ["0", "1"]).tolist() == [[1, -1], [-1, 1]]


@pytest.mark.parametrize("stated", [None, (0, 64), (96, 0)])
def test_boxes_without_a_size_lie_on_images_that_exif_does_not_turn(tmp_path, stated):
    assert boxes_lie_on_objects(write_devkit(tmp_path / "VOC", stated=stated))
    turned = write_devkit(tmp_path / "turned", stated=stated, orientation=6)
    with pytest.raises(NearfarError, match="EXIF orientation 6 turns it, and <size> does not tell"):
        read_objects(turned, "0")


@pytest.mark.parametrize("stated", [(48, 32), (64, 96), (97, 64), ("nan", 64), (-96, -64)])
def test_boxes_of_another_size_raise(tmp_path, stated):
    devkit = write_devkit(tmp_path / "VOC", stated=stated)
    says = r"<size>, and its image has 96x64 pixels: expected the same"
    with pytest.raises(NearfarError, match=says):
        read_objects(devkit, "0")
    devkit = write_devkit(tmp_path / "turned", stated=(48, 32), orientation=8)
    with pytest.raises(NearfarError, match="96x64 pixels, turned by its EXIF orientation 8"):
        read_objects(devkit, "0")


def test_size_that_is_no_number_raises(tmp_path):
    devkit = write_devkit(tmp_path / "VOC", stated=("wide", 64))
    with pytest.raises(NearfarError, match="expected numbers for <height> and <width>"):
        read_objects(devkit, "0")


# --- masks ---------------------------------------------------------------------------------------


def save_png(path, pixels, bits, color=0, palette=b""):
    """Write a PNG file of few bits per pixel, which PIL does not write as asked."""
    import struct
    import zlib

    height, width = pixels.shape
    spread = [format(int(value), f"0{bits}b") for value in pixels.flatten()]
    rows = ["".join(spread[row * width : (row + 1) * width]) for row in range(height)]
    data = b"".join(
        b"\0" + int(row.ljust(-len(row) % 8 + len(row), "0"), 2).to_bytes(-(-len(row) // 8), "big")
        for row in rows
    )

    def chunk(name, content):
        check = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + check

    head = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    parts = [chunk(b"IHDR", head), *([chunk(b"PLTE", palette)] if palette else [])]
    parts += [chunk(b"IDAT", zlib.compress(data)), chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def test_masks_of_few_bits_hold_classes_only_with_a_palette(tmp_path):
    devkit = write_devkit(tmp_path / "VOC")
    pixels = read_label_map(devkit, "0")
    save_png(devkit.mask("0"), pixels, 4, color=3, palette=bytes(range(48)))
    assert (read_label_map(devkit, "0") == pixels).all()
    for bits in (2, 4):
        save_png(devkit.mask("0"), pixels, bits)  # PIL reads shades: 17 for 1
        with pytest.raises(NearfarError, match="gray levels of less than 8 bits"):
            read_label_map(devkit, "0")


@pytest.mark.parametrize("mode", ["1", "RGB", "RGBA", "LA", "I;16"])
def test_masks_of_colors_raise(tmp_path, mode):
    devkit = write_devkit(tmp_path / "VOC")
    Image.open(devkit.mask("0")).convert(mode).save(devkit.mask("0"), format="PNG")
    with pytest.raises(NearfarError, match="expected 8 bits, with or without a palette"):
        read_label_map(devkit, "0")


def test_masks_of_several_images_raise(tmp_path):
    devkit = write_devkit(tmp_path / "VOC")
    mask = Image.open(devkit.mask("0"))
    mask.load()
    mask.save(devkit.mask("0"), format="TIFF", save_all=True, append_images=[mask])
    with pytest.raises(NearfarError, match="2 images in one file"):
        read_label_map(devkit, "0")


def test_turned_masks_raise(tmp_path):
    devkit = write_devkit(tmp_path / "VOC")
    mask = Image.open(devkit.mask("0"))
    mask.load()
    mask.getexif()[0x0112] = 3
    mask.save(devkit.mask("0"), exif=mask.getexif())
    with pytest.raises(NearfarError, match="EXIF orientation 3: expected an upright mask"):
        read_label_map(devkit, "0")


BLACK, RED, GREEN = (0, 0, 0), (128, 0, 0), (0, 128, 0)


def test_palettes_that_number_classes_otherwise_raise(tmp_path):
    """Programs that write the colors in use alone: green is 2 in one mask, and 1 in another."""
    devkit = write_devkit(tmp_path / "VOC")
    for name in "0123":
        repaint_mask(devkit.mask(name), BLACK, RED, GREEN)
    train = open_segmentation_set(devkit, "trainval", 64)
    assert train.colors == {0: BLACK, 1: RED, 2: GREEN}
    repaint_mask(devkit.mask("2"), BLACK, GREEN)
    assert open_segmentation_set(devkit, "test", 64).colors[1] == GREEN
    with pytest.raises(NearfarError, match=r"2\.png' has the color \(0, 128, 0\) for the value 1"):
        open_segmentation_set(devkit, "test", 64, colors=train.colors)
    Image.fromarray(read_label_map(devkit, "2")).convert("P").save(devkit.mask("2"))  # grays
    open_segmentation_set(devkit, "test", 64, colors=train.colors)


def test_masks_of_ignored_objects_raise(tmp_path):
    """Programs that mark objects with white."""
    devkit = write_devkit(tmp_path / "VOC")
    for name in "01":
        white = np.where(read_label_map(devkit, name) > 0, 255, 0).astype(np.uint8)
        Image.fromarray(white).save(devkit.mask(name))
    with pytest.raises(NearfarError, match="only the values 0 and 255"):
        open_segmentation_set(devkit, "trainval", 64)
    open_segmentation_set(devkit, "test", 64)
