"""Label maps, which contain the class number of each pixel, as in the masks of a VOC devkit."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from nearfar.data import UnreadableError, open_image_file
from nearfar.errors import NearfarError
from nearfar.files import atomic_path
from nearfar.transfer.devkit import Devkit
from nearfar.transfer.grids import orientation_of, read_grid

LabelMap = npt.NDArray[np.uint8]
#: Palette color of each value of a label map, if it has a palette.
Colors = dict[int, tuple[int, int, int]]

#: Value of pixels that are not evaluated.
IGNORE_INDEX = 255


def read_label_map(devkit: Devkit, name: str) -> LabelMap:
    """Return the class number of each pixel of an image (uint8[h, w]).

    The value of ignored pixels is 255.

    Raises
    ------
    NearfarError
        If the mask file is missing or damaged, is not a single 8-bit image, differs in size from
        the image, or contains values that are not classes of the devkit. Also if the size leaves
        open whether the mask refers to the image before or after EXIF rotation.

    Examples
    --------
    >>> import tempfile
    >>> from nearfar.transfer import Devkit
    >>> with tempfile.TemporaryDirectory() as root:
    ...     for folder in ("JPEGImages", "SegmentationClass"):
    ...         Path(root, folder).mkdir()
    ...     Image.new("RGB", (3, 2)).save(f"{root}/JPEGImages/a.jpg")
    ...     write_label_map(Path(root, "SegmentationClass", "a.png"), np.eye(2, 3, dtype=np.uint8))
    ...     read_label_map(Devkit.open(root), "a")
    array([[1, 0, 0],
           [0, 1, 0]], dtype=uint8)
    """
    label_map, _ = read_label_map_colors(devkit, name)
    return label_map


def read_label_map_colors(devkit: Devkit, name: str) -> tuple[LabelMap, Colors]:
    """Return the label map of an image, and the palette color of each value in the label map.

    For grayscale palettes, which do not identify classes, no colors are returned.

    Raises
    ------
    NearfarError
        See `read_label_map`.

    Examples
    --------
    See `read_label_map`.
    """
    path = devkit.mask(name)
    if not path.is_file():
        raise NearfarError(f"{str(path)!r} is missing: expected the mask of an image of the split")
    grid = read_grid(devkit.image(name))
    try:
        with open_image_file(path) as image:
            _check_mask(image)
            palette = image.getpalette("RGB") or []
            size = (image.height, image.width)
            upright = grid.rotate_image(image) if grid.is_stored(size) else image
            label_map = np.array(upright)
    except UnreadableError as error:
        raise NearfarError(f"{str(path)!r} cannot be read ({error})") from error
    if not grid.fits(size):
        raise NearfarError(
            f"{str(path)!r} has {size[1]}x{size[0]} pixels: expected {grid}, as its image has"
        )
    if grid.is_stored(size) is None:
        raise NearfarError(
            f"{str(path)!r} was drawn before or after the EXIF orientation {grid.orientation} "
            "turns its image, and its size does not tell: remove the orientation if before, turn "
            "the pixels instead if after"
        )
    values = np.unique(label_map)
    unknown = values[(values >= len(devkit.mask_classes)) & (values != IGNORE_INDEX)]
    if len(unknown):
        raise NearfarError(
            f"{str(path)!r} has the value {unknown[0]}: expected 0…{len(devkit.mask_classes) - 1}, "
            f"or {IGNORE_INDEX} for pixels to ignore"
        )
    colors = {
        value: (palette[3 * value], palette[3 * value + 1], palette[3 * value + 2])
        for value in values.tolist()
        if 3 * value + 2 < len(palette)
    }
    return label_map, {} if all(len(set(each)) == 1 for each in colors.values()) else colors


def write_label_map(path: str | os.PathLike[str], label_map: LabelMap) -> None:
    """Write a label map (uint8[h, w]) to a PNG file with the color palette of VOC, atomically.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_label_map(Path(folder, "a.png"), np.eye(2, 3, dtype=np.uint8))
    ...     np.asarray(Image.open(Path(folder, "a.png")))
    array([[1, 0, 0],
           [0, 1, 0]], dtype=uint8)
    """
    path = Path(path)
    image = Image.fromarray(label_map, mode="L")
    image.putpalette([value for label in range(256) for value in voc_color(label)])
    with atomic_path(path) as temporary:
        image.save(temporary, format="PNG")


def voc_color(label: int) -> tuple[int, int, int]:
    """Return the RGB color of a class number in the palette of VOC, with values from 0 to 255.

    Examples
    --------
    >>> voc_color(0), voc_color(1), voc_color(15)
    ((0, 0, 0), (128, 0, 0), (192, 128, 128))
    """
    red, green, blue = (
        sum(((label >> (3 * bit + color)) & 1) << (7 - bit) for bit in range(3))
        for color in range(3)
    )
    return red, green, blue


def _check_mask(image: Image.Image) -> None:
    """Raise an error if the pixel values of a mask are colors or gray levels, not class numbers."""
    if image.format == "JPEG":
        raise UnreadableError("a JPEG, which changes the values of pixels: expected a PNG")
    if image.mode not in ("P", "L"):
        raise UnreadableError(
            f"pixels of mode {image.mode}: expected 8 bits, with or without a palette"
        )
    tiles = getattr(image, "tile", ())  # pixel packing, such as L;4
    if image.mode == "L" and any(";" in str(tile[3]) for tile in tiles):
        raise UnreadableError(
            "gray levels of less than 8 bits, which are not classes: expected 8 bits, or a palette"
        )
    if getattr(image, "n_frames", 1) > 1:
        raise UnreadableError(f"{image.n_frames} images in one file: expected one")  # type: ignore[attr-defined]
    if (orientation := orientation_of(image)) != 1:
        raise UnreadableError(f"EXIF orientation {orientation}: expected an upright mask")
