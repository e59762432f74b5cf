"""Conversion of images to a network's input shape."""

from __future__ import annotations

import numpy.typing as npt

from nearfar.data.arrays import images_from_array
from nearfar.data.images import Images, Shape
from nearfar.errors import NearfarError


def conform_images(images: Images | npt.ArrayLike, shape: Shape) -> Images:
    """Return images of a given shape.

    Arrays are resized. Other images must have the shape already.

    Parameters
    ----------
    images : Images or array
        Images, or an array that `images_from_array` accepts.
    shape : tuple of int
        Shape (channels, height, width) that a network expects.

    Raises
    ------
    NearfarError
        If `images` is an image set of a different shape, or an array that does not hold images.

    Examples
    --------
    >>> import numpy as np
    >>> conform_images(np.zeros((5, 16, 16)), (1, 8, 8)).shape
    (1, 8, 8)
    """
    if not isinstance(images, Images):
        channels, height, width = shape
        images = images_from_array(images, size=(height, width), channels=3 if channels == 3 else 1)
    if tuple(images.shape) != tuple(shape):
        raise NearfarError(
            f"{images.name!r} has images of shape {tuple(images.shape)}: expected {tuple(shape)}, "
            "so open them with that size and number of channels"
        )
    return images
