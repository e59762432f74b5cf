"""Masks that say of each pixel what class it shows, as the PNG files of a VOC devkit give them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from nearfar.data.decoding import UnreadableError, open_image_file
from nearfar.errors import NearfarError
from nearfar.transfer.devkit import Devkit
from nearfar.transfer.scenes import true_size

#: The value of pixels that count neither way.
IGNORED = 255


def read_mask(devkit: Devkit, name: str) -> npt.NDArray[np.uint8]:
    """Read the class of each pixel of an image, uint8[h, w]; 255 where it is not to be judged.

    Raises
    ------
    NearfarError
        If the file is missing or no such mask, has another size than the image, or values that are
        no class of the devkit.
    """
    path = devkit.mask(name)
    if not path.is_file():
        raise NearfarError(f"{str(path)!r} is missing: expected the mask of an image of the split")
    try:
        with open_image_file(path) as image:
            mask = _indices(image)
    except UnreadableError as error:
        raise NearfarError(f"{str(path)!r} cannot be read ({error})") from error
    size = true_size(devkit, name)
    if mask.shape != size:
        height, width = mask.shape
        raise NearfarError(
            f"{str(path)!r} has {width}x{height} pixels: expected {size[1]}x{size[0]}, as its "
            "image has"
        )
    values = np.unique(mask)
    unknown = values[(values >= len(devkit.mask_classes)) & (values != IGNORED)]
    if len(unknown):
        raise NearfarError(
            f"{str(path)!r} has the value {unknown[0]}: expected 0…{len(devkit.mask_classes) - 1}, "
            f"or {IGNORED} for pixels to ignore"
        )
    return mask


def _indices(image: Image.Image) -> npt.NDArray[np.uint8]:
    """The values themselves, not the colors that a palette gives them."""
    if image.mode not in ("P", "L"):
        raise UnreadableError(
            f"pixels of the kind {image.mode}: expected 8 bits, with or without a palette"
        )
    return np.array(image)
