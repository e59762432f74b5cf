"""Label maps: the class of each pixel, as the PNG files of a VOC devkit hold them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from nearfar.data import UnreadableError, open_image_file
from nearfar.errors import NearfarError
from nearfar.files import atomic_path
from nearfar.transfer.devkit import Devkit
from nearfar.transfer.pictures import picture_size

LabelMap = npt.NDArray[np.uint8]

#: Value of pixels that are not evaluated.
IGNORE_INDEX = 255


def read_label_map(devkit: Devkit, name: str) -> LabelMap:
    """Read the class of each pixel of an image, uint8[h, w]; 255 for pixels to ignore.

    Raises
    ------
    NearfarError
        If the file is missing or damaged, has another size than the image, or values that are not
        classes of the devkit.

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
    path = devkit.mask(name)
    if not path.is_file():
        raise NearfarError(f"{str(path)!r} is missing: expected the mask of an image of the split")
    try:
        with open_image_file(path) as image:
            label_map = _indices(image)
    except UnreadableError as error:
        raise NearfarError(f"{str(path)!r} cannot be read ({error})") from error
    size = picture_size(devkit.image(name))
    if label_map.shape != size:
        height, width = label_map.shape
        raise NearfarError(
            f"{str(path)!r} has {width}x{height} pixels: expected {size[1]}x{size[0]}, the size of "
            "its image"
        )
    values = np.unique(label_map)
    unknown = values[(values >= len(devkit.mask_classes)) & (values != IGNORE_INDEX)]
    if len(unknown):
        raise NearfarError(
            f"{str(path)!r} has the value {unknown[0]}: expected 0…{len(devkit.mask_classes) - 1}, "
            f"or {IGNORE_INDEX} for pixels to ignore"
        )
    return label_map


def write_label_map(path: Path, label_map: LabelMap) -> None:
    """Write a label map, uint8[h, w], as a PNG file with VOC's palette, atomically.

    Examples
    --------
    See `read_label_map`.
    """
    image = Image.fromarray(label_map, mode="L")
    image.putpalette([value for label in range(256) for value in voc_color(label)])
    with atomic_path(path) as temporary:
        image.save(temporary, format="PNG")


def voc_color(label: int) -> tuple[int, int, int]:
    """Return VOC's color of a class, RGB in 0…255.

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


def _indices(image: Image.Image) -> LabelMap:
    """Return pixel values, not the colors of a palette."""
    if image.mode not in ("P", "L"):
        raise UnreadableError(
            f"pixels of mode {image.mode}: expected 8 bits, with or without a palette"
        )
    return np.array(image)
